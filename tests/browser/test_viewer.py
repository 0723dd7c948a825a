"""The page's viewer, which shows one post and its actions."""

import asyncio
import shutil

import pytest
from playwright.async_api import Page, expect

from tests.browser.opening import CLIPBOARD, REEL, Browse, plays, store, tile, tiles
from tests.conftest import Client, StartService
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS

CAROUSEL = "https://www.instagram.com/p/{}/"
PHONE = {"has_touch": True, "is_mobile": True, "viewport": {"width": 390, "height": 800}}
SHARES = """() => {
window.shared = [];
navigator.canShare = ({ files }) => files.length > 0;
navigator.share = async ({ files }) => { window.shared.push(files[0].name, files[0].size); };
}"""


async def scrape(client: Client, shortcode: str) -> None:
    async with client.post("/scrape", json={"url": CAROUSEL.format(shortcode)}) as response:
        assert response.status == 200


async def open_tile(page: Page, shortcode: str) -> None:
    await tile(page, shortcode).get_by_role("link").click()
    await expect(page.get_by_role("dialog")).to_be_visible()


async def saved_name(page: Page) -> str:
    """Click *Save*, and return the name of the downloaded file."""
    async with page.expect_download() as saved:
        await page.get_by_role("button", name="Save", exact=True).click()
    return (await saved.value).suggested_filename


