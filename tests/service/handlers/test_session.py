"""``/session``: a session cookie in place of the API key."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from scrapper.access.ended_sessions import EndedSessions
from scrapper.access.sessions import MAX_AGE_SECONDS, Sessions
from scrapper.handlers.resources import API_KEYS
from tests.conftest import Client, StartService

KEY = {"X-API-Key": "a-key-of-the-tests"}


@pytest.fixture
async def client(start_service: StartService) -> Client:
    return await start_service(API_KEY=KEY["X-API-Key"])


async def begin(client: Client, **options: Any) -> str:
    """Begin a session; return its ``Set-Cookie`` header."""
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


async def test_the_cookie_gives_the_same_access_as_the_key(client: Client) -> None:
    cookie = await begin(client)
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Max-Age" not in cookie
    assert KEY["X-API-Key"] not in cookie
    assert await status(client, cookie) == 200
    assert await status(client, cookie, "DELETE") == 404
    assert f"Max-Age={MAX_AGE_SECONDS}" in await begin(client, json={"keep": True})


async def test_the_cookie_gives_no_access_to_another_site(client: Client) -> None:
    cookie = await begin(client)
    for site in ("cross-site", "same-site"):
        assert await status(client, cookie, Sec_Fetch_Site=site) == 401
    assert await status(client, cookie, "DELETE", Origin="https://evil.example") == 403
    assert await status(client, cookie, Sec_Fetch_Site="same-origin") == 200


async def test_an_ended_session_gives_no_access(client: Client) -> None:
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
    restarted = await start_service(API_KEY=KEY["X-API-Key"])
    assert await status(restarted, cookie) == 200
    await restarted.close()
    other = await start_service(API_KEY="another-key-of-the-tests")
    assert await status(other, cookie) == 401


async def test_a_changed_cookie_gives_no_access(client: Client) -> None:
    cookie = (await begin(client)).partition(";")[0]
    for index in range(len("session="), len("session=") + 100, 7):
        changed = cookie[:index] + ("0" if cookie[index] != "0" else "1") + cookie[index + 1 :]
        assert await status(client, changed) == 401, index


async def test_a_session_ends_at_its_maximum_age(client: Client, tmp_path: Path) -> None:
    now, keys = 1_800_000_000.0, client.app[API_KEYS]
    sessions = Sessions(keys, EndedSessions(tmp_path / "ended.json"), now=lambda: now)
    [key] = keys.called("default")
    headers = {"Cookie": f"session={sessions.begin(key)}"}
    assert await sessions.session_key(make_mocked_request("GET", "/", headers=headers)) == key
    now += MAX_AGE_SECONDS + 1
    assert await sessions.session_key(make_mocked_request("GET", "/", headers=headers)) is None


async def test_a_cookie_without_the_key_begins_no_session(client: Client) -> None:
    cookie = await begin(client)
    headers = {"Cookie": cookie.partition(";")[0]}
    async with client.post("/session", headers=headers) as response:
        assert (response.status, "Set-Cookie" in response.headers) == (401, False)
        assert (await response.json())["code"] == "unauthorized"
    assert await status(client, cookie) == 200


async def test_an_ended_session_stays_ended_after_a_restart(
    start_service: StartService, client: Client
) -> None:
    cookie, other = await begin(client), await begin(client)
    async with client.delete("/session", headers={"Cookie": cookie.partition(";")[0]}) as response:
        assert response.status == 204
    await client.close()
    restarted = await start_service(API_KEY=KEY["X-API-Key"])
    assert await status(restarted, cookie) == 401
    assert await status(restarted, other) == 200


@pytest.mark.parametrize("mode", ["with Redis"], indirect=True)
async def test_a_session_ends_for_all_replicas(start_service: StartService) -> None:
    one = await start_service(API_KEY=KEY["X-API-Key"])
    other = await start_service(API_KEY=KEY["X-API-Key"])
    for _ in range(3):
        cookie = await begin(one)
        assert await status(other, cookie) == 200
        headers = {"Cookie": cookie.partition(";")[0]}
        assert (await one.delete("/session", headers=headers)).status == 204
        assert await status(other, cookie) == 401


@pytest.mark.parametrize(("limit", "allowed"), [("5", 5), ("0", 30)])
async def test_a_session_has_the_limit_of_its_key(
    start_service: StartService, tmp_path: Path, limit: str, allowed: int
) -> None:
    keys = tmp_path / "keys"
    await asyncio.to_thread(keys.write_text, f"anna:the-key-of-anna:{limit}\nbob:the-key-of-bob\n")
    limits = {"RATE_LIMIT_MAX_REQUESTS": "20", "RATE_LIMIT_WINDOW_SECONDS": "3600"}
    client = await start_service(API_KEYS_FILE=str(keys), **limits)
    async with client.post("/session", headers={"X-API-Key": "the-key-of-anna"}) as response:
        headers = {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}
    client.session.cookie_jar.clear()
    statuses = [
        (await client.post("/scrape", data="{}", headers=headers)).status for _ in range(30)
    ]
    # Creating the session spent one of the key's tokens.
    spent = 1 if limit != "0" else 0
    assert statuses.count(400) == allowed - spent
    async with client.post("/scrape", data="{}", headers={"X-API-Key": "the-key-of-bob"}) as bob:
        assert bob.headers["RateLimit-Remaining"] == "19"


async def test_a_page_on_another_port_cannot_use_the_cookie(client: Client) -> None:
    cookie = await begin(client)
    assert await status(client, cookie, Origin="http://127.0.0.1:1") == 401
    own = str(client.make_url("/")).rstrip("/")
    assert await status(client, cookie, Origin=own) == 200


async def test_a_service_without_a_key_sets_no_cookie(start_service: StartService) -> None:
    client = await start_service()
    async with client.post("/session") as response:
        assert (response.status, "Set-Cookie" in response.headers) == (204, False)


async def test_a_wrong_key_begins_no_session(client: Client) -> None:
    async with client.post("/session", headers={"X-API-Key": "wrong"}) as response:
        assert (response.status, "Set-Cookie" in response.headers) == (401, False)
