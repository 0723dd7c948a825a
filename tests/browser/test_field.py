"""The page's field for links, in a real browser, and links from other apps."""

import json
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import pytest
from playwright.async_api import Page, expect

from tests.browser.opening import (
    CLIPBOARD,
    REEL,
    Browse,
    get_posts,
    lines,
    paste,
    stop_clock,
    tile,
    tiles,
)
from tests.conftest import StartService
from tests.instagram import StandIn

LINK = REEL.format("reel-shared")
NO_POSTS = [f"https://example.com/{number}" for number in range(101)]


async def test_pasted_links_are_sent_unless_undone(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    text = f"look: {REEL.format('reel-one')} and instagram.com/p/photo-two!"
    async with browse(client, permissions=CLIPBOARD) as page:
        field = page.get_by_label("Links", exact=True)
        await expect(field).to_be_focused()
        await stop_clock(page)
        await paste(page, text)
        await expect(page.get_by_text("Getting 2 posts…")).to_be_visible()
        await expect(field).to_have_value("")
        await page.get_by_role("button", name="Undo").click()
        await expect(field).to_have_value(text)
        # A line that was drawn before is removed by a timer.
        await page.clock.run_for(1000)
        await expect(lines(page)).to_have_count(0)
        await field.fill("")
        await page.get_by_role("button", name="Paste").click()
        # The browser reads the clipboard while the page's clock is stopped.
        await expect(page.get_by_text("Getting 2 posts…")).to_be_visible()
        await page.clock.run_for(4000)
        await expect(lines(page)).to_contain_text("To be sent")
        assert instagram.requests() == 0
        await page.clock.run_for(2000)
        await page.clock.resume()
        await expect(tiles(page)).to_have_count(2)


async def test_leaving_the_page_sends_a_pasted_link(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client, permissions=CLIPBOARD) as page:
        await page.clock.install()
        await paste(page, LINK)
        await expect(lines(page)).to_contain_text("To be sent")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(tile(page, "reel-shared")).to_be_visible()


async def test_the_keyboard_alone_sends_several_lines(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await expect(page.get_by_label("Links", exact=True)).to_be_focused()
        await page.keyboard.type(f"(See {REEL.format('reel-stop').rstrip('/')}).")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type(REEL.format("reel-two"))
        assert instagram.requests() == 0
        await page.keyboard.press("Enter")
        await expect(tiles(page)).to_have_count(2)


async def test_a_text_without_a_link_stays_in_the_field(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await get_posts(page, "hello there")
        await expect(page.get_by_role("alert")).to_contain_text("Copy the link from")
        await expect(page.get_by_label("Links", exact=True)).to_have_value("hello there")
        await expect(lines(page)).to_have_count(0)


async def test_the_switch_keeps_new_posts_and_is_remembered(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.get_by_role("switch", name="Don't auto-delete").check()
        await page.reload()
        await expect(page.get_by_role("switch", name="Don't auto-delete")).to_be_checked()
        await get_posts(page, REEL.format("reel-for-good"))
        await expect(tile(page, "reel-for-good")).to_be_visible()
    async with client.get("/posts/reel-for-good") as response:
        assert (await response.json())["kept"] is True


async def test_more_than_100_links_become_several_jobs(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    # The last link waits for four seconds. Even a slow browser shows this state in that time.
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="20", RATE_LIMIT_WINDOW_SECONDS="80")
    async with browse(client) as page:
        await get_posts(page, *NO_POSTS)
        await expect(page.locator("#summary")).to_have_text("1 to be sent · 100 failed")
        rest = lines(page).filter(has_text="you have reached this server's request limit")
        await page.get_by_role("button", name="Show").click()
        await expect(rest).to_contain_text("https://example.com/100")
        await expect(rest).to_have_count(0)
        await expect(lines(page)).to_have_count(101)
    jobs = (await (await client.get("/jobs")).json())["jobs"]
    assert [len(job["posts"]) for job in jobs] == [1, 100]


async def test_unsent_links_survive_a_reload(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        for path in ("**/jobs", "**/events"):
            await page.route(path, lambda route: route.abort())
        await get_posts(page, LINK)
        await expect(lines(page)).to_contain_text("Reel reel-shared")
        await page.clock.install()
        await page.reload()
        await expect(lines(page)).to_contain_text("To be sent")
        for path in ("**/jobs", "**/events"):
            await page.unroute(path)
        await page.reload()
        await page.clock.fast_forward(5000)
        await expect(tile(page, "reel-shared")).to_be_visible()


async def test_refused_links_return_to_the_field(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    body = json.dumps({"error": "x", "code": "body_too_large"})
    async with browse(client) as page:
        await page.route("**/jobs", lambda route: route.fulfill(status=413, body=body))
        await get_posts(page, LINK)
        await expect(page.get_by_role("alert")).to_contain_text("Too many links at once")
        await expect(page.get_by_label("Links", exact=True)).to_have_value(LINK)


@pytest.mark.parametrize(
    "address",
    [
        "/?" + urlencode({"title": "A reel", "text": f"Look: {LINK}?igsh=x so good"}),
        "/#" + quote(LINK, safe=""),
    ],
)
async def test_a_link_in_the_address_waits_in_the_field(
    instagram: StandIn, start_service: StartService, browse: Browse, address: str
) -> None:
    client = await start_service()
    async with browse(client, address) as page:
        field = page.get_by_label("Links", exact=True)
        await expect(field).to_have_value(f"{LINK}?igsh=x" if "igsh" in address else LINK)
        await expect(page.get_by_role("button", name="Get posts")).to_be_focused()
        assert page.url == str(client.make_url("/"))
        assert instagram.requests() == 0
        await page.keyboard.press("Enter")
        await expect(tiles(page)).to_have_count(1)


@pytest.mark.parametrize("address", ["/?url=https://example.com/", "/#%", "/?text=hello"])
async def test_other_text_in_the_address_is_ignored(
    instagram: StandIn, start_service: StartService, browse: Browse, address: str
) -> None:
    client = await start_service()
    async with browse(client, address) as page:
        await expect(page.get_by_text("Nothing here yet")).to_be_visible()
        await expect(page.get_by_label("Links", exact=True)).to_have_value("")


async def send_command(page: Page, method: str) -> dict[str, Any]:
    session = await page.context.new_cdp_session(page)
    answer: dict[str, Any] = await session.send(method)
    return answer


async def test_the_page_is_installable_and_accepts_shared_text(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.wait_for_load_state()
        manifest = await send_command(page, "Page.getAppManifest")
        assert manifest["errors"] == []
        errors = (await send_command(page, "Page.getInstallabilityErrors"))["installabilityErrors"]
        # The tests' browser has no profile, so it counts as incognito.
        assert [it for it in errors if it["errorId"] != "in-incognito"] == []
        content = json.loads(manifest["data"])
        icons = [*content["icons"], *(icon for it in content["shortcuts"] for icon in it["icons"])]
        for icon in icons:
            async with client.get(f"/{icon['src']}") as response:
                assert (response.status, response.content_type) == (200, icon["type"])
        target = content["share_target"]
        # Instagram's app shares a link as text.
        query = urlencode({target["params"]["text"]: f"Look at this: {LINK}?igsh=abc=="})
        await page.goto(urljoin(manifest["url"], target["action"]) + "?" + query)
        await expect(page.get_by_label("Links", exact=True)).to_have_value(f"{LINK}?igsh=abc==")
        await page.goto(urljoin(manifest["url"], content["shortcuts"][0]["url"]))
        await expect(page.get_by_label("Kept")).to_be_checked()


async def test_the_bookmarklet_passes_the_address_to_the_page(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.get_by_role("button", name="Settings and help").click()
        bookmarklet = await page.get_by_role("link", name="Get this post").get_attribute("href")
        assert bookmarklet
        here = str(client.make_url("/"))
        address = await page.get_by_label("Address for the shortcut").input_value()
        assert address == f"{here}download?url="
        # Run it as a bookmark would, and record the argument of window.open.
        opened = await page.evaluate(
            f"(() => {{ let to; const window = {{ open: (url) => (to = url) }}; "
            f"const location = {{ href: {json.dumps(LINK)} }}; "
            f"{bookmarklet.removeprefix('javascript:')}; return to; }})()"
        )
        assert opened == f"{here}?url={quote(LINK, safe='')}"
        await page.goto(opened)
        await expect(page.get_by_label("Links", exact=True)).to_have_value(LINK)
