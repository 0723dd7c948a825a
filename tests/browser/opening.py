"""The page in a real browser: Debian's Chromium."""

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
    """The browser at the path *chromium*, started with *arguments*, while the block runs."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", *arguments]
        )
        yield browser
        await browser.close()


def browsing(new_page: NewPage) -> Browse:
    """A function that opens a service's page, and fails on errors and requests to other hosts."""

    @asynccontextmanager
    async def opened(client: Client, path: str = "/", **options: Any) -> AsyncIterator[Page]:
        origin = str(client.make_url("/"))
        wrong: list[str] = []
        page = await new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda message: (
                wrong.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((origin, "blob:")) else wrong.append(request.url)
            ),
        )
        await page.goto(str(client.make_url(path)))
        yield page
        await page.context.close()
        assert wrong == []

    return opened


async def get_posts(page: Page, *links: str) -> None:
    """Send *links* with the field."""
    field = page.get_by_label("Links", exact=True)
    await field.fill("\n".join(links))
    await field.press("Enter")


async def paste(page: Page, text: str) -> None:
    """Paste *text* where the focus is; the context needs the permissions of the clipboard."""
    await page.evaluate("text => navigator.clipboard.writeText(text)", text)
    await page.keyboard.press("Control+V")


async def store(client: Client, *shortcodes: str) -> None:
    """Have the service store reels, one after the other."""
    for shortcode in shortcodes:
        async with client.post("/scrape", json={"url": REEL.format(shortcode)}) as response:
            assert response.status == 200


def tiles(page: Page) -> Locator:
    """The gallery's tiles that are in the document."""
    return page.locator("#grid > li")


def tile(page: Page, shortcode: str) -> Locator:
    return page.locator(f"#grid > [data-shortcode='{shortcode}']")


def lines(page: Page) -> Locator:
    """The lines of the list of downloads."""
    return page.locator("#lines > li")


async def plays(player: Locator) -> None:
    """Wait until the browser has read what it needs to play it."""
    await expect(player).not_to_have_js_property("readyState", 0)
