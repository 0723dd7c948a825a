import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middlewares.body_size import body_size

LIMIT = 4096


async def measure(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


async def ignore(_request: web.Request) -> web.Response:
    return web.Response(text="ignored")


@pytest.fixture
async def client(aiohttp_client: Any) -> Any:
    app = web.Application(middlewares=[body_size(LIMIT)])
    app.router.add_post("/measure", measure)
    app.router.add_post("/ignore", ignore)
    return await aiohttp_client(app)


async def chunks(body: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    length=st.integers(0, 2 * LIMIT) | st.sampled_from([LIMIT, LIMIT + 1]), chunked=st.booleans()
)
async def test_a_body_is_accepted_up_to_the_limit(length: int, chunked: bool, client: Any) -> None:
    body = b"x" * length
    response = await client.post("/measure", data=chunks(body) if chunked else body)
    if length <= LIMIT:
        assert (response.status, await response.text()) == (200, str(length))
    else:
        assert response.status == 413
        assert await response.text() == "The body is larger than 4096 bytes"


async def test_a_compressed_body_is_limited_by_its_decompressed_size(client: Any) -> None:
    bomb = gzip.compress(b"x" * 1_000_000)
    assert len(bomb) < LIMIT
    response = await client.post("/measure", data=bomb, headers={"Content-Encoding": "gzip"})
    assert response.status == 413


async def test_a_chunked_body_is_read_no_further_than_needed(client: Any) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100_000_000:
            sent += 65536
            yield b"x" * 65536

    response = await client.post("/measure", data=endless())
    assert response.status == 413
    assert sent < 50_000_000


async def test_a_large_body_is_refused_before_the_handler_runs(client: Any) -> None:
    response = await client.post("/ignore", data=b"x" * (LIMIT + 1))
    assert response.status == 413
