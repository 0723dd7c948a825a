"""The page's gallery: scrolling, searching, selecting and deleting."""

import asyncio
from pathlib import Path

from playwright.async_api import expect

from tests.bench.table import multiply
from tests.browser.opening import REEL, Browse, get_posts, stop_clock, store, tile, tiles
from tests.conftest import Client, StartService
from tests.instagram import StandIn


async def test_only_a_few_of_many_tiles_are_in_the_document(
    instagram: StandIn, start_service: StartService, browse: Browse, media_root: Path
) -> None:
    seed = await start_service()
    await store(seed, "reel-seed")
    await asyncio.to_thread(multiply, media_root, 400)
    await seed.close()
    client = await start_service()
    async with browse(client) as page:
        await expect(tile(page, "copy-398")).to_be_visible()
        most, end = 0, "document.documentElement.scrollHeight"
        await expect(page.get_by_text("400 posts")).to_be_visible()
        while not await tile(page, "reel-seed").is_visible():
            await page.evaluate(f"scrollTo(0, {end})")
            most = max(most, await tiles(page).count())
        assert 20 < most < 80
        # Each tile has two tab stops. The next tile must be added before the focus reaches it.
        await page.evaluate("scrollTo(0, 0)")
        await page.locator("[aria-posinset='28']").get_by_role("link").focus()
        for _ in range(26):
            await page.keyboard.press("Tab")
        focused = "document.activeElement.closest('[data-shortcode]').ariaPosInSet"
        assert await page.evaluate(focused) == "41"


async def test_the_search_and_filters_are_in_the_address(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-findme", "reel-other")
    async with client.post("/scrape", json={"url": "https://www.instagram.com/p/carousel-1/"}):
        pass
    await client.put("/posts/reel-other/keep")
    async with browse(client) as page:
        await expect(tiles(page)).to_have_count(3)
        await expect(page.get_by_text("3 posts,")).to_be_visible()
        await page.get_by_label("Type").select_option("carousel")
        await expect(tiles(page)).to_have_count(1)
        await expect(tile(page, "carousel-1")).to_contain_text("3")
        await page.go_back()
        await expect(tiles(page)).to_have_count(3)
        search = page.get_by_role("searchbox")
        await search.press_sequentially("findme")
        await expect(tiles(page)).to_have_count(1)
        await expect(tile(page, "reel-findme")).to_be_visible()
        await page.reload()
        await expect(search).to_have_value("findme")
        await expect(tiles(page)).to_have_count(1)
        await search.fill(f"look: {REEL.format('reel-other')}?igsh=1")
        await expect(tile(page, "reel-other")).to_be_visible()
        await search.fill("nobody ever wrote this")
        await expect(page.get_by_text("No posts match.")).to_be_visible()
        await page.get_by_role("button", name="Clear filters").click()
        await expect(tiles(page)).to_have_count(3)
        await page.get_by_label("Person").fill("nobody")
        await expect(page.get_by_text("No posts match.")).to_be_visible()
        await page.get_by_label("Person").fill("@someone")
        await page.get_by_label("Kept").check()
        await expect(tiles(page)).to_have_count(1)
        assert "owner=someone&kept=true" in page.url
        await page.get_by_label("Order").select_option("taken")
        await expect(tile(page, "reel-other")).to_be_visible()


async def test_an_unchanged_tile_is_not_redrawn(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-stays")
    async with browse(client) as page:
        await tile(page, "reel-stays").evaluate("tile => { tile.dataset.marked = 'yes'; }")
        await get_posts(page, REEL.format("reel-comes"))
        await expect(tiles(page)).to_have_count(2)
        await expect(tiles(page).first).to_have_attribute("data-shortcode", "reel-comes")
        await expect(page.locator("#grid [data-marked=yes]")).to_have_count(1)


async def exists(client: Client, shortcode: str) -> bool:
    async with client.get(f"/posts/{shortcode}") as response:
        return response.status == 200


async def test_deletion_can_be_undone_and_is_cancelled_by_leaving(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-stays", "reel-goes")
    async with browse(client) as page:
        goes = tile(page, "reel-goes")
        await goes.get_by_role("checkbox").check()
        await stop_clock(page)
        delete = page.get_by_role("button", name="Delete")
        await delete.click()
        await expect(goes).to_have_count(0)
        await page.get_by_role("button", name="Undo").click()
        await expect(goes).to_be_visible()
        await goes.get_by_role("checkbox").check()
        await delete.click()
        await page.clock.run_for(7000)
        assert await exists(client, "reel-goes")
        await page.clock.resume()
        await page.reload()
        await expect(goes).to_be_visible()
        await goes.get_by_role("checkbox").check()
        async with page.expect_response("**/posts/bulk"):
            await page.keyboard.press("Delete")
            await expect(goes).to_have_count(0)
            await page.clock.fast_forward(9000)
        assert not await exists(client, "reel-goes")
        await expect(tiles(page)).to_have_count(1)


async def test_many_selected_posts_are_saved_and_kept(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, *(f"reel-{number}" for number in range(4)))
    async with browse(client) as page:
        first = tiles(page).first
        await first.get_by_role("link").click(modifiers=["Control"])
        await tiles(page).nth(2).get_by_role("link").click(modifiers=["Shift"])
        await expect(page.get_by_text("3 selected")).to_be_visible()
        async with page.expect_download() as download:
            await page.get_by_role("button", name="ZIP").click()
        assert (await download.value).suggested_filename.endswith(".zip")
        await page.keyboard.press("Escape")
        await expect(page.locator("#selection")).to_be_hidden()
        await first.get_by_role("link").focus()
        await page.keyboard.press("Control+a")
        await expect(page.get_by_text("4 selected")).to_be_visible()
        await page.get_by_role("button", name="Keep", exact=True).click()
        await expect(page.get_by_text("4 posts kept")).to_be_visible()
        for number in range(4):
            async with client.get(f"/posts/reel-{number}") as response:
                assert (await response.json())["kept"] is True


async def test_a_removed_post_is_deselected(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-stays", "reel-goes")
    async with browse(client) as page:
        await tile(page, "reel-goes").get_by_role("checkbox").check()
        await tile(page, "reel-stays").get_by_role("checkbox").check()
        await client.delete("/posts/reel-goes")
        await expect(page.get_by_text("1 selected")).to_be_visible()
        await client.delete("/posts/reel-stays")
        await expect(page.locator("#selection")).to_be_hidden()


async def test_a_tap_selects_after_a_long_press(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-0", "reel-1")
    phone = {"has_touch": True, "is_mobile": True, "viewport": {"width": 390, "height": 800}}
    async with browse(client, **phone) as page:
        link = tiles(page).first.get_by_role("link")
        point = {"pointerType": "touch", "clientX": 50, "clientY": 50, "bubbles": True}
        await link.dispatch_event("pointerdown", point)
        await expect(page.get_by_text("1 selected")).to_be_visible()
        await link.dispatch_event("pointerup", point)
        await link.dispatch_event("click")
        await expect(page.get_by_text("1 selected")).to_be_visible()
        await tiles(page).nth(1).get_by_role("link").tap()
        await expect(page.get_by_text("2 selected")).to_be_visible()


async def test_the_keyboard_reaches_posts_below_the_window(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-below")
    async with browse(client, viewport={"width": 640, "height": 240}) as page:
        await expect(tile(page, "reel-below")).to_be_attached()
        await page.get_by_label("Kept").focus()
        await page.keyboard.press("Tab")
        await expect(tile(page, "reel-below").get_by_role("link")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
