"""The deployment files work with the real tools, and use metrics that exist."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.conftest import StartService
from tests.instagram import StandIn
from tests.process import MALLOC, Service, free_port, wait_for, wait_for_answer
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
async def test_dashboards_and_alerts_use_existing_metrics(
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
    # With this option, the exit code covers only this unit, including its warnings.
    verify = [program("systemd-analyze", packages="systemd"), "verify", "--recursive-errors=no"]
    output_of([*verify, copy])


@pytest.mark.parametrize(("name", "value"), MALLOC.items())
def test_the_unit_and_make_configure_malloc(name: str, value: str) -> None:
    assert f"{name}={value}" in (DEPLOY / "systemd/instagram-scrapper.service").read_text()
    assert f"run worker: export {name} ?= {value}" in (ROOT / "Makefile").read_text().splitlines()


@pytest.mark.parametrize(
    "path",
    [
        "compose.yaml",
        "deploy/caddy/compose.yaml",
        "deploy/caddy/authelia/compose.yaml",
        "deploy/caddy/single.yaml",
    ],
)
def test_podman_compose_accepts_the_file(path: str) -> None:
    # podman-compose only reads the file, and runs no other program than "buildah --version".
    compose = [sys.executable, "-m", "podman_compose", "--podman-path", program("buildah")]
    command = [*compose, "--file", str(ROOT / path), "config", "--services"]
    environment = {"DOMAIN": "localhost", "AUTH_DOMAIN": "auth.localhost", "API_KEY": "key"}
    services = output_of(command, environment=environment)
    assert "scrapper" in services.split()


@contextmanager
def caddy(folder: Path, caddyfile: str, **environment: str) -> Iterator[None]:
    """Run the real Caddy with *caddyfile* as its configuration for the duration of the block."""
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + caddyfile)
    command = [program("caddy"), "run", "--config", str(folder / "Caddyfile")]
    with subprocess.Popen(command, env={"HOME": str(folder), **environment}) as running:
        try:
            yield
        finally:
            running.terminate()


def test_caddy_proxies_downloads_and_refusals(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    """Caddy runs without TLS, and with the test service's name and port."""
    trusted = {"TRUSTED_PROXIES": "127.0.0.1/32", "API_KEY": "key"}
    with Service(media_root, {**instagram.environment, **trusted}) as service:
        caddyfile = (DEPLOY / "caddy/Caddyfile").read_text()
        caddyfile = caddyfile.replace("name scrapper", "name 127.0.0.1")
        caddyfile = caddyfile.replace("port 5633", f"port {urlsplit(service.url).port}")
        address = f"http://127.0.0.1:{free_port()}"
        with caddy(tmp_path, caddyfile, DOMAIN=address):
            service.url, service.headers["X-API-Key"] = address, "key"
            wait_for_answer(f"{service.url}/health")
            scraped = service.scrape("https://www.instagram.com/reel/reel-1/")
            assert scraped.status_code == 200, scraped.text
            file = service.get("/download/reel-1")
            assert [file.content] == instagram.bytes_of("reel-1")
            assert "Strict-Transport-Security" in file.headers
            assert service.scrape("x" * 5_000).status_code == 413


class Authelia(BaseHTTPRequestHandler):
    """A stand-in for Authelia, which accepts one cookie with a user name and one without."""

    def do_GET(self) -> None:
        cookie = self.headers["Cookie"] or ""
        known = self.path == "/api/authz/forward-auth" and cookie.startswith("authelia_session=")
        self.send_response(200 if known else 302)
        if "anna" in cookie:
            self.send_header("Remote-User", "anna")
        elif not known:
            host = self.headers["X-Forwarded-Host"]
            self.send_header("Location", f"https://auth.example.org/?rd=https://{host}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_caddy_admits_users_of_authelia(media_root: Path, tmp_path: Path) -> None:
    settings = {
        "AUTH_PROXY_HEADER": "Remote-User",
        "AUTH_PROXIES": "127.0.0.1",
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "API_KEY": "a-key-of-the-tests",
    }
    authelia = ThreadingHTTPServer(("127.0.0.1", 0), Authelia)
    threading.Thread(target=authelia.serve_forever, args=[0.02], daemon=True).start()
    address = f"http://127.0.0.1:{free_port()}"
    with Service(media_root, settings) as service:
        caddyfile = (DEPLOY / "caddy/authelia/Caddyfile").read_text()
        caddyfile = caddyfile.replace("scrapper:5633", urlsplit(service.url).netloc)
        caddyfile = caddyfile.replace("authelia:9091", f"127.0.0.1:{authelia.server_port}")
        sign_in = f"http://127.0.0.1:{free_port()}"

        def get(**headers: str) -> requests.Response:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return requests.get(
                f"{address}/posts", headers=names, allow_redirects=False, timeout=60
            )

        with caddy(tmp_path, caddyfile, DOMAIN=address, AUTH_DOMAIN=sign_in):
            wait_for_answer(f"{address}/health")
            anna = {"Cookie": "authelia_session=anna"}
            assert get(**anna).status_code == 200
            assert get(**anna, Remote_User="root").status_code == 200
            assert get(**anna, Origin="https://evil.example").status_code == 401
            # A user name that does not come from Authelia is ignored.
            nameless = {"Cookie": "authelia_session=nobody"}
            for forged in ({}, {"Remote_User": "root"}, {"remote_user": "root", **nameless}):
                refused = get(**forged)
                assert refused.status_code in (302, 401), forged
            assert get().headers["Location"].startswith("https://auth.example.org/")
            assert get(X_API_Key="a-key-of-the-tests").status_code == 200
            wrong = {"X_API_Key": "wrong", "Remote_User": "root"}
            assert get(**anna, **wrong).status_code == 401
            names = {line.get("key") for line in service.log if line["event"] == "request"}
            wait_for(lambda: "proxy:anna" in {line.get("key") for line in service.log})
            assert not any("root" in str(name) for name in names)
    authelia.shutdown()
    authelia.server_close()
