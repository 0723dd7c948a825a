"""Notifications from real processes to a stand-in for an ntfy server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service, Worker, wait_for
from tests.redis_server import RedisServer
from tests.service.instagram.test_sources import session_file

PASSWORD = "s3cret-of-the-tests"
GONE = "https://www.instagram.com/p/gone-1/"
STORED = "https://www.instagram.com/reel/reel-1/"


class Receiver:
    """Receives notifications like an ntfy server, and responds with ``status``."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.status = 200
        self.requests = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.requests += 1
                if receiver.status == 200:
                    receiver.titles.append(message["title"])
                self.send_response(receiver.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"ntfy://user:{PASSWORD}@127.0.0.1:{self._server.server_port}/topic"
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def environment(instagram: StandIn, receiver: Receiver) -> dict[str, str]:
    return {
        **instagram.environment,
        "PLUGINS": "notify",
        "NOTIFY_URLS": receiver.url,
        "LOG_LEVEL": "debug",
        "INSTAGRAM_MAX_QUERIES": "0",
        "INSTAGRAM_COOLDOWN_SECONDS": "0.1",
    }


def counts(media_root: Path) -> dict[str, int]:
    """Return, by kind, the number of events in the file on disk that have not been sent."""
    waiting = json.loads((media_root / ".state/notify.json").read_text())["waiting"]["1"]
    return {kind: fields["count"] for kind, fields in waiting.items() if fields["count"]}


def test_each_event_arrives_once_despite_kills(
    instagram: StandIn, media_root: Path, receiver: Receiver, environment: dict[str, str]
) -> None:
    expected = []
    full = {"MIN_FREE_DISK_MB": "0", "MAX_MEDIA_MB": "1"}
    with Service(media_root, {**environment, **full}) as service:
        service.post("/jobs", {"urls": [STORED, GONE]})
        expected += ["A job is done", "1 post of a job failed"]
        wait_for(lambda: sorted(receiver.titles) == sorted(expected))
        wait_for(lambda: not counts(media_root))
        receiver.status = 500
        requests = receiver.requests
        log = service
    # The disk is nearly full and the receiver fails when the process is killed again.
    full["MAX_MEDIA_MB"] = "1000000000"
    with Service(media_root, {**environment, **full}) as service:
        wait_for(lambda: receiver.requests > requests)
        service.kill()
    receiver.status = 200
    with Service(media_root, {**environment, **full}) as service:
        expected.append("The disk is nearly full")
        wait_for(lambda: sorted(receiver.titles) == sorted(expected))
        wait_for(lambda: not counts(media_root))
        service.kill()
    with Service(media_root, {**environment, **full}) as service:
        # Reports of further jobs are held back for an hour, even across kills.
        service.post("/jobs", {"urls": [STORED]})
        wait_for(lambda: counts(media_root) == {"job": 1})
        service.terminate()
        assert service.wait() == 0
    assert sorted(receiver.titles) == sorted(expected)
    for running in (log, service):
        assert PASSWORD not in "".join(running.raw_log)
        assert "/topic" not in "".join(running.raw_log)


def test_a_hanging_target_delays_nothing_else(
    instagram: StandIn, media_root: Path, receiver: Receiver, environment: dict[str, str]
) -> None:
    hanging = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    url = f"slow=json://user:{PASSWORD}@127.0.0.1:{hanging.server_port} {receiver.url}"
    with Service(media_root, {**environment, "NOTIFY_URLS": url}) as service:
        service.post("/jobs", {"urls": [STORED]})
        wait_for(lambda: receiver.titles == ["A job is done"])
        wait_for(lambda: service.logged("notification not sent") > 0)
        assert service.get("/posts").status_code == 200
        service.terminate()
        assert service.wait() == 0
        assert PASSWORD not in "".join(service.raw_log)
    hanging.server_close()


def test_an_ended_login_is_reported_once(
    instagram: StandIn,
    media_root: Path,
    tmp_path: Path,
    receiver: Receiver,
    environment: dict[str, str],
) -> None:
    session = session_file(tmp_path, "expired401")
    with Service(media_root, {**environment, **session}) as service:
        service.scrape("https://www.instagram.com/p/private-1/")
        wait_for(lambda: receiver.titles == ["The Instagram login (someone) needs attention"])
        wait_for(lambda: not counts(media_root))
        service.kill()
    with Service(media_root, {**environment, **session}) as service:
        assert service.get("/ready").json()["login"] == "expired"
        # A second report about the login would arrive before the report about a later event.
        service.post("/jobs", {"urls": [STORED]})
        wait_for(lambda: "A job is done" in receiver.titles)
    assert len(receiver.titles) == 2


def test_only_one_of_several_processes_sends(
    instagram: StandIn,
    media_root: Path,
    receiver: Receiver,
    environment: dict[str, str],
    redis_server: RedisServer,
) -> None:
    settings = {**environment, "REDIS_URL": redis_server.url}
    with (
        Service(media_root, settings) as one,
        Service(media_root, settings) as other,
        Worker(media_root, settings),
    ):
        one.post("/jobs", {"urls": [STORED]})
        wait_for(lambda: receiver.titles == ["A job is done"])
        # This is logged after the outbox is updated. A kill before that would repeat the report.
        wait_for(lambda: one.logged("notification sent") + other.logged("notification sent") == 1)
        sender, left = (one, other) if one.logged("notification sent") else (other, one)
        sender.kill()
        left.post("/jobs", {"urls": [GONE]})
        wait_for(lambda: "1 post of a job failed" in receiver.titles)
    assert sorted(receiver.titles) == ["1 post of a job failed", "A job is done"]
