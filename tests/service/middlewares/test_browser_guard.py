"""Requests to host names of other sites, and requests from their pages."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middlewares.browser_guard import browser_guard
from middlewares.errors import errors


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


@pytest.fixture
def start(aiohttp_client: Any) -> Any:
    async def start(hosts: Sequence[str] | None = ()) -> Any:
        guard = browser_guard(
            hosts=hosts,
            advice="See ALLOWED_HOSTS.",
            exempt=lambda request: request.path == "/free",
            changes=lambda request: request.path == "/work",
        )
        app = web.Application(middlewares=[errors({}), guard])
        app.router.add_route("*", "/{path}", hello)
        return await aiohttp_client(app)

    return start


async def code(client: Any, method: str = "GET", path: str = "/x", **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, path, headers=names) as response:
        if response.status == 200:
            return 200
        return response.status, (await response.json())["code"]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:5633",
        "192.0.2.1:80",
        "[::1]:5633",
        "[2001:db8::1]",
        "localhost:5633",
        "LOCALHOST",
        "pi",
        "scrapper:5633",
        "pi.local",
        "pi.local.",
        "nas.lan",
        "nas.home.arpa:80",
        "svc.internal",
        "Posts.Example.com:443",
        "posts.example.com.",
    ],
)
async def test_names_of_the_local_network_are_allowed(start: Any, host: str) -> None:
    assert await code(await start(["posts.example.com"]), Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5633",
        "posts.example.com.evil.example",
        "local.evil.example",
        "127.0.0.1.evil.example",
        "evil.example.",
        "a.localdomain",
        "[::1].evil.example",
        "evil.example:",
    ],
)
async def test_names_of_other_sites_are_refused(start: Any, host: str) -> None:
    client = await start(["posts.example.com"])
    assert await code(client, Host=host) == (421, "forbidden_host")
    assert await code(client, path="/free", Host=host) == 200


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("Evil.example:5633", "the host name evil.example."),
        ("a" * 300 + ".example", f"the host name {'a' * 253}."),
        ("<b>&", "this host name."),
    ],
)
async def test_the_refusal_has_the_name_and_advice(start: Any, host: str, shown: str) -> None:
    client, text = await start(), f"This service does not accept {shown} See ALLOWED_HOSTS."
    async with client.get("/x", headers={"Host": host}) as response:
        assert (await response.json())["error"] == text
    accept = "text/html,application/xhtml+xml,*/*;q=0.8"
    async with client.get("/x", headers={"Host": host, "Accept": accept}) as response:
        assert (response.status, response.content_type) == (421, "text/html")
        assert f"<p>{text}</p>" in await response.text()
    async with client.post("/x", headers={"Host": host, "Accept": accept}) as response:
        assert response.content_type == "application/json"


async def test_without_hosts_every_name_is_allowed(start: Any) -> None:
    assert await code(await start(None), Host="evil.example") == 200


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(host=st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=60))
async def test_any_host_is_allowed_or_refused(start: Any, host: str) -> None:
    assert await code(await start(), Host=host) in (
        200,
        (421, "forbidden_host"),
        (400, "bad_request"),
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://other.pi.local"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://pi.local:5633"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://pi.local:5633"},
    ],
)
async def test_pages_of_other_sites_cannot_change_anything(
    start: Any, method: str, headers: dict[str, str]
) -> None:
    client = await start()
    assert await code(client, method, Host="pi.local:5633", **headers) == (403, "cross_site")
    # A read is safe, because browsers do not show the response to the other site.
    assert await code(client, "GET", Host="pi.local:5633", **headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://pi.local:5633"},
        {"Origin": "https://PI.local:5633"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://pi.example.com"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_own_pages_and_programs_can_make_changes(start: Any, headers: dict[str, str]) -> None:
    assert await code(await start(), "POST", Host="pi.local:5633", **headers) == 200


NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
BROWSER = {"User-Agent": "Mozilla/5.0", "Accept": "text/html,*/*;q=0.8"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"User-Agent": "curl/8", "Accept": "*/*"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Purpose": "prefetch"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", **NAVIGATION},
        {"Sec-Fetch-Site": "cross-site", **NAVIGATION},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-User": "?1", **NAVIGATION},
        BROWSER,
    ],
)
async def test_visits_and_programs_can_cause_work(start: Any, headers: dict[str, str]) -> None:
    assert await code(await start(), path="/work", Host="pi.local:5633", **headers) == 200


@pytest.mark.parametrize("site", ["same-site", "cross-site", "of-tomorrow"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "object"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "document"},
        {"Sec-Purpose": "prefetch", **NAVIGATION},
        {"Sec-Purpose": "prefetch;prerender", **NAVIGATION},
        {"Origin": "http://pi.local:5633", "Sec-Fetch-Dest": "empty"},
    ],
)
async def test_subresources_cannot_cause_work(
    start: Any, site: str, headers: dict[str, str]
) -> None:
    client, sent = await start(), {"Host": "pi.local:5633", "Sec-Fetch-Site": site, **headers}
    assert await code(client, path="/work", **sent) == (403, "cross_site")
    assert await code(client, path="/x", **sent) == 200


async def test_fetch_in_node_does_not_count_as_a_browser(start: Any) -> None:
    client = await start()
    node = {"Sec-Fetch-Mode": "cors", "User-Agent": "node", "Accept": "*/*"}
    for method in ("GET", "POST"):
        assert await code(client, method, path="/work", Host="pi", **node) == 200


@pytest.mark.parametrize("name", ["Sec-Purpose", "Purpose", "X-Moz"])
async def test_a_prefetch_cannot_cause_work(start: Any, name: str) -> None:
    headers = {"Sec-Fetch-Site": "none", name: "prefetch", **NAVIGATION}
    assert await code(await start(), path="/work", Host="pi", **headers) == (403, "cross_site")


async def test_a_prerender_without_fetch_metadata_cannot_cause_work(start: Any) -> None:
    headers = {"Sec-Fetch-Site": "none", "Sec-Purpose": "prefetch;prerender", **NAVIGATION}
    assert await code(await start(), path="/work", Host="pi", **headers) == (403, "cross_site")


@pytest.mark.parametrize(
    "headers",
    [
        {**BROWSER, "Accept": "image/avif,image/webp,*/*"},
        {**BROWSER, "Accept": "*/*"},
        {**BROWSER, "Sec-Purpose": "prefetch;prerender"},
        {**BROWSER, "Origin": "http://pi.local:8000"},
    ],
)
async def test_subresources_over_plain_http_are_detected_by_accept(
    start: Any, headers: dict[str, str]
) -> None:
    sent = {"Host": "pi.local:5633", **headers}
    assert await code(await start(), path="/work", **sent) == (403, "cross_site")
