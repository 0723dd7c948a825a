import asyncio
import gc
import math
import tracemalloc
from fractions import Fraction
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from middlewares.rate_limit import HEADERS, rate_limit


class Clock:
    """A clock in nanoseconds, which a test sets in milliseconds."""

    now = 1_000_000

    def __call__(self) -> int:
        return self.now * 1_000_000


class FakeRequest(dict[Any, Any]):
    """A request to ``/``."""

    path = "/"
    remote = ""


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def ask(middleware: Any, remote: str) -> web.StreamResponse:
    request = FakeRequest()
    request.remote = remote
    try:
        response: web.StreamResponse = await middleware(request, hello)
    except web.HTTPException as error:
        return error
    return response


def is_health(request: web.Request) -> bool:
    return request.path == "/health"


async def test_a_full_bucket_allows_as_many_requests_as_tokens(aiohttp_client: Any) -> None:
    app = web.Application(middlewares=[rate_limit(3, 60, exempt=is_health)])
    app.router.add_get("/", hello)
    app.router.add_get("/health", hello)
    client = await aiohttp_client(app)
    for remaining in ("2", "1", "0"):
        response = await client.get("/")
        assert response.status == 200
        assert response.headers["RateLimit-Limit"] == "3"
        assert response.headers["RateLimit-Remaining"] == remaining
    refused = await client.get("/")
    assert refused.status == 429
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert (await client.get("/health")).status == 200


async def test_unknown_routes_also_cost_a_token(aiohttp_client: Any) -> None:
    client = await aiohttp_client(web.Application(middlewares=[rate_limit(3, 60)]))
    response = await client.get("/nowhere")
    assert (response.status, response.headers["RateLimit-Remaining"]) == (404, "2")


async def test_a_handler_that_sends_its_response_has_the_headers(aiohttp_client: Any) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=request[HEADERS])
        await response.prepare(request)
        return response

    app = web.Application(middlewares=[rate_limit(3, 60)])
    app.router.add_get("/", stream)
    response = await (await aiohttp_client(app)).get("/")
    assert response.headers["RateLimit-Remaining"] == "2"


async def test_a_token_is_available_after_retry_after() -> None:
    clock = Clock()
    middleware = rate_limit(30, 60, clock=clock)
    for _ in range(30):
        assert (await ask(middleware, "192.0.2.1")).status == 200
    refused = await ask(middleware, "192.0.2.1")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "2")
    clock.now += 2000
    assert (await ask(middleware, "192.0.2.1")).status == 200
    assert (await ask(middleware, "192.0.2.1")).status == 429


async def test_fractions_of_a_token_are_not_lost() -> None:
    clock = Clock()
    middleware = rate_limit(30, 60, clock=clock)
    for _ in range(30):
        await ask(middleware, "192.0.2.1")
    served = 0
    for _ in range(100):
        clock.now += 700
        served += (await ask(middleware, "192.0.2.1")).status == 200
    assert served == 35


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
async def test_clients_share_a_bucket_by_address_or_ipv6_network(
    one: str, other: str, shared: bool
) -> None:
    middleware = rate_limit(1, 60)
    assert (await ask(middleware, one)).status == 200
    assert (await ask(middleware, other)).status == (429 if shared else 200)


async def test_the_least_recent_client_loses_its_bucket() -> None:
    middleware = rate_limit(1, 60, max_clients=2)
    for remote in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        assert (await ask(middleware, remote)).status == 200
    assert (await ask(middleware, "192.0.2.2")).status == 429
    assert (await ask(middleware, "192.0.2.1")).status == 200


async def test_many_addresses_use_bounded_memory() -> None:
    middleware = rate_limit(30, 60, max_clients=100)
    for number in range(1000):
        await ask(middleware, f"10.0.{number // 250}.{number % 250}")
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(5000):
        await ask(middleware, f"10.1.{number // 250}.{number % 250}")
        await asyncio.sleep(0)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 200_000


@given(
    size=st.integers(1, 10),
    window=st.integers(1, 100),
    steps=st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 12)), max_size=40),
)
async def test_a_bucket_behaves_like_the_textbook_algorithm(
    size: int, window: int, steps: list[tuple[int, int]]
) -> None:
    async def cost(_request: web.Request) -> int:
        return wanted

    clock = Clock()
    middleware = rate_limit(size, window, clock=clock, cost=cost)
    tokens, rate = Fraction(size), Fraction(size, window * 1000)
    for milliseconds, wanted in steps:
        clock.now += milliseconds
        tokens = min(Fraction(size), tokens + milliseconds * rate)
        taken = min(wanted, size)
        response = await ask(middleware, "192.0.2.1")
        assert (response.status == 200) == (taken <= tokens)
        if response.status == 200:
            tokens -= taken
        else:
            wait = math.ceil((taken - tokens) / rate / 1000)
            assert response.headers["Retry-After"] == str(wait)
        assert response.headers["RateLimit-Remaining"] == str(math.floor(tokens))
        full = math.ceil((size - tokens) / rate / 1000)
        assert response.headers["RateLimit-Reset"] == str(full)


async def test_a_penalty_takes_at_most_the_tokens_left(
    aiohttp_client: Any,
) -> None:
    async def deny(_request: web.Request) -> web.Response:
        raise web.HTTPUnauthorized

    app = web.Application(middlewares=[rate_limit(25, 6000, penalties={401: 9})])
    app.router.add_get("/", deny)
    client = await aiohttp_client(app)
    left = []
    for _ in range(3):
        response = await client.get("/")
        assert response.status == 401
        left.append(response.headers["RateLimit-Remaining"])
    assert left == ["15", "5", "0"]
    assert (await client.get("/")).status == 429
