"""Tests the service on each ARM processor that the image supports, emulated by qemu.

``make arm`` runs these tests. They need root, debootstrap and qemu-user-static, but neither a
container engine nor binfmt. They unpack a Debian system for the processor, and enter it with
chroot. There, qemu is called by its path, and runs Python. The packages are the locked wheels, as
in the image.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from requirements.check_wheels import wheel_options
from tests.image.base import unpack_debian
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS, wait_for

_ROOT = Path(__file__).resolve().parents[2]
_LOCKS = ("base.txt", "docs.txt", "redis.txt")
_URL = "https://www.instagram.com/{}/{}/"
_ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=16m,mode=1777 tmpfs "$ROOT/tmp"
mount --bind "$CERTIFICATES" "$ROOT/mnt"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
exec env --ignore-environment "$@"
"""


class Processor(NamedTuple):
    """The names of a processor in Debian, in wheel tags and in qemu.

    *model* is the processor model of a Raspberry Pi. Without it, qemu emulates the features of all
    models, and signed pointers alone make Python five times slower.
    """

    debian: str
    wheels: str
    qemu: str
    model: str


@pytest.fixture(
    scope="module",
    params=[
        Processor("armhf", "armv7l", "arm", "cortex-a7"),
        Processor("arm64", "aarch64", "aarch64", "cortex-a72"),
    ],
    ids=["arm/v7", "arm64"],
)
def processor(request: pytest.FixtureRequest) -> Processor:
    processor: Processor = request.param
    return processor


@pytest.fixture(scope="module")
def root(processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with Debian for the *processor*, the service, its packages and qemu."""
    folder = tmp_path_factory.mktemp(processor.debian)
    folder.chmod(0o755)
    unpack_debian(folder, processor.debian)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    install += wheel_options(processor.wheels, folder / "app")
    install += [f"--requirement={_ROOT / 'requirements' / lock}" for lock in _LOCKS]
    subprocess.run(install, check=True)
    for name in ("scrapper", "middlewares"):
        shutil.copytree(_ROOT / name, folder / "app" / name)
    shutil.copy(f"/usr/bin/qemu-{processor.qemu}-static", folder / "qemu")
    for name in ("data", "mnt", "proc", "dev", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def url(root: Path, processor: Processor, instagram: StandIn) -> Iterator[str]:
    """The URL of the running service, which must exit with code 0."""
    environment = {
        **instagram.environment,
        "REQUESTS_CA_BUNDLE": f"/mnt/{instagram.ca_bundle.name}",
        "HOST": "127.0.0.1",
        "MEDIA_ROOT": "/data/instaloader",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        # If a port were chosen here, another program could take it before the service listens.
        "PORT": "0",
        "PYTHONPATH": "/app",
        "SCRAPE_TIMEOUT_SECONDS": "300",
    }
    service = ["chroot", str(root), "/qemu", "-cpu", processor.model]
    service += ["/usr/bin/python3", "-m", "scrapper"]
    variables = [f"{name}={value}" for name, value in environment.items()]
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", _ENTER, "sh", *variables, *service],
        env={
            "PATH": os.environ["PATH"],
            "ROOT": str(root),
            "CERTIFICATES": str(instagram.ca_bundle.parent),
        },
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        # Kill the service if it hangs. Otherwise reading its log would never end.
        too_late = threading.Timer(PATIENCE_SECONDS, process.kill)
        too_late.start()
        try:
            events = map(json.loads, process.stdout)
            ports = (event["port"] for event in events if event["event"] == "listening")
            port = next(ports, None)
            assert port is not None, "the service did not start"
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            assert process.wait() == 0
        finally:
            too_late.cancel()
            process.kill()


def test_scraping_jobs_and_searching_work(
    url: str, processor: Processor, instagram: StandIn
) -> None:
    with requests.Session() as session:
        session.trust_env = False
        link = _URL.format("reel", "reel-arm")
        scraped = session.post(f"{url}/scrape", json={"url": link}, timeout=PATIENCE_SECONDS)
        assert scraped.status_code == 200, scraped.text
        file = session.get(f"{url}/download/reel-arm", timeout=PATIENCE_SECONDS)
        assert [file.content] == instagram.bytes_of("reel-arm")
        link = _URL.format("p", "carousel-arm")
        created = session.post(f"{url}/jobs", json={"urls": [link]}, timeout=PATIENCE_SECONDS)
        assert created.status_code == 202, created.text
        job = url + created.headers["Location"]
        wait_for(lambda: session.get(job, timeout=PATIENCE_SECONDS).json()["state"] == "done")
        found = session.get(f"{url}/posts?q=carousel-arm", timeout=PATIENCE_SECONDS).json()
        assert [post["shortcode"] for post in found["posts"]] == ["carousel-arm"]
        for path in ("/", "/docs", "/metrics"):
            assert session.get(url + path, timeout=PATIENCE_SECONDS).status_code == 200, path
