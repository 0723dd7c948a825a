"""The docs, and both pages behind a path prefix."""

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import expect

from tests.browser.opening import REEL, NewPage, get_posts, plays, tile
from tests.conftest import Client, StartService
from tests.instagram import StandIn


async def test_the_docs_show_every_operation_without_external_requests(
    start_service: StartService, new_page: NewPage
) -> None:
    client = await start_service(API_KEY="s3cret", RATE_LIMIT_MAX_REQUESTS="1")
    origin = str(client.make_url("/"))
    requested: list[str] = []
    errors: list[str] = []
    page = await new_page()
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: errors.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{origin}docs")
    described = await (await client.get("/openapi.json")).json()
    paths = [*described["paths"].values(), *described.get("webhooks", {}).values()]
    operations = [method for path in paths for method in path]
    await expect(page.locator(".opblock")).to_have_count(len(operations))
    await expect(page.get_by_text("Download a post, or return it from disk")).to_be_visible()
    assert [url for url in requested if not url.startswith((origin, "data:"))] == []
    assert [error for error in errors if error.startswith("error") or ":" not in error] == []


async def test_the_page_and_the_docs_work_behind_a_prefix(
    instagram: StandIn, start_service: StartService, new_page: NewPage
) -> None:
    client = await start_service(BASE_PATH="/saved")
    async with TestClient(TestServer(_proxy(client))) as proxy:
        page = await new_page()
        await page.goto(str(proxy.make_url("/saved/")))
        await get_posts(page, REEL.format("reel-behind"))
        # The proxy blocks the stream of events, so the page polls.
        await tile(page, "reel-behind").get_by_role("link").click()
        await plays(page.locator("#media video"))
        await page.goto(str(proxy.make_url("/saved/docs")))
        await expect(page.get_by_text("Download a post, or return it from disk")).to_be_visible()


def _proxy(client: Client) -> web.Application:
    """Return a proxy that strips the prefix, and blocks the stream of events."""

    async def forward(request: web.Request) -> web.Response:
        path = "/" + request.match_info["path"]
        if path == "/events":
            return web.Response(status=404)
        async with client.request(
            request.method,
            path,
            params=request.query,
            data=await request.read(),
            headers={"Range": request.headers["Range"]} if "Range" in request.headers else {},
        ) as response:
            kept = ("Content-Type", "Content-Range", "Accept-Ranges", "Content-Security-Policy")
            headers = {name: response.headers[name] for name in kept if name in response.headers}
            return web.Response(status=response.status, body=await response.read(), headers=headers)

    app = web.Application()
    app.router.add_route("*", "/saved/{path:.*}", forward)
    return app
