"""Signing in with a key, the Instagram login, and the page without its server."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import expect

from scrapper.handlers.page import PAGE_FILES
from tests.browser.opening import REEL, Browse, NewPage, get_posts, plays, tile
from tests.conftest import StartService
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS
from tests.service.handlers.test_login import cookies_txt


async def test_the_key_becomes_a_cookie_that_scripts_cannot_read(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(API_KEY="s3cret")
    async with browse(client) as page:
        key = page.get_by_label("API key")
        await expect(key).to_be_focused()
        await expect(page.get_by_label("Links", exact=True)).to_be_hidden()
        # There is no error before the first attempt.
        await expect(page.get_by_role("alert")).to_have_count(0)
        await key.fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("This key is wrong")
        await key.fill("s3cret")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Links", exact=True)).to_be_focused()
        await get_posts(page, REEL.format("reel-key"))
        await tile(page, "reel-key").get_by_role("link").click()
        await plays(page.locator("#media video"))
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Save", exact=True).click()
        assert (await download.value).suggested_filename == "reel-key.mp4"
        storage = await page.evaluate("JSON.stringify(localStorage) + document.cookie")
        assert storage == '{"signed-in":"yes"}'
        [cookie] = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)
        await page.reload()
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Settings and help").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(key).to_be_focused()
        assert await page.context.cookies() == []
        assert await page.evaluate("JSON.stringify(localStorage)") == "{}"
        await page.get_by_label("Stay signed in for 30 days").check()
        await key.fill("s3cret")
        await page.keyboard.press("Enter")
        await expect(tile(page, "reel-key")).to_be_visible()
        assert (await page.context.cookies())[0]["expires"] > 0


async def test_with_a_key_a_video_is_loaded_by_range(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(API_KEY="s3cret")
    body, headers = {"url": REEL.format("big-page")}, {"X-API-Key": "s3cret"}
    assert (await client.post("/scrape", json=body, headers=headers)).status == 200
    async with browse(client, "/?post=big-page") as page:
        async with page.expect_response("**/media/big-page/big-page.mp4") as asked:
            await page.get_by_label("API key").fill("s3cret")
            await page.keyboard.press("Enter")
        assert (await asked.value).status == 206
        await plays(page.locator("#media video"))


async def test_a_visitor_with_the_key_can_change_the_login(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(API_KEY="s3cret")
    async with browse(client) as page:
        await page.get_by_label("API key").fill("s3cret")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Settings and help").click()
        card = page.get_by_role("region", name="Instagram login")
        await expect(card.get_by_role("status")).to_contain_text("Logged out")
        cookies = card.get_by_label("Cookies from instagram.com")
        await cookies.fill(cookies_txt("expired"))
        await card.get_by_role("button", name="Use these cookies").click()
        await expect(card.get_by_role("alert")).to_contain_text("Instagram rejected this session")
        await cookies.fill("1%3Aalive%3A12")
        await card.get_by_role("button", name="Use these cookies").click()
        await expect(card.get_by_role("status")).to_contain_text("Logged in as alive.user since")
        await expect(cookies).to_have_value("")
        await card.get_by_role("button", name="Remove the login").click()
        await expect(card.get_by_role("status")).to_contain_text("Logged out")
    assert instagram.requests("account") == 2


async def test_without_a_key_the_page_explains_how_to_set_one(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.get_by_role("button", name="Settings and help").click()
        card = page.get_by_role("region", name="Instagram login")
        await expect(card).to_contain_text("set API_KEY")
        await expect(card.get_by_role("button")).to_have_count(0)


async def test_the_page_requests_the_login_of_a_keyless_server_once(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await expect(page.locator("#login-state")).to_contain_text("set API_KEY")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.reload()
        await expect(page.get_by_text("Nothing here yet")).to_be_visible()
        assert str(client.make_url("/storage")) in asked
        assert str(client.make_url("/login")) not in asked
        # The server may have a key by now, so opening the settings asks again.
        async with page.expect_response("**/login"):
            await page.get_by_role("button", name="Settings and help").click()


async def test_the_page_opens_without_its_server(
    instagram: StandIn, start_service: StartService, new_page: NewPage
) -> None:
    client = await start_service(BASE_PATH="/saved")
    answers = {"with": "server"}

    async def forward(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/events"):
            return web.Response(status=502)
        if answers["with"] != "server":
            return web.Response(status=int(answers["with"]), text="Nothing is here")
        async with client.request(request.method, request.path_qs) as response:
            kept = ("Content-Type", "Content-Security-Policy", "Cache-Control")
            headers = {name: response.headers[name] for name in kept if name in response.headers}
            return web.Response(status=response.status, body=await response.read(), headers=headers)

    app = web.Application()
    app.router.add_get("/saved/{path:.*}", forward)
    async with TestServer(app) as proxy:
        page = await new_page()
        await page.goto(str(proxy.make_url("/saved/")))
        scope = "navigator.serviceWorker.ready.then((it) => it.scope)"
        assert await page.evaluate(scope) == str(proxy.make_url("/saved/"))
        answers["with"] = "502"
        await page.goto(str(proxy.make_url("/saved/?kept=true")))
        await expect(page.get_by_label("Links", exact=True)).to_be_visible()
        await expect(page.get_by_text("Reconnecting…")).to_be_visible()
        kept = "caches.open('shell').then((it) => it.keys()).then((all) => all.map((it) => it.url))"
        urls = await page.evaluate(kept)
        assert str(proxy.make_url("/saved/page.js")) in urls
        assert set(urls) <= {str(proxy.make_url(f"/saved{path}")) for path in PAGE_FILES}
        # Now another program serves this address.
        answers["with"] = "404"
        await page.goto(str(proxy.make_url("/saved/")))
        registered = "navigator.serviceWorker.getRegistration().then(Boolean)"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await page.evaluate(registered):
                await page.wait_for_timeout(20)
        assert await page.evaluate("caches.keys()") == []
