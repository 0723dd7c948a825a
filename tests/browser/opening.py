"""The page in a real browser: Debian's Chromium."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.conftest import Client
from tests.process import PATIENCE_SECONDS

__all__ = ["DONE_SECONDS", "REEL", "Browse", "NewPage", "browsing", "get_posts", "launched"]

expect.set_options(timeout=PATIENCE_SECONDS * 1000)

Browse = Callable[..., AbstractAsyncContextManager[Page]]
NewPage = Callable[..., Awaitable[Page]]
REEL = "https://www.instagram.com/reel/{}/"
DONE_SECONDS = PATIENCE_SECONDS


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
    """What opens a service's page, and fails on any error in it, or request to elsewhere."""

    @asynccontextmanager
    async def opened(client: Client, path: str = "/", **options: Any) -> AsyncIterator[Page]:
        origin = str(client.make_url("/"))
        wrong: list[str] = []
        page = await new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        page.set_default_timeout(DONE_SECONDS * 1000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda message: (
                wrong.append(message.text)
                if message.type == "error" and "status of" not in message.text
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
    """Send *links* with the form."""
    await page.get_by_label("Links").fill("\n".join(links))
    await page.get_by_role("button", name="Get posts").click()
