"""Hostile clients at high speed."""

import http.client
import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.serving.response_headers import HEADERS
from tests.conftest import StartService, both_modes
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS, Service
from tests.unit.test_request_bodies import BODIES

MANY = 10_000
MANY_BODIES = 1000
BATCH = 100


def test_no_hostile_body_causes_an_internal_error(instagram: StandIn, tmp_path: Path) -> None:
    environment = {**instagram.environment, "INSTAGRAM_MAX_QUERIES": "0"}
    with Service(tmp_path, environment) as service:
        connection = http.client.HTTPConnection(
            urlsplit(service.url).netloc, timeout=PATIENCE_SECONDS
        )

        @settings(
            max_examples=MANY_BODIES // BATCH,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            st.sampled_from(["/scrape", "/jobs"]),
            st.lists(BODIES, min_size=BATCH, max_size=BATCH),
        )
        def post(path: str, bodies: list[bytes]) -> None:
            for body in bodies:
                connection.request("POST", path, body)
                response = connection.getresponse()
                answer = json.loads(response.read())
                assert response.status in (202, 400, 404, 503)
                assert "error" in answer or response.status == 202

        post()
        connection.close()
        service.terminate()
        assert service.wait() == 0
    assert not [line for line in service.log if line["level"] == "error"]


def test_forged_addresses_use_bounded_memory(tmp_path: Path) -> None:
    environment = {
        "TRUST_PROXY": "1",
        "RATE_LIMIT_MAX_REQUESTS": "30",
        "RATE_LIMIT_MAX_IPS": "1000",
        "LOG_LEVEL": "warning",
    }
    with Service(tmp_path, environment) as service:
        process, memory = psutil.Process(service.pid), []
        address = urlsplit(service.url)
        with (
            socket.create_connection(
                (address.hostname, address.port), timeout=PATIENCE_SECONDS
            ) as connection,
            connection.makefile("rb") as responses,
        ):
            for first in range(0, MANY, BATCH):
                for number in range(first, first + BATCH):
                    forged = f"6.{number >> 16}.{number >> 8 & 255}.{number & 255}"
                    connection.sendall(
                        b"DELETE /posts/x HTTP/1.1\r\nHost: x\r\n"
                        b"X-Forwarded-For: %s\r\n\r\n" % forged.encode()
                    )
                for _ in range(BATCH):
                    assert responses.readline() == b"HTTP/1.1 400 Bad Request\r\n"
                    length = 0
                    while (line := responses.readline()) != b"\r\n":
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split()[1])
                    responses.read(length)
                if first in (MANY // 5, MANY - BATCH):
                    memory.append(process.memory_info().rss)
    early, late = memory
    # At most 50 bytes for each address.
    assert late - early < 50 * (MANY - MANY // 5)


@both_modes
async def test_wrong_keys_use_up_the_client_s_tokens(start_service: StartService) -> None:
    limit = {"RATE_LIMIT_MAX_REQUESTS": "25", "RATE_LIMIT_WINDOW_SECONDS": "3600"}
    client = await start_service(API_KEY="s3cret", **limit)
    statuses = []
    for number in range(6):
        headers = {"X-API-Key": f"guess-{number}"}
        async with client.post("/scrape", data="{}", headers=headers) as response:
            statuses.append(response.status)
    assert statuses == [401] * 3 + [429] * 3
    async with client.post("/scrape", data="{}", headers={"X-API-Key": "s3cret"}) as response:
        assert response.status == 429


REQUESTS = (
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/"),
    ("GET", "/page.js"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/posts"),
    ("GET", "/media/reel-x/reel-x.mp4"),
    ("GET", "/download/reel-x?archive=zip"),
    ("GET", "/jobs/unknown/events"),
    ("GET", "/nowhere"),
    ("PUT", "/scrape"),
    ("POST", "/scrape"),
    ("DELETE", "/posts/reel-x"),
)


async def test_every_response_has_the_security_headers(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    body = {"url": "https://www.instagram.com/reel/reel-x/"}
    async with client.post("/scrape", json=body) as response:
        assert response.status == 200
    for method, path in REQUESTS:
        async with client.request(method, path) as response:
            for name, value in HEADERS.items():
                assert response.headers[name], path
                if name not in ("Content-Security-Policy", "Cache-Control"):
                    assert response.headers[name] == value, path
            policy = response.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'"), path
            assert response.headers["X-Request-ID"], path
