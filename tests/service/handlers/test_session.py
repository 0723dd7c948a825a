"""``/session``: a cookie in the place of the key."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from scrapper.access.sessions import MAX_AGE_SECONDS, Sessions
from scrapper.handlers.resources import API_KEYS
from tests.conftest import Client, StartService

KEY = {"X-API-Key": "a-key-of-the-tests"}


@pytest.fixture
async def client(start_service: StartService) -> Client:
    return await start_service(API_KEY=KEY["X-API-Key"])


async def begin(client: Client, **options: Any) -> str:
    """The cookie, as a header would have it."""
    async with client.post("/session", headers=KEY, **options) as response:
        assert response.status == 204
        client.session.cookie_jar.clear()
        return response.headers["Set-Cookie"]


async def status(client: Client, cookie: str, method: str = "GET", **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    path = "/posts" if method == "GET" else "/posts/nothing"
    value = cookie.partition(";")[0]
    async with client.request(method, path, headers={"Cookie": value, **names}) as response:
        return response.status


async def test_the_cookie_opens_what_the_key_does(client: Client) -> None:
    cookie = await begin(client)
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Max-Age" not in cookie
    assert KEY["X-API-Key"] not in cookie
    assert await status(client, cookie) == 200
    assert await status(client, cookie, "DELETE") == 404
    assert f"Max-Age={MAX_AGE_SECONDS}" in await begin(client, json={"keep": True})


async def test_the_cookie_opens_nothing_for_another_site(client: Client) -> None:
    cookie = await begin(client)
    for site in ("cross-site", "same-site"):
        assert await status(client, cookie, Sec_Fetch_Site=site) == 401
    assert await status(client, cookie, "DELETE", Origin="https://evil.example") == 403
    assert await status(client, cookie, Sec_Fetch_Site="same-origin") == 200


async def test_an_ended_session_opens_nothing(client: Client) -> None:
    cookie = await begin(client)
    headers = {"Cookie": cookie.partition(";")[0]}
    async with client.delete("/session", headers=headers) as response:
        assert response.status == 204
        assert 'session=""' in response.headers["Set-Cookie"]
    assert await status(client, cookie) == 401


async def test_a_session_survives_a_restart_and_ends_with_its_key(
    start_service: StartService, client: Client
) -> None:
    cookie = await begin(client)
    await client.close()
    again = await start_service(API_KEY=KEY["X-API-Key"])
    assert await status(again, cookie) == 200
    await again.close()
    other = await start_service(API_KEY="another-key-of-the-tests")
    assert await status(other, cookie) == 401


@pytest.mark.parametrize("position", range(0, 100, 7))
async def test_a_changed_cookie_opens_nothing(client: Client, position: int) -> None:
    cookie = (await begin(client)).partition(";")[0]
    place = len("session=") + position
    changed = cookie[:place] + ("0" if cookie[place] != "0" else "1") + cookie[place + 1 :]
    assert await status(client, changed) == 401


async def test_a_session_is_over_after_its_time(client: Client) -> None:
    now = 1_800_000_000.0
    sessions = Sessions(client.app[API_KEYS], now=lambda: now)
    headers = {"Cookie": f"session={sessions.begin('default')}"}
    request = make_mocked_request("GET", "/", headers=headers)
    assert sessions.name_of(request) == "default"
    now += MAX_AGE_SECONDS + 1
    assert sessions.name_of(request) is None


async def test_a_service_without_a_key_sets_no_cookie(start_service: StartService) -> None:
    client = await start_service()
    async with client.post("/session") as response:
        assert (response.status, "Set-Cookie" in response.headers) == (204, False)


async def test_without_the_key_there_is_no_session(client: Client) -> None:
    async with client.post("/session", headers={"X-API-Key": "wrong"}) as response:
        assert (response.status, "Set-Cookie" in response.headers) == (401, False)
