"""The docs, and both pages behind a path prefix."""

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import expect

from tests.browser.opening import REEL, NewPage
from tests.conftest import Client, StartService
from tests.instagram import StandIn


async def test_the_docs_show_every_operation_and_ask_nobody_else(
    start_service: StartService, new_page: NewPage
) -> None:
    client = await start_service(API_KEY="s3cret", RATE_LIMIT_MAX_REQUESTS="1")
    origin = str(client.make_url("/"))
    elsewhere: list[str] = []
    errors: list[str] = []
    page = await new_page()
    page.on("request", lambda request: elsewhere.append(request.url))
    page.on("console", lambda message: errors.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{origin}docs")
    described = await (await client.get("/openapi.json")).json()
    operations = [method for path in described["paths"].values() for method in path]
    await expect(page.locator(".opblock")).to_have_count(len(operations))
    await expect(page.get_by_text("Download a post, or give it from disk")).to_be_visible()
    assert [url for url in elsewhere if not url.startswith((origin, "data:"))] == []
    assert [error for error in errors if error.startswith("error") or ":" not in error] == []


async def test_the_page_and_the_docs_work_behind_a_prefix(
    instagram: StandIn, start_service: StartService, new_page: NewPage
) -> None:
    client = await start_service(BASE_PATH="/saved")
    async with TestClient(TestServer(_proxy(client))) as proxy:
        page = await new_page()
        await page.goto(str(proxy.make_url("/saved/")))
        await page.get_by_label("Links").fill(REEL.format("reel-behind"))
        await page.get_by_role("button", name="Get posts").click()
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")
        video = page.locator("#stored video").first
        await expect(video).not_to_have_js_property("readyState", 0)
        await page.goto(str(proxy.make_url("/saved/docs")))
        await expect(page.get_by_text("Download a post, or give it from disk")).to_be_visible()


def _proxy(client: Client) -> web.Application:
    """A proxy that takes the prefix off, and shows nothing else."""

    async def forward(request: web.Request) -> web.Response:
        path = "/" + request.match_info["path"]
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
