"""Tests that start the image, send it requests and jobs, and stop it, as a user would.

``make smoke`` runs these tests. The environment variable ``IMAGE`` is the image's name. The tests
use whichever container engine is installed. With buildah, run them as root.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from scrapper import __version__
from tests.image.build import build
from tests.image.container import Container, Image
from tests.instagram import Answer, Scenario, StandIn
from tests.instagram.dash import SOUNDS, VIDEOS, Stream, make_stream, manifest
from tests.process import MALLOC, free_port, wait_for, wait_for_answer
from tests.redis_server import RedisServer
from tests.s3_server import S3Server

Start = Callable[..., Container]

_OWN_USER, _OTHER_USER = "10001:10001", "1234:1234"
_PLUGINS = ("python", "-m", "scrapper", "plugins")
_URL = "https://www.instagram.com/reel/reel-smoke/"
# Fails if the service or its health check would have to compile a module.
_COMPILED = """
import http.client, os, sys, scrapper.commands.serve
for module in list(sys.modules.values()):
    path = getattr(module, "__cached__", None)
    assert path is None or os.path.exists(path), path
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with closing(Image(os.environ["IMAGE"])) as image:
        yield image


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def start(image: Image, instagram: StandIn, tmp_path: Path) -> Iterator[Start]:
    containers: list[Container] = []
    # The container's user must be able to read the certificates.
    instagram.ca_bundle.parent.chmod(0o755)

    def begin(
        *arguments: str, user: str = _OWN_USER, image: Image = image, **environment: str
    ) -> Container:
        media = tmp_path / "data"
        (media / "instaloader").mkdir(parents=True, exist_ok=True)
        uid, gid = map(int, user.split(":"))
        for folder in (media, media / "instaloader"):
            os.chown(folder, uid, gid)
        container = image.start(
            arguments,
            media=media,
            certificates=instagram.ca_bundle.parent,
            environment={
                **instagram.environment,
                "REQUESTS_CA_BUNDLE": f"/mnt/{instagram.ca_bundle.name}",
                "SCRAPE_TIMEOUT_SECONDS": "300",
                **environment,
            },
            user=user,
        )
        containers.append(container)
        return container

    yield begin
    for container in containers:
        container.kill()


@pytest.mark.parametrize(
    ("user", "umask", "modes"),
    [(_OWN_USER, "", {"755", "644"}), (_OTHER_USER, "027", {"750", "640"})],
)
def test_the_image_starts_answers_scrapes_and_stops(
    *,
    start: Start,
    image: Image,
    instagram: StandIn,
    session: requests.Session,
    tmp_path: Path,
    user: str,
    umask: str,
    modes: set[str],
) -> None:
    port = str(free_port())
    container = start(user=user, PORT=port, UMASK=umask)
    url = f"http://127.0.0.1:{port}"
    wait_for_answer(f"{url}/health")
    health = session.get(f"{url}/health", timeout=120)
    assert (health.status_code, health.text) == (200, "OK")
    # The image's own health check, as a container engine runs it.
    kind, *command = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert container.run(command) == 0
    assert container.run(["python", "-c", _COMPILED]) == 0
    scraped = session.post(f"{url}/scrape", json={"url": _URL}, timeout=300)
    assert scraped.status_code == 200, scraped.text
    assert scraped.json()["video"] == "/data/instaloader/reel-smoke/reel-smoke.mp4"
    file = session.get(f"{url}/download/reel-smoke", timeout=120)
    assert [file.content] == instagram.bytes_of("reel-smoke")
    for path in ("/", "/docs", "/docs/swagger-ui.js", "/openapi.json", "/metrics", "/ready"):
        assert session.get(url + path, timeout=120).status_code == 200, path
    assert container.run(["python", "-c", "open('/app/x', 'w')"]) != 0, "the root is writable"
    assert container.stop() == 0
    folder = tmp_path / "data/instaloader/reel-smoke"
    stored = [path.stat() for path in (folder, *folder.iterdir())]
    assert {f"{status.st_uid}:{status.st_gid}" for status in stored} == {user}
    assert {f"{status.st_mode & 0o777:o}" for status in stored} == modes


def test_a_worker_in_the_image_does_a_job(
    start: Start, redis_server: RedisServer, session: requests.Session
) -> None:
    port = str(free_port())
    service = start(PORT=port, REDIS_URL=redis_server.url)
    worker = start("worker", REDIS_URL=redis_server.url)
    url = f"http://127.0.0.1:{port}"
    wait_for_answer(f"{url}/health")
    created = session.post(f"{url}/jobs", json={"urls": [_URL]}, timeout=120)
    assert created.status_code == 202, created.text

    def state() -> Any:
        return session.get(url + created.headers["Location"], timeout=120).json()["state"]

    wait_for(lambda: state() == "done")
    assert session.get(f"{url}/download/reel-smoke", timeout=120).status_code == 200
    assert (worker.stop(), service.stop()) == (0, 0)


