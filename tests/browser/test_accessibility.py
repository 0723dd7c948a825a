"""The page and the docs under axe, in their states, light and dark, down to 320 pixels."""

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.browser.opening import NewPage
from tests.conftest import Client, StartService
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS

expect.set_options(timeout=PATIENCE_SECONDS * 1000)

KEY = "a-key-of-the-tests"
LOOKS = [(1280, "light"), (320, "dark")]
REEL = "https://www.instagram.com/reel/{}/"


async def opened(new_page: NewPage, client: Client, path: str, look: tuple[int, Any]) -> Page:
    width, scheme = look
    viewport = {"width": width, "height": 900}
    page = await new_page(viewport=viewport, color_scheme=scheme, bypass_csp=True)
    await page.goto(str(client.make_url(path)))
    return page


async def check(page: Page) -> None:
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("look", LOOKS)
async def test_the_docs_pass(
    start_service: StartService, new_page: NewPage, look: tuple[int, Any]
) -> None:
    client = await start_service(API_KEY=KEY)
    page = await opened(new_page, client, "/docs", look)
    operations = page.locator(".opblock-summary-control")
    await expect(operations.first).to_be_visible()
    await check(page)
    for number in range(3):
        await operations.nth(number).click()
    await expect(page.locator("table.responses-table")).to_have_count(3)
    await check(page)


@pytest.mark.parametrize("look", LOOKS)
async def test_the_page_passes_in_its_states(
    instagram: StandIn, start_service: StartService, new_page: NewPage, look: tuple[int, Any]
) -> None:
    client = await start_service(API_KEY=KEY)
    page = await opened(new_page, client, "/", look)
    key = page.get_by_label("Key, if this server asks for one")
    await expect(key).to_be_focused()
    await check(page)
    await key.fill(KEY)
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Logged out")).to_be_visible()
    await page.get_by_text("Change it").click()
    await check(page)
    instagram.hold()
    links = [REEL.format("reel-axe"), REEL.format("removed-axe")]
    await page.get_by_label("Links").fill(
        "\n".join([*links, "https://www.instagram.com/p/carousel-axe/"])
    )
    await page.get_by_role("button", name="Get posts").click()
    await expect(page.locator("#progress > li")).to_have_count(3)
    await check(page)
    instagram.release()
    await expect(page.locator("#summary")).to_have_text("2 of 3 done, 1 failed")
    await expect(page.locator("#stored > li")).to_have_count(2)
    await check(page)


@pytest.mark.parametrize("look", LOOKS)
async def test_the_page_passes_while_posts_wait_and_after_they_failed(
    instagram: StandIn, start_service: StartService, new_page: NewPage, look: tuple[int, Any]
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="300", JOB_PATIENCE_SECONDS="3600")
    for source in ("api", "root", "web", "page", "embed"):
        instagram.turn_off(source, "limitedbare")
    page = await opened(new_page, client, "/", look)
    await page.get_by_text("From your phone or another page").click()
    links = [REEL.format("reel-axe-1"), "https://example.com/1", "https://example.com/2"]
    await page.get_by_label("Links").fill("\n".join(links))
    await page.get_by_role("button", name="Get posts").click()
    await expect(page.locator("#summary")).to_have_text("0 of 3 done, 2 failed, 1 waiting")
    await expect(page.get_by_role("button", name="Retry all that failed")).to_be_visible()
    await page.get_by_label("Search captions and people").fill("nothing")
    await expect(page.get_by_text("Nothing is found.")).to_be_visible()
    await check(page)
    room = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(room) == 0
