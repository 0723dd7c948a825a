from typing import Any

import pytest
from aiohttp import web

from middlewares.api_key import api_key, digest

KEY = "s3cret-ключ"


NAMES = ["nobody"]
KEYS = {digest(KEY): "alice", digest("b0b"): "bob"}


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text=NAMES[-1])


async def badge(request: web.Request) -> str | None:
    return request.headers.get("X-Badge")


def is_health(request: web.Request) -> bool:
    return request.path == "/health"


@pytest.fixture
async def client(aiohttp_client: Any) -> Any:
    app = web.Application(
        middlewares=[
            api_key(lambda: KEYS, exempt=is_health, fallback=badge, on_admission=NAMES.append)
        ]
    )
    app.router.add_get("/", hello)
    app.router.add_get("/health", hello)
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"X-API-Key": KEY}, "alice"),
        ({"X-API-Key": "b0b"}, "bob"),
        ({"Authorization": "Bearer b0b"}, "bob"),
        ({"Authorization": "bearer  b0b "}, "bob"),
        ({"Authorization": "Bearer b0b", "X-API-Key": "wrong"}, "bob"),
        ({"X-Badge": "eve"}, "eve"),
        ({"X-Badge": "eve", "X-API-Key": "b0b"}, "bob"),
    ],
)
async def test_a_valid_key_is_admitted_under_its_name(
    client: Any, headers: dict[str, str], name: str
) -> None:
    async with client.get("/", headers=headers) as response:
        assert (response.status, await response.text()) == (200, name)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "S3cret-ключ"},
        {"X-API-Key": KEY + "x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic b0b"},
        {"Authorization": "b0b"},
    ],
)
async def test_a_missing_or_wrong_key_is_refused(client: Any, headers: dict[str, str]) -> None:
    response = await client.get("/", headers=headers)
    assert (response.status, await response.text()) == (401, "The API key is missing or wrong")
    assert response.headers["WWW-Authenticate"].startswith("ApiKey")


async def test_unknown_routes_need_the_key_too(client: Any) -> None:
    assert (await client.get("/nowhere")).status == 401


async def test_exempt_routes_need_no_key(client: Any) -> None:
    assert (await client.get("/health")).status == 200


@pytest.mark.parametrize("path", ["/health/", "/healthy", "/Health", "/a/health"])
async def test_only_the_exempt_path_itself_is_exempt(client: Any, path: str) -> None:
    assert (await client.get(path)).status == 401


async def test_keys_can_be_added_and_removed(client: Any) -> None:
    KEYS[digest("new")] = "newcomer"
    assert (await client.get("/", headers={"X-API-Key": "new"})).status == 200
    del KEYS[digest("new")]
    assert (await client.get("/", headers={"X-API-Key": "new"})).status == 401
