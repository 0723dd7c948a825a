"""Connections of clients that misbehave."""

import json
import os
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from scrapper.serving.response_headers import HEADERS
from tests.process import PATIENCE_SECONDS, Service, wait_for

SETTINGS = {"MAX_CONNECTIONS": "8"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("media"), SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits only one second for a client."""
    settings = {"CLIENT_TIMEOUT_SECONDS": "1"}
    with Service(tmp_path_factory.mktemp("media"), settings) as running:
        yield running


def connect(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE_SECONDS)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def connect_alone(service: Service) -> socket.socket:
    """Connect to *service*, and wait until this is its only connection."""
    connection = connect(service)
    wait_for(lambda: "http_connections 1.0" in metrics_page(connection))
    return connection


def metrics_page(connection: socket.socket) -> str:
    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    response = HTTPResponse(connection)
    response.begin()
    return response.read().decode()


def exchange(
    service: Service, sent: bytes, *, ends: bool = False
) -> tuple[int, dict[str, str], Any]:
    """Send bytes on a new connection; return status, headers and JSON of the only response.

    With *ends*, the client closes its side after the first bytes of the response. Otherwise the
    service would wait for the rest of the request.
    """
    with connect(service) as connection:
        connection.sendall(sent)
        received = b""
        if ends:
            received = connection.recv(65536)
            connection.shutdown(socket.SHUT_WR)
        received += read_all(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(body) == int(headers["Content-Length"]), "more than one response"
    return int(first.split()[1]), headers, json.loads(body)


POST = b"POST /scrape HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Nul: a\0b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-Many: x\r\n" * 1000 + b"\r\n",
    ],
    ids=["text", "tls", "version", "nul", "colon", "folded", "space", "url", "header", "headers"],
)
def test_malformed_http_gets_a_400_in_json(service: Service, sent: bytes) -> None:
    status, headers, body = exchange(service, sent)
    assert status == 400
    assert body == {
        "error": "The request is not well-formed HTTP",
        "code": "bad_request",
        "request_id": headers["X-Request-ID"],
    }
    assert HEADERS.items() <= headers.items()


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
        POST + b"Content-Length: 0\r\nContent-Length: 26\r\n\r\nGET /ready HTTP/1.1\r\n\r\n",
        POST + b"Content-Length: +0\r\n\r\nGET /ready HTTP/1.1\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST.replace(b"\r\n", b"\n") + b"\n",
        POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n{\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;\n{\r\n0\r\n\r\n",
    ],
    ids=[
        "cl-te",
        "te-cl",
        "cl-cl",
        "sign",
        "xchunked",
        "identity",
        "lf",
        "lf-mid",
        "hex",
        "ext-lf",
    ],
)
def test_request_smuggling_is_refused(service: Service, sent: bytes) -> None:
    status, _, body = exchange(service, sent)
    assert status == 400
    assert "error" in body


def test_malformed_requests_are_logged_without_a_traceback(tmp_path: Path) -> None:
    with Service(tmp_path) as running:
        exchange(running, b"nonsense\r\n\r\n")
        running.terminate()
        assert running.wait() == 0
    [line] = [line for line in running.log if line["event"] == "malformed request"]
    assert (line["level"], line["client"]) == ("info", "127.0.0.1")
    assert "exception" not in line


@pytest.mark.parametrize(
    "start", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["nothing", "head"]
)
def test_a_slow_request_head_times_out(impatient: Service, start: bytes) -> None:
    with connect(impatient) as connection:
        connection.sendall(start)
        deadline = time.monotonic() + PATIENCE_SECONDS
        connection.settimeout(0.1)
        received = b""
        while b"408 Request Timeout" not in received:
            assert time.monotonic() < deadline
            try:
                received += connection.recv(65536)
                connection.sendall(b"x")
            except (TimeoutError, ConnectionError):
                continue
        assert b'"error":"The request did not arrive in time"' in received


def test_a_slow_head_of_a_later_request_times_out(impatient: Service) -> None:
    with connect(impatient) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).endswith(b"OK")
        connection.sendall(b"GET /hea")
        assert b"408 Request Timeout" in read_all(connection)


def test_a_connection_may_be_idle_between_requests(impatient: Service) -> None:
    with connect(impatient) as connection:
        for seconds in (0, 1.5):
            time.sleep(seconds)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).endswith(b"OK")


def test_a_slow_body_times_out(impatient: Service) -> None:
    status, headers, body = exchange(impatient, POST + b"Content-Length: 9\r\n\r\n{", ends=True)
    assert (status, body["error"]) == (408, "The body did not arrive in time")
    assert headers["Connection"] == "close"


def test_connections_over_the_limit_get_503(service: Service) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(closing(connect_alone(service)))
        for _ in range(7):
            connection = stack.enter_context(closing(connect(service)))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).endswith(b"OK")
        status, headers, body = exchange(service, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert body["error"] == "Too many connections: try again later"
        page = metrics_page(first)
        assert "http_connections 8.0" in page
        assert "http_connections_refused_total 1.0" in page
    wait_for(lambda: service.get("/health").status_code == 200)


def test_a_burst_cannot_exceed_the_limit(tmp_path: Path) -> None:
    with Service(tmp_path, SETTINGS) as running, ExitStack() as stack:
        stack.enter_context(closing(connect_alone(running)))
        os.kill(running.pid, signal.SIGSTOP)
        burst = [stack.enter_context(closing(connect(running))) for _ in range(64)]
        os.kill(running.pid, signal.SIGCONT)
        for connection in burst:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = [connection.recv(65536)[:12] for connection in burst]
    assert Counter(responses) == {b"HTTP/1.1 200": 7, b"HTTP/1.1 503": 57}


def test_open_files_limit_the_number_of_connections(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Service(tmp_path, {"MAX_CONNECTIONS": str(10**9)}) as running:
        limits = Path(f"/proc/{running.pid}/limits").read_text()
        running.terminate()
        assert running.wait() == 0
    [line] = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == [str(hard), str(hard)]
    assert [line["connections"] for line in running.log if line["level"] == "warning"] == [
        hard - 256
    ]


def post_in_two_parts(
    service: Service, path: str, body: bytes, encoding: str
) -> tuple[int, str | None]:
    """Send the body once the service has read the head; return the status and the code."""
    connection = HTTPConnection(urlsplit(service.url).netloc, timeout=60)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Content-Encoding", encoding)
    connection.endheaders()
    service.get("/health")
    connection.send(body)
    with closing(connection):
        response = connection.getresponse()
        return response.status, json.loads(response.read()).get("code")


def test_an_invalid_compressed_body_logs_one_line(tmp_path: Path) -> None:
    bodies = (b"{}", b"\x78\x9cnonsense", b"\x00" * 50)
    sent = list(product(("/scrape", "/jobs", "/nothing"), bodies, ("deflate", "gzip")))
    with Service(tmp_path) as running:
        for path, body, encoding in sent:
            expected = (404, "not_found") if path == "/nothing" else (400, "invalid_body")
            assert post_in_two_parts(running, path, body, encoding) == expected, (path, encoding)
        running.terminate()
        assert running.wait() == 0
    lines = [line for line in running.log if line["event"] in ("request", "malformed request")]
    assert len([line for line in lines if line.get("path") != "/health"]) == len(sent)
    assert not [line for line in running.log if "exception" in line or line["level"] == "error"]
