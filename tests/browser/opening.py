"""Helpers that open and use the page in a real browser, Debian's Chromium."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from tests.conftest import Client
from tests.process import PATIENCE_SECONDS

__all__ = [
    "CLIPBOARD",
    "EVIL",
    "REEL",
    "Browse",
    "NewPage",
    "browsing",
    "get_posts",
    "launched",
    "lines",
    "paste",
    "plays",
    "stop_clock",
    "store",
    "tile",
    "tiles",
]

expect.set_options(timeout=PATIENCE_SECONDS * 1000)

Browse = Callable[..., AbstractAsyncContextManager[Page]]
NewPage = Callable[..., Awaitable[Page]]
REEL = "https://www.instagram.com/reel/{}/"
EVIL = "evil.example"
CLIPBOARD = ["clipboard-read", "clipboard-write"]


@asynccontextmanager
async def launched(chromium: str, *arguments: str) -> AsyncIterator[Browser]:
    """Start the browser at the path *chromium* with *arguments*, and close it after the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", *arguments]
        )
        yield browser
        await browser.close()


def browsing(new_page: NewPage) -> Browse:
    """Return a function that opens a service's page in a page of *new_page*.

    After the block, it fails on errors in the page and on requests to other hosts.
    """

    @asynccontextmanager
    async def opened(client: Client, path: str = "/", **options: Any) -> AsyncIterator[Page]:
        origin = str(client.make_url("/"))
        problems: list[str] = []
        page = await new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda message: (
                problems.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((origin, "blob:")) else problems.append(request.url)
            ),
        )
        await page.goto(str(client.make_url(path)))
        yield page
        await page.context.close()
        assert problems == []

    return opened


async def get_posts(page: Page, *links: str) -> None:
    """Enter *links* in the field, and send them."""
    field = page.get_by_label("Links", exact=True)
    await field.fill("\n".join(links))
    await field.press("Enter")


async def paste(page: Page, text: str) -> None:
    """Paste *text* into the focused element; the context needs permission for the clipboard."""
    await page.evaluate("text => navigator.clipboard.writeText(text)", text)
    await page.keyboard.press("Control+V")


async def stop_clock(page: Page) -> None:
    """Stop the page's clock until the test advances it, so that slow clicks do not matter."""
    await page.clock.install()
    await page.clock.pause_at(await page.evaluate("Date.now() / 1000 + 10"))


async def store(client: Client, *shortcodes: str) -> None:
    """Make the service store reels, one after the other."""
    for shortcode in shortcodes:
        async with client.post("/scrape", json={"url": REEL.format(shortcode)}) as response:
            assert response.status == 200


def tiles(page: Page) -> Locator:
    """Locate the gallery's tiles that are in the document."""
    return page.locator("#grid > li")


def tile(page: Page, shortcode: str) -> Locator:
    return page.locator(f"#grid > [data-shortcode='{shortcode}']")


def lines(page: Page) -> Locator:
    """Locate the lines of the list of downloads."""
    return page.locator("#lines > li")


async def plays(player: Locator) -> None:
    """Wait until the browser has loaded the metadata of the video or audio."""
    await expect(player).not_to_have_js_property("readyState", 0)