def test_the_command_line_works_in_the_image(start: Start, tmp_path: Path) -> None:
    container = start("fetch", _URL, "--into", "/data/instaloader")
    assert container.wait() == 0
    assert (tmp_path / "data/instaloader/reel-smoke/post.json").exists()


def test_the_image_limits_the_memory_that_malloc_retains(image: Image) -> None:
    assert {f"{name}={value}" for name, value in MALLOC.items()} <= set(image.config["Env"])


def test_the_image_has_labels_for_version_and_licence(image: Image) -> None:
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert image.config["User"] == _OWN_USER


@pytest.fixture(scope="module")
def image_with_plugin(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image built from the Dockerfile in the docs, with the plugin template."""
    docs = Path(__file__).resolve().parents[2] / "docs"
    [dockerfile] = re.findall(
        r"^```dockerfile\n(.*?)^```", (docs / "plugins.md").read_text(), re.DOTALL | re.MULTILINE
    )
    context = tmp_path_factory.mktemp("context")
    shutil.copytree(docs / "plugin-template", context / "my-plugin")
    name = f"localhost/{image.name}" if image.engine == "buildah" else image.name
    (context / "Dockerfile").write_text(
        re.sub("^FROM .*", f"FROM {name}", dockerfile, flags=re.MULTILINE)
    )
    assert build(f"{image.name}-with-plugin", context) == 0
    with closing(Image(f"{image.name}-with-plugin")) as built:
        yield built


def test_a_plugin_can_be_added_as_documented(
    image_with_plugin: Image, start: Start, session: requests.Session, tmp_path: Path
) -> None:
    port = str(free_port())
    notes = {"NOTES_FOLDER": "/data/instaloader/notes"}
    container = start(image=image_with_plugin, PORT=port, **notes)
    url = f"http://127.0.0.1:{port}"
    wait_for_answer(f"{url}/health")
    assert container.run(["env", *map("=".join, notes.items()), *_PLUGINS]) == 0
    scraped = session.post(f"{url}/scrape", json={"url": _URL}, timeout=300)
    assert scraped.status_code == 200, scraped.text
    wait_for((tmp_path / "data/instaloader/notes/reel-smoke.md").exists)
    assert container.stop() == 0


@pytest.fixture(scope="module")
def full_image(image: Image) -> Iterator[Image]:
    """The image with ffmpeg and the packages of the plugins."""
    if os.environ.get("PLATFORM", "linux/amd64") != "linux/amd64":
        pytest.skip("runs on only one platform: on others, installing ffmpeg takes minutes")
    root = Path(__file__).resolve().parents[2]
    assert build(f"{image.name}-full", root, ["--target", "full"]) == 0
    with closing(Image(f"{image.name}-full")) as built:
        yield built


def test_best_quality_and_plugins_work_in_the_full_image(
    full_image: Image,
    start: Start,
    instagram: StandIn,
    session: requests.Session,
    tmp_path: Path,
) -> None:
    make_stream(tmp_path / "video.mp4", VIDEOS["h264"])
    make_stream(tmp_path / "sound.mp4", SOUNDS["aac"])
    streams = [Stream("video", height=1920), Stream("sound", "mp4a.40.2")]

    def change(media: dict[str, Any]) -> dict[str, Any]:
        return {**media, "video_dash_manifest": manifest("parts-one", *streams)}

    answers = {f"{one.variant}/1": [Answer(f"{tmp_path}/{one.variant}.mp4")] for one in streams}
    instagram.set_scenario("parts", Scenario("", change=change, answers=answers))
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with S3Server() as bucket:
        plugins = {**bucket.environment, "PLUGINS": "audio,s3"}
        container = start(image=full_image, PORT=port, VIDEO_QUALITY="best", **plugins)
        wait_for_answer(f"{url}/health")
        link = {"url": "https://www.instagram.com/reel/parts-one/"}
        scraped = session.post(f"{url}/scrape", json=link, timeout=300)
        assert scraped.status_code == 200, scraped.text
        assert "/video/" in scraped.json()["cdn_url"]
        assert scraped.json()["media"][0]["has_audio"]
        params = {**link, "audio": "1"}
        sound = session.get(f"{url}/download", params=params, timeout=300)
        assert (sound.status_code, sound.headers["Content-Type"]) == (200, "audio/mp4")
        wait_for(lambda: "parts-one/parts-one.mp4" in bucket.objects())
        assert container.stop() == 0
