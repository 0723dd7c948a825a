"""The files that deploy and watch the service: real tools read them, and each metric exists."""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import StartService
from tests.instagram import StandIn
from tests.process import MALLOC, Service, free_port, wait_for_answer
from tests.programs import output_of, program
from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
METRIC = re.compile(r"\b((?:http|scrape|queue|redis|library|rate_limit|process)_[a-z_]+)(?=[{\[)])")


def expressions(path: Path) -> list[str]:
    if path.suffix == ".json":
        panels = json.loads(path.read_text())["panels"]
        return [target["expr"] for panel in panels for target in panel["targets"]]
    return [line for line in path.read_text().splitlines() if "scrapper" in line]


@pytest.fixture
def mode(redis_server: RedisServer) -> dict[str, str]:
    return {"REDIS_URL": redis_server.url}


@pytest.mark.parametrize("name", ["grafana/dashboard.json", "prometheus/alerts.yml"])
async def test_every_metric_shown_is_one_of_the_service(
    start_service: StartService, name: str
) -> None:
    client = await start_service()
    await client.get("/health")
    async with client.get("/metrics") as response:
        text = await response.text()
    known = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    known |= {f"{metric}{suffix}" for metric in known for suffix in ("_count", "_bucket")}
    shown = {metric for line in expressions(DEPLOY / name) for metric in METRIC.findall(line)}
    assert len(shown) > 5
    assert shown <= known


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd/instagram-scrapper.service").read_text()
    copy = tmp_path / "instagram-scrapper.service"
    copy.write_text(unit.replace("/opt/instagram-scrapper/.venv/bin/python", sys.executable))
    # The exit code speaks of this unit alone, and of its warnings, too.
    verify = [program("systemd-analyze", packages="systemd"), "verify", "--recursive-errors=no"]
    output_of([*verify, copy])


@pytest.mark.parametrize(("name", "value"), MALLOC.items())
def test_the_unit_and_make_keep_malloc_from_holding_memory(name: str, value: str) -> None:
    assert f"{name}={value}" in (DEPLOY / "systemd/instagram-scrapper.service").read_text()
    assert f"run worker: export {name} ?= {value}" in (ROOT / "Makefile").read_text().splitlines()


@pytest.mark.parametrize(
    "path", ["compose.yaml", "deploy/caddy/compose.yaml", "deploy/https/compose.yaml"]
)
def test_podman_compose_reads_the_file(path: str) -> None:
    # Of buildah it wants only the version: the file is read, and nothing is run.
    compose = [sys.executable, "-m", "podman_compose", "--podman-path", program("buildah")]
    command = [*compose, "--file", str(ROOT / path), "config", "--services"]
    services = output_of(command, environment={"DOMAIN": "localhost", "API_KEY": "key"})
    assert "scrapper" in services.split()


def test_caddy_passes_downloads_and_refusals_of_large_bodies(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    """The real Caddy, without TLS, and with another name and port of the replicas."""
    trusted = {"TRUSTED_PROXIES": "127.0.0.1/32", "API_KEY": "key"}
    with Service(media_root, {**instagram.environment, **trusted}) as service:
        caddyfile = (DEPLOY / "caddy/Caddyfile").read_text()
        caddyfile = caddyfile.replace("name scrapper", "name 127.0.0.1")
        caddyfile = caddyfile.replace("port 5633", f"port {urlsplit(service.url).port}")
        (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n}\n" + caddyfile)
        port = free_port()
        environment = {"DOMAIN": f"http://127.0.0.1:{port}", "HOME": str(tmp_path)}
        command = [program("caddy"), "run", "--config", str(tmp_path / "Caddyfile")]
        with subprocess.Popen(command, env=environment) as caddy:
            try:
                service.url, service.headers["X-API-Key"] = f"http://127.0.0.1:{port}", "key"
                wait_for_answer(f"{service.url}/health")
                scraped = service.scrape("https://www.instagram.com/reel/reel-1/")
                assert scraped.status_code == 200, scraped.text
                file = service.get("/download/reel-1")
                assert [file.content] == instagram.bytes_of("reel-1")
                assert "Strict-Transport-Security" in file.headers
                assert service.scrape("x" * 5_000).status_code == 413
            finally:
                caddy.terminate()
