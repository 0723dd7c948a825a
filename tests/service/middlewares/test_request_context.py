import asyncio
from ipaddress import ip_network
from typing import Any

import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from middlewares.request_context import REQUEST_ID, request_context
from tests.process import PATIENCE_SECONDS


async def show(request: web.Request) -> web.Response:
    bound = structlog.contextvars.get_contextvars().get("request_id")
    return web.json_response({"id": request[REQUEST_ID], "bound": bound, "remote": request.remote})


async def fail(_request: web.Request) -> web.Response:
    raise web.HTTPForbidden


def application(*trusted: str) -> web.Application:
    networks = [ip_network(network) for network in trusted]
    app = web.Application(middlewares=[request_context(trusted_proxies=networks)])
    app.router.add_get("/show", show)
    app.router.add_get("/fail", fail)
    return app


async def test_a_request_without_an_id_gets_one(aiohttp_client: Any) -> None:
    client = await aiohttp_client(application())
    first, second = await client.get("/show"), await client.get("/show")
    shown = await first.json()
    assert shown["id"] == shown["bound"] == first.headers["X-Request-ID"]
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


async def test_a_valid_id_is_used_and_returned(aiohttp_client: Any) -> None:
    client = await aiohttp_client(application())
    response = await client.get("/show", headers={"X-Request-ID": "a-B_3." + "x" * 122})
    assert response.headers["X-Request-ID"] == "a-B_3." + "x" * 122
    assert (await response.json())["id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("given", ["x" * 129, "a b", 'a"b', "ä", "{}", ""])
async def test_any_other_id_is_replaced(aiohttp_client: Any, given: str) -> None:
    client = await aiohttp_client(application())
    response = await client.get("/show", headers={"X-Request-ID": given})
    assert response.headers["X-Request-ID"] != given
    assert len(response.headers["X-Request-ID"]) == 32


async def test_an_error_also_has_the_id(aiohttp_client: Any) -> None:
    client = await aiohttp_client(application())
    response = await client.get("/fail", headers={"X-Request-ID": "mine"})
    assert (response.status, response.headers["X-Request-ID"]) == (403, "mine")


@pytest.mark.parametrize(
    ("path", "status"), [("/show?key=secret", 200), ("/fail", 403), ("/no", 404)]
)
async def test_each_request_logs_one_line_without_its_query(
    aiohttp_client: Any, path: str, status: int
) -> None:
    client = await aiohttp_client(application())
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await client.get(path, headers={"X-Request-ID": "mine"})
    [line] = lines
    assert line.pop("duration_ms") >= 0
    assert (line.pop("bytes") > 0) == (status == 200)
    assert line == {
        "event": "request",
        "log_level": "info",
        "request_id": "mine",
        "method": "GET",
        "path": path.partition("?")[0],
        "status": status,
        "client": "127.0.0.1",
    }


async def test_a_cancelled_request_is_logged_too(aiohttp_client: Any) -> None:
    started = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        started.set()
        await asyncio.sleep(60)
        raise AssertionError

    app = application()
    app.router.add_get("/hang", hang)
    client = await aiohttp_client(app)
    with capture_logs() as lines:
        request = asyncio.create_task(client.get("/hang"))
        await started.wait()
        request.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not lines:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert lines[0]["status"] == 499


@pytest.mark.parametrize(
    ("trusted", "forwarded", "client"),
    [
        ([], "203.0.113.9", "127.0.0.1"),
        (["10.0.0.0/8"], "203.0.113.9", "127.0.0.1"),
        (["127.0.0.0/8"], "203.0.113.9", "203.0.113.9"),
        (["127.0.0.0/8"], "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (["127.0.0.0/8", "10.0.0.0/8"], "6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        (["127.0.0.0/8"], "10.1.2.3,127.0.0.1", "10.1.2.3"),
        (["127.0.0.0/8"], "127.0.0.2", "127.0.0.2"),
        (["127.0.0.0/8"], "2001:db8::7", "2001:db8::7"),
        (["127.0.0.0/8"], "::ffff:203.0.113.9", "203.0.113.9"),
        (["127.0.0.0/8"], "nonsense", "127.0.0.1"),
        (["127.0.0.0/8"], "203.0.113.9:443", "203.0.113.9"),
        (["127.0.0.0/8"], "[2001:db8::1]:443", "2001:db8::1"),
        (["127.0.0.0/8"], "[2001:db8::1]", "2001:db8::1"),
        (["127.0.0.0/8"], "[2001:db8::1", "2001:db8::1"),
        (["127.0.0.0/8"], ":443", "127.0.0.1"),
        (["127.0.0.0/8"], "203.0.113.9, nonsense", "127.0.0.1"),
        (["127.0.0.0/8"], "", "127.0.0.1"),
        (["127.0.0.0/8"], None, "127.0.0.1"),
    ],
)
async def test_the_client_is_the_last_untrusted_address(
    aiohttp_client: Any, trusted: list[str], forwarded: str | None, client: str
) -> None:
    service = await aiohttp_client(application(*trusted))
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    with capture_logs() as lines:
        response = await service.get("/show", headers=headers)
    assert (await response.json())["remote"] == client
    assert lines[0]["client"] == client


async def test_several_forwarded_headers_are_read_as_one(aiohttp_client: Any) -> None:
    service = await aiohttp_client(application("127.0.0.0/8", "10.0.0.0/8"))
    headers = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "10.0.0.1")]
    response = await service.get("/show", headers=headers)
    assert (await response.json())["remote"] == "203.0.113.9"
