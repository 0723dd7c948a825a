"""The page's stored posts: searched, kept, scrolled through, and shown with what is known."""

import shutil

import pytest
from playwright.async_api import expect

from tests.browser.opening import REEL, Browse
from tests.conftest import Client, StartService
from tests.instagram import StandIn


async def store(client: Client, *shortcodes: str) -> None:
    for shortcode in shortcodes:
        body = {"url": REEL.format(shortcode)}
        async with client.post("/scrape", json=body) as response:
            assert response.status == 200


async def test_more_stored_posts_come_on_demand_and_by_scrolling(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, *(f"reel-{number}" for number in range(30)))
    async with browse(client) as page:
        posts, more = page.locator("#stored > li"), page.get_by_role("button", name="Show more")
        await expect(posts).to_have_count(12)
        await more.focus()
        await page.keyboard.press("Enter")
        await expect(posts).to_have_count(24)
        await page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        await expect(posts).to_have_count(30)
        await expect(more).to_be_hidden()
        names = await posts.locator(".name").all_text_contents()
        assert len(set(names)) == 30


async def test_the_search_finds_captions(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-findme", "reel-other")
    async with browse(client) as page:
        posts = page.locator("#stored > li")
        await expect(posts).to_have_count(2)
        search = page.get_by_label("Search captions and people")
        await search.press_sequentially("findme")
        await expect(posts).to_have_count(1)
        await expect(posts).to_contain_text("A caption for reel-findme")
        await search.fill("nobody ever wrote this")
        await expect(page.get_by_text("Nothing is found.")).to_be_visible()
        await search.fill("")
        await expect(posts).to_have_count(2)


async def test_a_star_keeps_a_post_and_kept_posts_can_be_shown_alone(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "reel-starred", "reel-plain")
    async with browse(client) as page:
        posts = page.locator("#stored > li")
        starred = posts.filter(has_text="reel-starred").first
        await expect(starred).to_contain_text("Stays until")
        await starred.get_by_role("button", name="☆ Keep").click()
        star = starred.get_by_role("button", name="★ Kept")
        await expect(star).to_have_attribute("aria-pressed", "true")
        await expect(starred).not_to_contain_text("Stays until")
        await page.get_by_label("Only kept posts").check()
        await expect(posts).to_have_count(1)
        async with client.get("/posts/reel-starred") as response:
            assert (await response.json())["kept"] is True
        await star.click()
        await expect(starred.get_by_role("button", name="☆ Keep")).to_be_visible()
        async with client.get("/posts/reel-starred") as response:
            assert (await response.json())["kept"] is False


async def test_new_posts_can_be_kept_at_once(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.get_by_label("Links").fill(REEL.format("reel-for-good"))
        await page.get_by_label("Keep these posts").check()
        await page.get_by_role("button", name="Get posts").click()
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")
    async with client.get("/posts/reel-for-good") as response:
        assert (await response.json())["kept"] is True


async def test_names_tags_and_links_of_a_caption_can_be_pressed(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "linked-caption")
    async with browse(client) as page:
        caption = page.locator("#stored .caption")
        await expect(caption).to_have_text(
            "By @some.one. and @b_2, #Grün #2026: https://example.com/a?b=(c). mail@example.com"
        )
        links = await caption.locator("a").evaluate_all("all => all.map(a => [a.text, a.href])")
        assert links == [
            ["@some.one", "https://www.instagram.com/some.one/"],
            ["@b_2", "https://www.instagram.com/b_2/"],
            ["#Grün", "https://www.instagram.com/explore/tags/Gr%C3%BCn/"],
            ["#2026", "https://www.instagram.com/explore/tags/2026/"],
            ["https://example.com/a?b=(c", "https://example.com/a?b=(c"],
        ]


async def test_what_instagram_tells_of_a_post_is_shown(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "carousel-details", "reel-details")
    async with client.get("/posts/carousel-details") as response:
        post = await response.json()
    alt = next(item["alt_text"] for item in post["media"] if item["type"] == "image")
    assert alt
    async with browse(client) as page:
        photo = page.locator("#stored > li", has_text="carousel-details").first
        await expect(photo.locator("img").first).to_have_attribute("alt", alt)
        await expect(photo.locator(".details")).to_contain_text("1,234 likes")
        await expect(photo.locator(".details")).to_contain_text("with co.author")
        await expect(photo.locator(".details")).to_contain_text(post["details"]["location"])
        video = page.locator("#stored > li", has_text="reel-details").first
        await expect(video.locator(".details")).to_contain_text("0:01")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
async def test_the_sound_of_a_video_can_be_played_and_saved(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(PLUGINS="scrapper.plugins.audio")
    await client.post("/scrape", json={"url": REEL.format("reel-1")})
    assert (await client.get("/download/reel-1?audio=1")).status == 200
    async with browse(client) as page:
        sound = page.locator(".media audio")
        await expect(sound).to_have_attribute("aria-label", "Sound 2 of 2, by someone")
        seconds = "audio => new Promise(end => { audio.onended = end; audio.play(); })"
        await sound.evaluate(seconds)
        async with page.expect_download() as saved:
            await page.get_by_role("button", name="Save sound").click()
        assert (await saved.value).suggested_filename == "reel-1.m4a"


async def test_a_missing_slide_moves_no_other_one_up(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await store(client, "oneslidegone-1")
    async with browse(client) as page:
        await expect(page.get_by_role("button", name="Save 2")).to_have_count(0)
        async with page.expect_download() as saved:
            await page.get_by_role("button", name="Save 3").click()
        assert (await saved.value).suggested_filename == "oneslidegone-1_3.jpg"
