"""The page and the docs pass axe's checks in all states, light and dark, at 1280 and 320 pixels."""

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.browser.opening import REEL, NewPage, get_posts, tile, tiles
from tests.conftest import Client, StartService
from tests.instagram import StandIn

KEY = "a-key-of-the-tests"
LOOKS = [(1280, "light"), (320, "dark")]


async def open_page(new_page: NewPage, client: Client, path: str, look: tuple[int, Any]) -> Page:
    page = await new_page(bypass_csp=True)
    await set_look(page, look)
    await page.goto(str(client.make_url(path)))
    return page


async def set_look(page: Page, look: tuple[int, Any]) -> None:
    width, scheme = look
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme=scheme)


async def check(page: Page) -> None:
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


async def check_layout(page: Page) -> None:
    """Check that the page passes axe, does not overflow, and follows the colour scheme."""
    await check(page)
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(overflow) == 0
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (sum(map(int, background[4:-1].split(","))) < 3 * 128) is is_dark


async def test_the_docs_pass_axe(start_service: StartService, new_page: NewPage) -> None:
    client = await start_service(API_KEY=KEY)
    page = await open_page(new_page, client, "/docs", LOOKS[0])
    await page.add_style_tag(content="* { transition: none !important }")
    operations = page.locator(".opblock-summary-control")
    await expect(operations.first).to_be_visible()
    for number in range(3):
        await operations.nth(number).click()
    await expect(page.locator("table.responses-table")).to_have_count(3)
    for look in LOOKS:
        await set_look(page, look)
        await check(page)


@pytest.mark.parametrize("look", LOOKS)
async def test_the_page_passes_axe_in_all_states(
    instagram: StandIn, start_service: StartService, new_page: NewPage, look: tuple[int, Any]
) -> None:
    client = await start_service(API_KEY=KEY)
    page = await open_page(new_page, client, "/", look)
    key = page.get_by_label("API key")
    await expect(key).to_be_focused()
    await key.fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_be_visible()
    await check_layout(page)
    await key.fill(KEY)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Nothing here yet")).to_be_visible()
    await check_layout(page)
    await page.get_by_role("button", name="Settings and help").click()
    await expect(page.get_by_label("Cookies from instagram.com")).to_be_visible()
    await check_layout(page)
    await page.keyboard.press("Escape")
    instagram.hold()
    await get_posts(
        page,
        *(REEL.format(f"reel-axe-{number}") for number in range(9)),
        "https://www.instagram.com/p/carousel-axe/",
        "https://example.com/" + "x" * 200,
    )
    await expect(page.locator("#summary")).to_have_text("0 of 11 done · 1 failed")
    await check_layout(page)
    instagram.release()
    await expect(tiles(page).first).to_have_attribute("aria-setsize", "10")
    # Only visible tiles are in the document.
    await page.evaluate("document.getElementById('gallery').scrollIntoView()")
    await expect(tiles(page)).to_have_count(10)
    await tile(page, "reel-axe-3").get_by_role("checkbox").check()
    await check_layout(page)
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("button", name="Undo")).to_be_visible()
    await check_layout(page)
    await tile(page, "carousel-axe").get_by_role("link").click()
    await expect(page.locator("#count")).to_have_text("1 / 3")
    await page.locator("#post-menu summary").click()
    await check_layout(page)


@pytest.mark.parametrize("look", LOOKS)
async def test_the_page_passes_axe_with_waiting_and_failed_posts(
    instagram: StandIn, start_service: StartService, new_page: NewPage, look: tuple[int, Any]
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="300", JOB_PATIENCE_SECONDS="3600")
    for source in ("api", "root", "web", "page", "embed"):
        instagram.override_answer(source, "limitedbare")
    page = await open_page(new_page, client, "/?q=nothing", look)
    await get_posts(page, REEL.format("reel-axe-1"), "https://example.com/1", REEL.format("x" * 60))
    await expect(page.locator("#summary")).to_contain_text("2 waiting")
    await expect(page.get_by_text("No posts match.")).to_be_visible()
    await page.route("**/events", lambda route: route.fulfill(status=502))
    for event in ("true", "false"):
        await page.evaluate(
            f"Object.defineProperty(document, 'hidden', {{ value: {event}, configurable: true }});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
    await expect(page.get_by_text("Reconnecting…")).to_be_visible()
    await check_layout(page)
