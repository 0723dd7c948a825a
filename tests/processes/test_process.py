"""The service as a process: signals, crashes, exit codes and output."""

import json
import os
import pickle
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.instagram import Scenario, StandIn
from tests.process import PATIENCE_SECONDS, Service, wait_for

URL = "https://www.instagram.com/reel/{}/"
# How many seconds a stopping service waits for hanging threads, and for its log to be written.
AT_ONCE = {
    "scrapper.commands.serve.GRACE_SECONDS": 0,
    "scrapper.commands.serve._SECONDS_TO_CLOSE": 0.2,
    "scrapper.tasks._LOG_SECONDS": 1.0,
}


def queried_once(instagram: StandIn, shortcode: str) -> bool:
    return instagram.requests("graphql", shortcode) == 1


def scrape_in_background(service: Service, shortcode: str) -> tuple[threading.Thread, list[int]]:
    statuses: list[int] = []

    def scrape() -> None:
        try:
            statuses.append(service.scrape(URL.format(shortcode)).status_code)
        except requests.ConnectionError:
            statuses.append(0)

    thread = threading.Thread(target=scrape)
    thread.start()
    return thread, statuses


@pytest.mark.parametrize(
    ("days", "event"),
    [
        (None, "old posts will be removed"),
        ("0.5", "old posts will be removed"),
        ("0", "posts are never removed"),
    ],
)
def test_startup_logs_when_posts_are_removed(
    media_root: Path, days: str | None, event: str
) -> None:
    with Service(media_root, {"MAX_MEDIA_AGE_DAYS": days} if days else {}) as service:
        wait_for(lambda: service.logged(event) == 1)
        [line] = [line for line in service.log if line["event"] == event]
    assert line.get("days") == (None if days == "0" else float(days or 7))


def test_a_hanging_thread_does_not_prevent_shutdown(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "hanging.py").write_text(
        "import asyncio, threading\n"
        "from aiohttp import web\n"
        "def make():\n"
        "    @web.middleware\n"
        "    async def hang(request, handler):\n"
        "        if request.path == '/health':\n"
        "            return await handler(request)\n"
        "        return await asyncio.to_thread(threading.Event().wait)\n"
        "    return hang\n"
    )
    environment = {"EXTRA_MIDDLEWARES": "hanging:make", "SCRAPE_TIMEOUT_SECONDS": "1"}
    with Service(media_root, environment, python_path=tmp_path, constants=AT_ONCE) as service:
        host, port = urlsplit(service.url).netloc.split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /posts HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert service.get("/health").text == "OK"
            service.terminate()
            assert service.wait() == 0
    assert service.logged("stopped: a thread hangs") == 1


