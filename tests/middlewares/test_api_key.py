from typing import Any

import pytest
from aiohttp import web

from middlewares.api_key import api_key

KEY = "s3cret-ключ"


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


def is_health(request: web.Request) -> bool:
    return request.path == "/health"


@pytest.fixture
async def client(aiohttp_client: Any) -> Any:
    app = web.Application(middlewares=[api_key(KEY, exempt=is_health)])
    app.router.add_get("/", hello)
    app.router.add_get("/health", hello)
    return await aiohttp_client(app)


async def test_the_right_key_opens(client: Any) -> None:
    assert (await client.get("/", headers={"X-API-Key": KEY})).status == 200


@pytest.mark.parametrize(
    "headers", [{}, {"X-API-Key": ""}, {"X-API-Key": "S3cret-ключ"}, {"X-API-Key": KEY + "x"}]
)
async def test_a_missing_or_wrong_key_is_refused(client: Any, headers: dict[str, str]) -> None:
    response = await client.get("/", headers=headers)
    assert (response.status, await response.text()) == (401, "X-API-Key is missing or wrong")
    assert response.headers["WWW-Authenticate"].startswith("ApiKey")


async def test_unknown_routes_need_the_key_too(client: Any) -> None:
    assert (await client.get("/nowhere")).status == 401


async def test_exempt_routes_need_none(client: Any) -> None:
    assert (await client.get("/health")).status == 200


@pytest.mark.parametrize("path", ["/health/", "/healthy", "/Health", "/a/health"])
async def test_only_the_exempt_path_itself_is_exempt(client: Any, path: str) -> None:
    assert (await client.get(path)).status == 401


def test_an_empty_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="empty"):
        api_key("")