async def test_a_click_opens_the_post_with_its_actions(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-page")
    async with browse(client, permissions=CLIPBOARD) as page:
        await open_tile(page, "reel-page")
        await plays(page.locator("#media video"))
        await expect(page.locator("#file-facts")).to_contain_text("Video · 0:01 ·")
        await expect(page.locator("#stays")).to_contain_text("unless kept")
        await expect(page.locator("#facts")).to_contain_text("Stored")
        assert await saved_name(page) == "reel-page.mp4"
        for label, copied in (
            ("Copy caption", "A caption for reel-page"),
            ("Copy link", REEL.format("reel-page")),
        ):
            await page.locator("#post-menu summary").click()
            await page.get_by_role("button", name=label).click()
            await expect(page.get_by_text("Copied").last).to_be_visible()
            assert await page.evaluate("navigator.clipboard.readText()") == copied
        requests = instagram.requests()
        await page.locator("#post-menu summary").click()
        await page.get_by_role("button", name="Fetch again").click()
        await expect(page.get_by_text("Fetched again")).to_be_visible()
        assert instagram.requests() > requests
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(tile(page, "reel-page").get_by_role("link")).to_be_focused()


async def test_the_star_keeps_and_releases_a_post(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-starred")
    async with browse(client, "/?post=reel-starred") as page:
        for label, kept in (("Keep", True), ("Kept", False)):
            await page.get_by_role("button", name=label, exact=True).click()
            star = page.locator(f"#keep-post[aria-pressed={str(kept).lower()}]")
            await expect(star).to_be_visible()
            stays = "Kept: never removed automatically" if kept else "unless kept"
            await expect(page.locator("#stays")).to_contain_text(stays)
            await expect(page.locator("#facts")).to_contain_text("Stored")
            async with client.get("/posts/reel-starred") as response:
                assert (await response.json())["kept"] is kept


async def test_a_carousel_can_be_browsed_and_saved(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-before")
    await scrape(client, "carousel-page")
    async with client.get("/posts/carousel-page") as response:
        post = await response.json()
    alt = next(item["alt_text"] for item in post["media"] if item["type"] == "image")
    async with browse(client) as page:
        await open_tile(page, "carousel-page")
        count = page.locator("#count")
        await expect(count).to_have_text("1 / 3")
        await expect(page.locator("#media img")).to_have_attribute("alt", alt)
        await expect(page.locator("#facts")).to_contain_text("1,234 likes")
        await expect(page.locator("#facts")).to_contain_text("co.author")
        await expect(page.locator("#facts")).to_contain_text(post["details"]["location"])
        await page.keyboard.press("ArrowRight")
        await expect(count).to_have_text("2 / 3")
        assert await saved_name(page) == "carousel-page_2.mp4"
        await page.locator("#post-menu summary").click()
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Save all as ZIP").click()
        assert (await download.value).suggested_filename == "carousel-page.zip"
        await page.get_by_role("button", name="Picture 3 of 3").click()
        assert page.url.endswith("?post=carousel-page&slide=3")
        await page.get_by_role("button", name="Next").click()
        await expect(page.get_by_role("dialog")).to_contain_text("A caption for reel-before")
        await page.keyboard.press("ArrowLeft")
        await expect(count).to_have_text("1 / 3")
        await page.go_back()
        await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_a_missing_slide_does_not_renumber_the_others(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "oneslidegone-1")
    async with browse(client, "/?post=oneslidegone-1&slide=2") as page:
        await expect(page.locator("#count")).to_have_text("2 / 2")
        assert await saved_name(page) == "oneslidegone-1_3.jpg"


async def test_names_tags_and_urls_in_a_caption_are_links(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "linked-caption")
    async with browse(client, "/?post=linked-caption") as page:
        caption = page.locator("#caption")
        await expect(caption).to_have_text(
            "By @some.one. and @b_2, #Grün #2026: https://example.com/a?b=(c). mail@example.com"
        )
        links = await caption.locator("a").evaluate_all("all => all.map(a => [a.text, a.href])")
        assert links == [
            ["@some.one", "https://www.instagram.com/some.one/"],
            ["@b_2", "https://www.instagram.com/b_2/"],
            ["#Grün", "https://www.instagram.com/explore/tags/Gr%C3%BCn/"],
            ["#2026", "https://www.instagram.com/explore/tags/2026/"],
            ["https://example.com/a?b=(c)", "https://example.com/a?b=(c)"],
        ]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
async def test_the_sound_of_a_video_can_be_played_and_saved(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(PLUGINS="scrapper.plugins.audio")
    await store(client, "reel-1")
    assert (await client.get("/download/reel-1?audio=1")).status == 200
    async with browse(client, "/?post=reel-1&slide=2") as page:
        sound = page.locator("#media audio")
        await expect(sound).to_have_attribute("aria-label", "Audio 2 of 2, by someone")
        await sound.evaluate("audio => new Promise(end => { audio.onended = end; audio.play(); })")
        assert await saved_name(page) == "reel-1.m4a"


async def test_a_phone_can_swipe_and_save_through_its_share_sheet(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await scrape(client, "carousel-shared")
    async with browse(client, **PHONE) as page:
        await page.evaluate(SHARES)
        async with page.expect_response("**/media/carousel-shared/carousel-shared_1.jpg"):
            await tile(page, "carousel-shared").get_by_role("link").tap()
        save = page.get_by_role("button", name="Save", exact=True)
        # A tap before the file is loaded starts a plain download instead.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await page.evaluate("window.shared.length"):
                await save.tap()
        name, size = (await page.evaluate("window.shared"))[:2]
        async with client.get("/posts/carousel-shared") as response:
            post = await response.json()
        assert (name, size) == ("carousel-shared_1.jpg", post["media"][0]["size"])
        for event, x in (("pointerdown", 300), ("pointerup", 100)):
            await page.locator("#media").dispatch_event(
                event,
                {
                    "pointerType": "touch",
                    "isPrimary": True,
                    "clientX": x,
                    "clientY": 300,
                    "bubbles": True,
                },
            )
        await expect(page.locator("#count")).to_have_text("2 / 3")


async def test_a_missing_post_shows_an_error(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client, "/?post=unknown") as page:
        await expect(page.get_by_role("alert")).to_contain_text("This post is no longer stored")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        assert page.url == str(client.make_url("/"))


async def test_deletion_in_the_viewer_shows_the_next_post(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-stays", "reel-goes")
    async with browse(client) as page:
        await open_tile(page, "reel-goes")
        await page.locator("#post-menu summary").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(page.locator("#caption")).to_have_text("A caption for reel-stays")
        await expect(tiles(page)).to_have_count(1)
        await page.get_by_role("button", name="Undo").click()
        await page.keyboard.press("Escape")
        await expect(tiles(page)).to_have_count(2)


async def test_one_click_shows_all_posts_of_a_person(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-mine")
    async with browse(client, "/?post=reel-mine&kept=false") as page:
        await page.locator("#post-menu summary").click()
        await page.get_by_role("button", name="All posts by this person").click()
        await expect(page.get_by_label("Person")).to_have_value("someone")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(tiles(page)).to_have_count(1)


async def test_media_opens_in_its_own_tab(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-tab", "photo-tab")
    async with browse(client) as page:
        await page.goto(str(client.make_url("/media/reel-tab/reel-tab.mp4")))
        await plays(page.locator("video"))
        await page.goto(str(client.make_url("/media/photo-tab/photo-tab.jpg")))
        await expect(page.locator("img")).to_have_js_property("naturalWidth", 320)


async def test_the_whole_menu_is_visible_on_a_phone(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await scrape(client, "carousel-page")
    async with browse(client, **PHONE | {"viewport": {"width": 320, "height": 600}}) as page:
        await open_tile(page, "carousel-page")
        summary = page.locator("#post-menu summary")
        tops = "all => all.map((each) => each.getBoundingClientRect().top)"
        assert len(set(await page.locator("#save, #post-menu summary").evaluate_all(tops))) == 1
        await summary.click()
        for button in await page.locator("#post-menu button").all():
            await expect(button).to_be_in_viewport(ratio=1)
