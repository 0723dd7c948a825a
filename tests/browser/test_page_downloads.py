"""The page's batches: what waits, what failed, and what a reload leaves of them."""

import asyncio
import re

from playwright.async_api import Page, expect

from tests.browser.opening import REEL, Browse, get_posts
from tests.conftest import StartService
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS

ALL = ("api", "root", "web", "page", "embed")


async def nothing_is_kept(page: Page) -> None:
    """Wait until the page has forgotten its batch; fail after the tests' time limit."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        # Not by wait_for_function: it calls eval in the page, whose policy forbids that.
        while await page.evaluate("localStorage.getItem('jobs')") is not None:
            await page.wait_for_timeout(10)


async def test_what_failed_can_be_tried_again_and_its_link_be_copied(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    for source in ALL:
        instagram.turn_off(source, "limitedbare")
    async with browse(client, permissions=["clipboard-read", "clipboard-write"]) as page:
        await get_posts(page, REEL.format("reel-again"))
        row = page.locator("#progress > li")
        await expect(row.locator(".error")).to_be_visible()
        await row.get_by_role("button", name="Copy link").click()
        await expect(row.get_by_role("button", name="Copied")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == REEL.format("reel-again")
        instagram.reset()
        await row.get_by_role("button", name="Retry").click()
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")
        await expect(row.get_by_text("A caption for reel-again")).to_be_visible()
        await expect(row.get_by_role("button", name="Retry")).to_have_count(0)
        await expect(row).to_have_count(1)


async def test_all_that_failed_can_be_tried_again_at_once(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    for source in ALL:
        instagram.turn_off(source, "limitedbare")
    async with browse(client) as page:
        await get_posts(page, *(REEL.format(f"reel-all-{number}") for number in range(3)))
        await expect(page.locator("#summary")).to_have_text("0 of 3 done, 3 failed")
        instagram.reset()
        await page.get_by_role("button", name="Retry all that failed").click()
        await expect(page.locator("#summary")).to_have_text("3 of 3 done")
        await expect(page.locator("#progress > li")).to_have_count(3)
        await expect(page.get_by_role("button", name="Retry all that failed")).to_be_hidden()


async def test_a_post_that_waits_says_until_when(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="300", JOB_PATIENCE_SECONDS="3600")
    for source in ALL:
        instagram.turn_off(source, "limitedbare")
    async with browse(client) as page:
        await get_posts(page, REEL.format("reel-later"))
        state = page.locator("#progress .state")
        await expect(state).to_have_text(re.compile(r"^Waiting until [0-9]{2}:[0-9]{2}$"))
        await expect(page.locator("#summary")).to_have_text("0 of 1 done, 1 waiting")


async def test_a_running_batch_is_there_again_after_a_reload(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    instagram.hold()
    async with browse(client) as page:
        await get_posts(page, REEL.format("reel-reload"), REEL.format("notfound-reload"))
        await expect(page.locator("#progress > li")).to_have_count(2)
        await page.reload()
        await expect(page.locator("#progress > li")).to_have_count(2)
        instagram.release()
        await expect(page.locator("#summary")).to_have_text("1 of 2 done, 1 failed")
        await nothing_is_kept(page)
        await page.reload()
        await expect(page.locator("#stored > li")).to_have_count(1)
        await expect(page.locator("#batch")).to_be_hidden()


async def test_a_batch_that_the_server_forgot_is_forgotten(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.evaluate("localStorage.setItem('jobs', 'unknown')")
        await page.reload()
        await nothing_is_kept(page)
        await expect(page.locator("#notice")).to_be_hidden()


async def test_links_stay_in_the_field_until_they_are_accepted(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.route("**/jobs", lambda route: route.fulfill(status=503))
        await get_posts(page, REEL.format("reel-stays-here"))
        await expect(page.get_by_role("alert")).to_contain_text("try again later")
        await expect(page.get_by_label("Links")).to_have_value(REEL.format("reel-stays-here"))
