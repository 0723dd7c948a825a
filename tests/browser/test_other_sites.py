"""Pages of other sites, in a real browser, against a service without a key."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page

from tests.browser.opening import launched
from tests.conftest import Client, StartService, stored_files
from tests.instagram import StandIn

URL = "https://www.instagram.com/reel/reel-{}/"
EVIL = "evil.example"


@pytest_asyncio.fixture(loop_scope="session")
async def evil_page(chromium: str) -> AsyncIterator[Page]:
    """A page of another site, in a browser for which that site's name leads to this machine."""

    async def empty(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Evil</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    arguments = (
        f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",
        # What this guards against, not every browser does.
        "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
    )
    async with TestServer(app) as server, launched(chromium, *arguments) as browser:
        page = await browser.new_page()
        await page.goto(f"http://{EVIL}:{server.port}/")
        yield page


async def stored(client: Client) -> None:
    async with client.post("/scrape", json={"url": URL.format("mine")}) as response:
        assert response.status == 200


async def test_a_page_of_another_site_starts_no_download(
    instagram: StandIn, start_service: StartService, evil_page: Page
) -> None:
    client = await start_service()
    for mode in ("no-cors", "cors"):
        for path, body in (
            ("/scrape", f'{{"url": "{URL.format("evil")}"}}'),
            ("/jobs", f'{{"urls": ["{URL.format("evil")}"]}}'),
        ):
            asked = str(client.make_url(path))
            script = "([url, options]) => fetch(url, options).then(() => 1, () => 0)"
            options = {"method": "POST", "mode": mode, "body": body}
            await evil_page.evaluate(script, [asked, options])
    # A form needs no script's permission.
    await evil_page.set_content(
        f'<form method="post" enctype="text/plain" action="{client.make_url("/scrape")}">'
        f'<input name=\'{{"url":"{URL.format("evil")}","x":"\' value=\'"}}\'></form>'
    )
    async with evil_page.expect_navigation() as navigated:
        await evil_page.evaluate("document.forms[0].submit()")
    answer = await navigated.value
    assert (answer.status, (await answer.json())["code"]) == (403, "cross_site")
    assert instagram.requests() == 0


async def test_a_page_whose_name_leads_here_gets_nothing(
    instagram: StandIn, start_service: StartService, evil_page: Page, media_root: Path
) -> None:
    client = await start_service()
    await stored(client)
    # For the browser this is the site's own origin: it may do anything there.
    rebound = f"http://{EVIL}:{client.port}"
    page = "<!doctype html><title>Evil</title>"
    await evil_page.route(
        f"{rebound}/evil", lambda route: route.fulfill(body=page, content_type="text/html")
    )
    await evil_page.goto(f"{rebound}/evil")
    script = "([url, method]) => fetch(url, { method }).then((response) => response.status)"
    for method, path in (
        ("GET", "/posts"),
        ("GET", "/media/reel-mine/reel-mine.mp4"),
        ("GET", "/"),
        ("POST", "/scrape"),
        ("DELETE", "/posts/reel-mine"),
    ):
        assert await evil_page.evaluate(script, [path, method]) == 421
    assert "reel-mine/post.json" in stored_files(media_root)
    # The same page, under the machine's own name.
    answer = await evil_page.goto(str(client.make_url("/posts")))
    assert answer
    assert answer.status == 200
