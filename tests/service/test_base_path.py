"""The service behind a path prefix, whether or not the proxy strips it."""

import pytest

from scrapper.errors import SettingsError
from scrapper.settings import load_settings
from tests.conftest import StartService
from tests.instagram import StandIn

REEL = "https://www.instagram.com/reel/{}/"


@pytest.mark.parametrize("prefix", ["", "/saved"])
async def test_urls_have_the_prefix_and_both_kinds_of_proxy_work(
    instagram: StandIn, start_service: StartService, prefix: str
) -> None:
    client = await start_service(BASE_PATH="/saved", API_KEY="a-key-of-the-tests")
    headers = {"X-API-Key": "a-key-of-the-tests"}
    body = {"url": REEL.format("reel-prefix")}
    async with client.post(f"{prefix}/scrape", json=body, headers=headers) as response:
        url = (await response.json())["media"][0]["url"]
    assert url == "/saved/media/reel-prefix/reel-prefix.mp4"
    async with client.get(url, headers=headers) as response:
        assert response.status == 200
    jobs = {"urls": [REEL.format("reel-prefix")] * 50}
    async with client.post(f"{prefix}/jobs", json=jobs, headers=headers) as response:
        assert response.status == 202
        assert response.headers["Location"].startswith("/saved/jobs/")
    async with client.post(f"{prefix}/session", headers=headers) as response:
        assert "Path=/saved" in response.headers["Set-Cookie"]
    async with client.get(f"{prefix}/openapi.json") as response:
        description = await response.json()
    assert description["servers"][0]["url"] == "/saved"
    assert "/scrape" in description["paths"]
    assert not any(path.startswith("/saved") for path in description["paths"])
    for path in ("/health", "/", "/page.js", "/docs"):
        assert (await client.get(prefix + path)).status == 200
    client.session.cookie_jar.clear()
    assert (await client.get(f"{prefix}/posts")).status == 401


async def test_the_prefix_without_a_slash_redirects_to_the_page(
    start_service: StartService,
) -> None:
    client = await start_service(BASE_PATH="/saved", API_KEY="a-key-of-the-tests")
    async with client.get("/saved?post=abcde", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/saved/?post=abcde")


@pytest.mark.parametrize(
    ("trusted", "sent", "prefix"),
    [
        ("127.0.0.0/8", "/by/proxy", "/by/proxy"),
        ("127.0.0.0/8", "/by/proxy/", "/by/proxy"),
        ("127.0.0.0/8", "//evil.example", ""),
        ("127.0.0.0/8", "https://evil.example", ""),
        ("127.0.0.0/8", '/"><script>', ""),
        ("127.0.0.0/8", "/", ""),
        ("10.0.0.0/8", "/by/proxy", ""),
    ],
)
async def test_a_trusted_proxy_may_send_the_prefix(
    instagram: StandIn, start_service: StartService, trusted: str, sent: str, prefix: str
) -> None:
    client = await start_service(TRUSTED_PROXIES=trusted)
    headers = {"X-Forwarded-Prefix": sent, "X-Forwarded-For": "192.0.2.7"}
    body = {"url": REEL.format("reel-sent")}
    async with client.post("/scrape", json=body, headers=headers) as response:
        url = (await response.json())["media"][0]["url"]
    assert url == f"{prefix}/media/reel-sent/reel-sent.mp4"


@pytest.mark.parametrize("path", ["posts", "//evil.example", "/a b", "/a?b", "/a/../b/", "/."])
def test_an_invalid_prefix_is_refused_at_startup(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE_PATH", path)
    with pytest.raises(SettingsError, match="BASE_PATH"):
        load_settings()


@pytest.mark.parametrize(
    "path", ["/docs", "/posts", "/posts/abcde", "/page.js", "/openapi.json", "/download/x/y"]
)
async def test_a_prefix_that_starts_like_a_route_is_refused(
    start_service: StartService, path: str
) -> None:
    with pytest.raises(SettingsError, match="BASE_PATH: the route"):
        await start_service(BASE_PATH=path)
