"""Fixtures that open the page in a browser.

All tests in a process share one browser, and therefore one event loop. Each test has its own pages.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser.opening import EVIL, Browse, NewPage, browsing, launched
from tests.conftest import StartService, starting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """A browser that resolves the host name of an evil site to this machine."""
    arguments = (
        f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",
        # Not every browser has these protections, so the service must not depend on them.
        "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
    )
    async with launched(chromium, *arguments) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def new_page(browser: Browser) -> AsyncIterator[NewPage]:
    """A function that opens a page in a new context, with the given options of Playwright.

    Animations are disabled, so that no test sees a colour or a position in the middle of one.
    """
    async with AsyncExitStack() as contexts:

        async def make(**options: Any) -> Page:
            context = await browser.new_context(**{"reduced_motion": "reduce", **options})
            contexts.push_async_callback(context.close)
            return await context.new_page()

        yield make


@pytest.fixture
def browse(new_page: NewPage) -> Browse:
    """A function that opens a service's page, and fails on errors and requests to other hosts."""
    return browsing(new_page)


@pytest_asyncio.fixture(loop_scope="session")
async def start_service(
    media_root: Path, mode: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartService]:
    async with starting(media_root, mode, monkeypatch) as start:
        yield start
