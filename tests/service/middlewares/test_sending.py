"""Logs and metrics describe responses as they were sent."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from middlewares.metrics import metrics
from middlewares.request_context import request_context
from middlewares.sending import sending
from tests.conftest import until

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@web.middleware
async def cloning(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request.clone())


@pytest.fixture(params=["alone", "sending outermost", "sending inside", "a clone inside"])
async def client(
    request: pytest.FixtureRequest,
    aiohttp_client: Any,
    tmp_path: Path,
    registry: CollectorRegistry,
) -> Any:
    logging, counting = request_context(), metrics(registry)
    middlewares = {
        "alone": [logging, counting],
        "sending outermost": [sending(), logging, counting],
        "sending inside": [logging, sending(), counting],
        "a clone inside": [counting, cloning, logging],
    }[request.param]
    path = tmp_path / "file"
    await asyncio.to_thread(path.write_bytes, CONTENT)

    async def file(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(CONTENT)
        return response

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(CONTENT)
                await asyncio.sleep(0)
        except ConnectionError:
            return response

    app = web.Application(middlewares=middlewares)
    app.router.add_get("/file", file)
    app.router.add_get("/stream", stream)
    app.router.add_get("/endless", endless)
    return await aiohttp_client(app)


async def line_of(client: Any, path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with capture_logs() as lines:
        async with client.request(method, path, headers=names) as response:
            await response.read()
        await until(lambda: bool(lines))
    [line] = lines
    assert line["status"] == response.status
    return {**line, "etag": response.headers.get("ETag")}


async def test_a_file_is_logged_and_counted_as_it_was_sent(
    client: Any, registry: CollectorRegistry
) -> None:
    etag = (await line_of(client, "/file"))["etag"]
    for headers, status, size in (
        ({}, 200, len(CONTENT)),
        ({"Range": "bytes=0-99"}, 206, 100),
        ({"If-None-Match": etag}, 304, 0),
        ({"Range": "bytes=9999-"}, 416, 0),
    ):
        line = await line_of(client, "/file", **headers)
        assert (line["status"], line["bytes"], line.get("aborted")) == (status, size, None)
        labels = {"method": "GET", "route": "/file", "status": str(status)}
        assert registry.get_sample_value("http_request_duration_seconds_count", labels)
    labels = {"route": "/file"}
    assert registry.get_sample_value("http_response_bytes_total", labels) == 2 * len(CONTENT) + 100
    # The connection can be used again.
    assert (await line_of(client, "/file", "HEAD"))["bytes"] == 0
    assert (await client.get("/file")).status == 200


async def test_a_stream_is_logged_at_its_end(client: Any) -> None:
    assert (await line_of(client, "/stream"))["bytes"] >= len(CONTENT)


async def test_a_disconnected_client_is_logged_and_counted(
    client: Any, registry: CollectorRegistry
) -> None:
    with capture_logs() as lines:
        response = await client.get("/endless")
        await response.content.readany()
        response.close()
        await until(lambda: bool(lines))
    assert lines[0]["aborted"] is True
    assert registry.get_sample_value("http_requests_aborted_total") == 1


async def test_internal_errors_are_counted_from_zero(
    client: Any, registry: CollectorRegistry
) -> None:
    assert registry.get_sample_value("http_internal_errors_total") == 0
