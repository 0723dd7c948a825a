"""The page's list of downloads, which every open window shows."""

import re

from playwright.async_api import expect

from tests.browser.opening import REEL, Browse, get_posts, lines, tile, tiles
from tests.conftest import StartService, until
from tests.instagram import StandIn

ALL = ("api", "root", "web", "page", "embed")
FAILURES = {
    "https://example.com/": "This is not a link to an Instagram post. Copy the link from the "
    "post's share menu.",
    REEL.format("notfound-page"): "This post does not exist or was removed. Check the link.",
    REEL.format("forbidden-page"): "The post is private, or Instagram asks for a login to show "
    "it. Add an Instagram login in the settings of this page.",
    REEL.format("limited-page"): "Instagram asks this server to wait: try again in 17 s.",
}


async def test_a_progress_bar_only_grows(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.evaluate(
            """() => {
                window.seen = [];
                new MutationObserver(() => {
                    const bar = document.querySelector("#lines progress:not([hidden])");
                    if (bar) window.seen.push(bar.value);
                }).observe(document.body, { childList: true, subtree: true, attributes: true });
            }"""
        )
        await get_posts(page, REEL.format("steady-page"))
        await expect(tile(page, "steady-page")).to_be_visible()
        await expect(page.get_by_text("The post is ready.")).to_be_visible()
        await expect(page.locator("#running")).to_be_hidden()
        seen = await page.evaluate("window.seen")
    assert seen == sorted(seen)
    assert len(set(seen)) > 4


async def test_an_event_source_gets_progress_from_start_to_end(
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
            REEL.format("steady-source"),
        )
    assert (shares[0], shares[-1]) == (0, 1)
    assert len(set(shares)) > 4


async def test_every_window_shows_all_downloads(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    instagram.hold()
    urls = [REEL.format(f"reel-{number}") for number in range(40)]
    async with browse(client) as page, browse(client) as other:
        await get_posts(other, *urls)
        for window in (page, other):
            await expect(window.locator("#summary")).to_have_text("0 of 40 done")
            await expect(lines(window)).to_have_count(6)
            await expect(lines(window).first).to_contain_text("Downloading")
        box = await page.locator("#gallery").bounding_box()
        assert box
        assert box["y"] < 900
        await page.get_by_role("button", name="Show").click()
        queued = lines(page).last
        await expect(queued).to_contain_text("more")
        await queued.get_by_role("button", name="Cancel").click()
        await expect(lines(page).last).to_contain_text("Cancelled")
        instagram.release()
        for window in (page, other):
            await expect(window.locator("#summary")).to_be_empty()
            await expect(lines(window)).to_have_count(1)
        await expect(tiles(other)).not_to_have_count(0)
        await page.get_by_role("button", name="Clear finished").click()
        await expect(other.locator("#running")).to_be_hidden()


async def test_failures_give_advice_and_survive_a_reload(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await get_posts(page, *FAILURES)
        toast = page.get_by_role("alert")
        await expect(toast).to_contain_text("4 of 4 posts failed")
        await page.reload()
        for place, words in enumerate(FAILURES.values()):
            await expect(lines(page).nth(place).locator(".state")).to_have_text(words)
        # Only the post that hit a limit can succeed on a retry.
        await expect(page.get_by_role("button", name="Retry: Reel limited-page")).to_be_visible()
        await expect(page.get_by_role("button", name="Retry")).to_have_count(1)
        await page.get_by_role("button", name="Add a login: Reel forbidden-page").click()
        await expect(page.get_by_role("heading", name="Instagram login")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Clear finished").click()
        await expect(page.locator("#running")).to_be_hidden()
        await page.reload()
        await expect(page.get_by_text("Nothing here yet")).to_be_visible()
        await expect(page.locator("#running")).to_be_hidden()


async def test_failed_posts_can_be_retried_singly_and_together(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    for source in ALL:
        instagram.override_answer(source, "limitedbare")
    async with browse(client) as page:
        await get_posts(page, *(REEL.format(f"reel-again-{number}") for number in range(3)))
        await expect(page.locator("#summary")).to_have_text("3 failed")
        instagram.reset()
        await page.get_by_role("button", name="Retry: Reel reel-again-1").click()
        await expect(tile(page, "reel-again-1")).to_be_visible()
        await expect(page.locator("#summary")).to_have_text("2 failed")
        await page.get_by_role("button", name="Retry all").click()
        await expect(tiles(page)).to_have_count(3)
        await expect(page.locator("#running")).to_be_hidden()


async def test_a_waiting_post_shows_when_it_resumes(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="300", JOB_PATIENCE_SECONDS="3600")
    for source in ALL:
        instagram.override_answer(source, "limitedbare")
    async with browse(client) as page:
        await get_posts(page, REEL.format("reel-later"))
        state = lines(page).locator(".state")
        waiting = re.compile(r"^Waiting until [0-9]{2}:[0-9]{2}.* because a limit was reached$")
        await expect(state).to_have_text(waiting)
        await expect(page.locator("#summary")).to_have_text("0 of 1 done · 1 waiting")
        await page.get_by_role("button", name="Cancel").click()
        await expect(state).to_have_text("Cancelled")


async def test_the_page_shows_when_the_server_is_unreachable(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await expect(page.get_by_text("Nothing here yet")).to_be_visible()
        ended: list[str] = []
        page.on("requestfailed", lambda request: ended.append(request.url))
        hide = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true });"
        change = "document.dispatchEvent(new Event('visibilitychange'))"
        # A hidden window closes its stream.
        await page.evaluate(hide % "true" + change)
        await until(lambda: any(url.endswith("/events") for url in ended))
        await page.route("**/events", lambda route: route.fulfill(status=502))
        await page.evaluate(hide % "false" + change)
        await expect(page.get_by_text("Reconnecting…")).to_be_visible()
        await client.post("/jobs", json={"urls": [REEL.format("reel-meanwhile")]})
        await page.unroute("**/events")
        await expect(tile(page, "reel-meanwhile")).to_be_visible()
        await expect(page.get_by_text("Reconnecting…")).to_be_hidden()
