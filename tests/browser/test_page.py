"""The page, in a real browser: Debian's Chromium."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.opening import DONE_SECONDS, REEL, Browse, get_posts
from tests.conftest import StartService
from tests.instagram import StandIn
from tests.service.handlers.test_login import cookies_txt

CAROUSEL = "https://www.instagram.com/p/carousel-page/"


async def plays(page: Page, selector: str) -> None:
    """Wait until the browser has read what it needs to play the video there."""
    await expect(page.locator(selector).first).not_to_have_js_property("readyState", 0)


async def test_a_pasted_link_becomes_a_video_with_caption_and_download(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client, permissions=["clipboard-read", "clipboard-write"]) as page:
        await expect(page.get_by_text("Nothing is stored yet.")).to_be_visible()
        await get_posts(page, "look at this: " + REEL.format("reel-page"))
        downloads = page.locator("#progress")
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")
        await expect(downloads.get_by_text("A caption for reel-page")).to_be_visible()
        await plays(page, "#progress video")
        await downloads.get_by_role("button", name="Copy caption").click()
        await expect(downloads.get_by_role("button", name="Copied")).to_be_visible()
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied == "A caption for reel-page"
        async with page.expect_download() as download:
            await downloads.get_by_role("button", name="Save").click()
        saved = await download.value
        assert saved.suggested_filename == "reel-page.mp4"
        await expect(page.locator("#stored").get_by_text("reel-page").first).to_be_visible()


async def test_the_bar_goes_from_nothing_to_all(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.evaluate(
            """() => {
                window.seen = [];
                new MutationObserver(() => {
                    const bar = document.querySelector("#progress progress");
                    if (bar) window.seen.push(bar.value);
                }).observe(document.body, { childList: true, subtree: true, attributes: true });
            }"""
        )
        await get_posts(page, REEL.format("slow-page"))
        await expect(page.locator("#summary")).to_have_text(
            "1 of 1 done", timeout=DONE_SECONDS * 1000
        )
        seen = await page.evaluate("window.seen")
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 1)
    assert len(set(seen)) > 4


async def test_an_event_source_sees_progress_from_nothing_to_all(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        shares = await page.evaluate(
            """async (url) => {
                const body = JSON.stringify({ urls: [url] });
                const job = await (await fetch("/jobs", { method: "POST", body })).json();
                const shares = [];
                await new Promise((resolve) => {
                    const source = new EventSource(`/jobs/${job.id}/events`);
                    source.addEventListener("post", ({ data }) => {
                        const post = JSON.parse(data);
                        shares.push(post.bytes_total ? post.bytes_done / post.bytes_total : 0);
                    });
                    source.addEventListener("end", () => { source.close(); resolve(); });
                });
                return shares;
            }""",
            REEL.format("slow-source"),
        )
    assert (shares[0], shares[-1]) == (0, 1)
    assert len(set(shares)) > 4


async def test_a_carousel_shows_all_its_files_and_saves_them_together(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await get_posts(page, CAROUSEL)
        media = page.locator("#progress .media > *")
        await expect(media).to_have_count(3)
        async with page.expect_download() as download:
            await page.locator("#progress").get_by_role("button", name="Save all as ZIP").click()
        assert (await download.value).suggested_filename == "carousel-page.zip"
        async with page.expect_download() as download:
            await page.locator("#progress").get_by_role("button", name="Save 2").click()
        assert (await download.value).suggested_filename == "carousel-page_2.mp4"


@pytest.mark.parametrize(
    ("link", "told"),
    [
        (REEL.format("notfound-page"), "This post does not exist, or was removed: check the link."),
        (REEL.format("limited-page"), "Instagram asks to wait: try again in 17 s."),
        (
            "https://example.com/",
            "This is not the link of an Instagram post: copy it from the post's share menu.",
        ),
        (
            REEL.format("forbidden-page"),
            (
                "The post is private, or Instagram asks for a login to show it. "
                "The operator of this server can add a login."
            ),
        ),
    ],
)
async def test_a_failure_says_what_to_do_next(
    instagram: StandIn, start_service: StartService, browse: Browse, link: str, told: str
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await get_posts(page, link)
        await expect(page.locator("#progress .error")).to_have_text(told)
        await expect(page.locator("#summary")).to_have_text("0 of 1 done, 1 failed")


async def test_the_key_becomes_a_session_that_no_script_can_read(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(API_KEY="s3cret")
    async with browse(client) as page:
        notice = page.get_by_role("alert").first
        await expect(notice).to_contain_text("The API key is missing or wrong")
        key = page.get_by_label("Key, if this server asks for one")
        await expect(key).to_be_focused()
        await key.fill("s3cret")
        await get_posts(page, REEL.format("reel-key"))
        await expect(notice).to_be_hidden()
        await plays(page, "#progress video")
        async with page.expect_download() as download:
            await page.locator("#progress").get_by_role("button", name="Save").click()
        assert (await download.value).suggested_filename == "reel-key.mp4"
        await expect(key).to_have_value("")
        storage = await page.evaluate("JSON.stringify(localStorage) + document.cookie")
        assert storage == '{"signed-in":"yes"}'
        [cookie] = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)
        stay = page.get_by_label("Stay signed in for 30 days")
        await page.locator("#key-box summary").click()
        async with page.expect_response("**/session"):
            await stay.check()
        assert (await page.context.cookies())[0]["expires"] > 0
        await page.reload()
        await plays(page, "#stored video")
        await page.locator("#key-box summary").click()
        # The cookie alone renews nothing: the key is asked for.
        await stay.set_checked(not await stay.is_checked())
        await expect(key).to_be_focused()
        await key.fill("s3cret")
        async with page.expect_response("**/session"):
            await page.keyboard.press("Enter")
        await expect(key).to_have_value("")
        lasts = (await page.context.cookies())[0]["expires"] > 0
        assert lasts is await stay.is_checked()
        await page.locator("#key-box summary").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(notice).to_be_visible()
        assert await page.context.cookies() == []
        assert await page.evaluate("JSON.stringify(localStorage)") == "{}"


async def test_with_a_key_a_stored_video_is_not_read_whole(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(API_KEY="s3cret")
    url = "https://www.instagram.com/reel/big-page/"
    body, headers = {"url": url}, {"X-API-Key": "s3cret"}
    assert (await client.post("/scrape", json=body, headers=headers)).status == 200
    async with browse(client) as page:
        key = page.get_by_label("Key, if this server asks for one")
        await expect(key).to_be_focused()
        async with page.expect_response("**/media/big-page/big-page.mp4") as asked:
            await key.fill("s3cret")
            await page.keyboard.press("Tab")
        assert (await asked.value).status == 206
        await plays(page, "#stored video")


async def test_a_card_that_is_still_right_is_not_drawn_anew(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    await client.post("/scrape", json={"url": REEL.format("reel-stays")})
    async with browse(client) as page:
        await plays(page, "#stored video")
        await page.evaluate("document.querySelector('#stored video').dataset.mine = 'yes'")
        await get_posts(page, REEL.format("reel-comes"))
        await expect(page.locator("#stored > li")).to_have_count(2)
        await expect(page.locator("#stored > li").first).to_contain_text("reel-comes")
        await expect(page.locator("#stored video[data-mine=yes]")).to_have_count(1)


async def test_links_that_are_refused_stay_and_those_that_were_taken_go_on(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="100", RATE_LIMIT_WINDOW_SECONDS="3600")
    links = [REEL.format(f"reel-many-{number}") for number in range(101)]
    async with browse(client) as page:
        await get_posts(page, *links)
        await expect(page.get_by_role("alert")).to_contain_text("This server limits")
        await expect(page.get_by_label("Links")).to_have_value(links[100])
        await expect(page.locator("#summary")).to_have_text(
            "100 of 100 done", timeout=DONE_SECONDS * 1000
        )


async def test_a_post_that_cannot_be_shown_says_so_where_it_should_be(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.route("**/posts/reel-hidden", lambda route: route.fulfill(status=503))
        await get_posts(page, REEL.format("reel-hidden"))
        await expect(page.locator("#progress .error")).to_contain_text("try again later")
        await expect(page.locator("#progress .state")).to_have_text("Done")


async def test_progress_goes_on_after_a_gateway_s_errors(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.route("**/events", lambda route: route.fulfill(status=502), times=1)
        await get_posts(page, REEL.format("reel-gateway"))
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")


async def test_a_link_ends_before_the_sentence_does(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await get_posts(page, f"(See {REEL.format('reel-stop').rstrip('/')}).")
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")


async def test_a_stored_post_is_deleted_after_a_question(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    for shortcode in ("reel-stays", "reel-goes"):
        await client.post("/scrape", json={"url": REEL.format(shortcode)})
    async with browse(client) as page:
        goes = page.locator("#stored > li", has_text="reel-goes").first
        page.once("dialog", lambda dialog: dialog.dismiss())
        await goes.get_by_role("button", name="Delete").click()
        assert (await client.get("/posts/reel-goes")).status == 200
        page.once("dialog", lambda dialog: dialog.accept())
        await goes.get_by_role("button", name="Delete").click()
        await expect(page.locator("#stored > li")).to_have_count(1)
        focused = "document.activeElement.closest('#stored') !== null"
        assert await page.evaluate(focused)
    assert (await client.get("/posts/reel-goes")).status == 404


async def test_whoever_has_the_key_can_change_the_login(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(API_KEY="s3cret")
    async with browse(client) as page:
        card = page.get_by_role("region", name="Instagram login")
        await expect(card).to_be_hidden()
        key = page.get_by_label("Key, if this server asks for one")
        await expect(key).to_be_focused()
        await key.fill("s3cret")
        await page.keyboard.press("Tab")
        await expect(card.get_by_role("status")).to_contain_text("Logged out")
        await card.get_by_text("Change it").click()
        cookies = card.get_by_label("Cookies of instagram.com")
        await cookies.fill(cookies_txt("expired"))
        await card.get_by_role("button", name="Use these cookies").click()
        await expect(card.get_by_role("alert")).to_contain_text("does not accept this session")
        await cookies.fill("1%3Aalive%3A12")
        await card.get_by_role("button", name="Use these cookies").click()
        await expect(card.get_by_role("status")).to_contain_text("Logged in as alive.user since")
        await expect(cookies).to_have_value("")
        await card.get_by_text("Change it").click()
        await card.get_by_role("button", name="Forget the login").click()
        await expect(card.get_by_role("status")).to_contain_text("Logged out")
    assert instagram.requests("account") == 2


async def test_the_keyboard_is_enough(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.keyboard.press("Tab")
        await page.keyboard.type(REEL.format("reel-keyboard"))
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_overflows(
    instagram: StandIn, start_service: StartService, browse: Browse, width: int, scheme: str
) -> None:
    client = await start_service()
    long = "removed-" + "x" * 50
    async with browse(
        client, viewport={"width": width, "height": 800}, color_scheme=scheme
    ) as page:
        await get_posts(page, CAROUSEL, REEL.format("emoji-page"), REEL.format(long))
        await expect(page.locator("#summary")).to_have_text("2 of 3 done, 1 failed")
        await expect(page.locator("#stored .caption")).to_have_count(2)
        room = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(room) == 0
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 3 * 128) == (scheme == "dark")


async def test_media_opens_in_a_tab_of_its_own(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    for shortcode in ("reel-tab", "photo-tab"):
        await client.post("/scrape", json={"url": REEL.format(shortcode)})
    async with browse(client) as page:
        await page.goto(str(client.make_url("/media/reel-tab/reel-tab.mp4")))
        await plays(page, "video")
        await page.goto(str(client.make_url("/media/photo-tab/photo-tab.jpg")))
        await expect(page.locator("img")).to_have_js_property("naturalWidth", 320)