def test_nothing_but_log_lines_is_printed(
    media_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Service(media_root, fresh=True) as service:
        service.terminate()
        service.wait()
    assert [line["event"] for line in service.log if line["level"] != "info"] == []
    assert capfd.readouterr().err == ""


def refuses(url: str) -> bool:
    """Return whether *url* no longer accepts connections."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port)).close()
    # A connection is reset if it arrives while the listener is closing.
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def test_sigterm_lets_requests_finish_and_exits_with_0(
    instagram: StandIn, media_root: Path
) -> None:
    with Service(media_root, instagram.environment, fresh=True) as service:
        instagram.hold()
        thread, statuses = scrape_in_background(service, "reel-term")
        wait_for(lambda: instagram.requests("graphql") == 1)
        service.terminate()
        wait_for(lambda: refuses(service.url))
        instagram.release()
        assert service.wait() == 0
        thread.join()
    assert statuses == [200]
    assert (media_root / "reel-term/reel-term.mp4").exists()


def test_an_idle_service_exits_with_0_after_sigterm(media_root: Path) -> None:
    with Service(media_root, fresh=True) as service:
        service.terminate()
        assert service.wait() == 0
    assert service.log[-1]["event"] == "stopped"


def test_port_0_chooses_a_free_port_and_logs_it(media_root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "scrapper"],
        env={**os.environ, "MEDIA_ROOT": str(media_root), "PORT": "0", "HOST": "::1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        line = next(line for line in process.stdout if "listening" in line)
        assert requests.get(
            f"http://[::1]:{json.loads(line)['port']}/health", timeout=PATIENCE_SECONDS
        ).ok
        process.terminate()


def test_a_client_that_disconnects_mid_body_is_not_an_error(media_root: Path) -> None:
    with Service(media_root) as service:
        address = urlsplit(service.url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(
                b"POST /scrape HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
            client.sendall(b"{")
        service.get("/health")
        service.terminate()
        assert service.wait() == 0
    assert [line["status"] for line in service.log if line.get("path") == "/scrape"] == [400]
    assert not [line for line in service.log if line["level"] == "error"]


def test_invalid_settings_exit_with_2_and_one_message(media_root: Path) -> None:
    environment = {**os.environ, "MEDIA_ROOT": str(media_root), "PORT": "x", "LOG_LEVEL": "y"}
    done = subprocess.run(
        [sys.executable, "-m", "scrapper"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Invalid settings:\n")
    assert all(f"\n{name}: " in done.stderr for name in ("PORT", "LOG_LEVEL"))
    assert "Traceback" not in done.stderr


def test_a_session_file_without_a_session_exits_with_2(media_root: Path, tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.write_bytes(b"nonsense")
    done = subprocess.run(
        [sys.executable, "-m", "scrapper"],
        env={
            **os.environ,
            "MEDIA_ROOT": str(media_root),
            "INSTAGRAM_SESSION_FILE": str(session),
            "INSTAGRAM_USERNAME": "someone",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "INSTAGRAM_SESSION_FILE: " in done.stderr


def test_a_kill_at_any_moment_publishes_no_partial_file(
    instagram: StandIn, media_root: Path
) -> None:
    dice = random.Random(7)  # noqa: S311
    shortcodes = [f"killed-{number:04}" for number in range(10)]
    at_once = Scenario("the video of the scenario slow, sent at once", shape="slow")
    instagram.set_scenario("killed", at_once)
    [whole] = instagram.bytes_of("killed-0000")
    for killed, shortcode in pairwise([None, *shortcodes, None]):
        with Service(media_root, instagram.environment) as service:
            if killed:
                instagram.set_scenario("killed", at_once)
                check_after_kill(service, media_root, killed, whole)
            if shortcode:
                instagram.set_scenario("killed", replace(at_once, media="slow"))
                thread, _ = scrape_in_background(service, shortcode)
                wait_for(partial(queried_once, instagram, shortcode))
                # The stand-in sends this file within about a second.
                time.sleep(dice.uniform(0, 1.2))
                service.kill()
                thread.join()
                published = media_root / shortcode / f"{shortcode}.mp4"
                assert not published.exists() or published.read_bytes() == whole


def check_after_kill(service: Service, media_root: Path, shortcode: str, whole: bytes) -> None:
    """Check that nothing is left of the interrupted download, and that the post can be scraped."""
    assert os.listdir(media_root / ".incoming") == []
    downloaded = service.get(f"/download/{shortcode}")
    assert downloaded.status_code in (200, 404)
    assert downloaded.status_code == 404 or downloaded.content == whole
    answer = service.scrape(URL.format(shortcode))
    assert answer.status_code == 200
    assert (media_root / shortcode / f"{shortcode}.mp4").read_bytes() == whole
    assert answer.json()["media"][0]["size"] == len(whole)


def test_every_log_line_is_json_without_secrets(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    session = tmp_path / "session-someone"
    cookies = {
        "sessionid": "S3SS10N-77",
        "csrftoken": "C5RFT0K3N",
        "ds_user_id": "77",
        "mid": "m1d",
    }
    session.write_bytes(pickle.dumps(cookies))
    environment = {
        **instagram.environment,
        "API_KEY": "K3Y-0F-0URS",
        "LOG_LEVEL": "debug",
        "INSTAGRAM_SESSION_FILE": str(session),
        "INSTAGRAM_USERNAME": "someone",
        "INSTAGRAM_MAX_QUERIES": "0",
        "INSTAGRAM_COOLDOWN_SECONDS": "0",
        "SCRAPE_TIMEOUT_SECONDS": "2",
    }
    scenarios = ["reel", "cdnforbidden", "cdnnotfound", "cut", "cdnhtml", "nouser", "html", "wait"]
    scenarios += ["cdnreset", "cdnsilent", "servererror", "jsonnull", "forbidden", "cdnredirect"]
    signatures = set()
    with Service(media_root, environment) as service:
        service.headers["X-API-Key"] = "K3Y-0F-0URS"
        for scenario in scenarios:
            answer = service.scrape(URL.format(f"{scenario}-quiet"))
            if answer.status_code == 200:
                signatures.add(answer.json()["cdn_url"].partition("?")[2])
            else:
                assert "?" not in answer.text
        service.get("/health?key=K3Y-0F-0URS")
        service.get("/K3Y-0F-0URS")
        service.terminate()
        assert service.wait() == 0
    text = "".join(service.raw_log)
    assert signatures
    for secret in ("K3Y-0F-0URS", "S3SS10N-77", "C5RFT0K3N", "oh=", "&oe=", *signatures):
        assert secret not in text
    assert sum(line.get("path") == "/scrape" for line in service.log) == len(scenarios)
    for line in service.log:
        assert {"timestamp", "level", "event"} <= line.keys()
        assert json.dumps(line)


def test_a_failing_middleware_factory_exits_with_2(media_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scrapper"],
        env={**os.environ, "MEDIA_ROOT": str(media_root), "EXTRA_MIDDLEWARES": "os:rmdir"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "EXTRA_MIDDLEWARES: 'os:rmdir' failed: TypeError" in done.stderr
    assert "Traceback" not in done.stderr


def test_extra_middlewares_are_innermost(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from aiohttp import web\n"
        "def factory():\n"
        "    @web.middleware\n"
        "    async def middleware(request, handler):\n"
        "        response = await handler(request)\n"
        "        response.headers['X-Mine'] = 'yes'\n"
        "        return response\n"
        "    return middleware\n"
    )
    environment = {"EXTRA_MIDDLEWARES": "mine:factory"}
    with Service(media_root, environment, python_path=tmp_path) as service:
        assert service.get("/health").headers["X-Mine"] == "yes"


# Modules that an idle service does not need. Each takes 0.1 to 8 MB.
NOT_WHEN_IDLE = (
    *("redis", "taskiq", "scrapper.replicas", "boto3", "apprise", "opentelemetry", "rich"),
    *("charset_normalizer", "filetype", "xml.parsers.expat", "pickletools"),
    *("concurrent.futures.process", "multiprocessing", "tracemalloc", "unittest", "pydantic.v1"),
)


def test_an_idle_service_imports_no_unneeded_modules(media_root: Path, tmp_path: Path) -> None:
    (tmp_path / "modules.py").write_text(
        "import sys\n"
        "from aiohttp import web\n"
        "def factory():\n"
        "    @web.middleware\n"
        "    async def middleware(request, handler):\n"
        "        response = await handler(request)\n"
        "        names = [name for name, module in sys.modules.items() if module]\n"
        "        response.headers['X-Modules'] = ','.join(names)\n"
        "        return response\n"
        "    return middleware\n"
    )
    environment = {"EXTRA_MIDDLEWARES": "modules:factory"}
    with Service(media_root, environment, python_path=tmp_path, fresh=True) as it:
        modules = set(it.get("/health").headers["X-Modules"].split(","))
    assert "middlewares.rate_limit" in modules
    assert modules.intersection(NOT_WHEN_IDLE) == set()


# Modules are imported first, because only root may be able to read Python's own files.
AS_ANOTHER_USER = """
import os, sys
import scrapper.__main__, scrapper.commands.serve
os.setgid(12345)
os.setuid(12345)
sys.argv = ["scrapper"]
sys.exit(scrapper.__main__.main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("folder", ["", ".state", ".incoming"])
def test_an_error_about_the_folders_owner_names_both_remedies(folder: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        media_root = Path(name) / "media"
        (media_root / folder).mkdir(parents=True)
        if folder:
            os.chown(media_root, 12345, 12345)
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER],
            env={"PATH": os.environ["PATH"], "MEDIA_ROOT": str(media_root), "PORT": "0"},
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    assert done.returncode == 2
    assert f"{media_root / folder} belongs to user 0 (root)" in done.stderr
    assert "chown -R 12345" in done.stderr
    assert 'user: "0"' in done.stderr
    assert "--user 0" in done.stderr
