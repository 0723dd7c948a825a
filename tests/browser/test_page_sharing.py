"""How links get into the page from elsewhere: the share sheet, a bookmarklet, the address."""

import json
import re
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import pytest
from playwright.async_api import Page, expect

from scrapper.handlers.page import PAGE_FILES
from tests.browser.opening import REEL, Browse
from tests.conftest import StartService
from tests.instagram import StandIn

LINK = REEL.format("reel-shared")


@pytest.mark.parametrize(
    "address",
    [
        "/?" + urlencode({"url": LINK}),
        "/?" + urlencode({"title": "A reel", "text": f"Look: {LINK}?igsh=x"}),
        "/#" + LINK,
        "/#" + quote(LINK, safe=""),
    ],
)
async def test_a_link_in_the_address_waits_in_the_field(
    instagram: StandIn, start_service: StartService, browse: Browse, address: str
) -> None:
    client = await start_service()
    async with browse(client, address) as page:
        await expect(page.get_by_label("Links")).to_have_value(re.compile(re.escape(LINK)))
        await expect(page.get_by_role("button", name="Get posts")).to_be_focused()
        assert page.url == str(client.make_url("/"))
        assert instagram.requests() == 0
        await page.keyboard.press("Enter")
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")


@pytest.mark.parametrize("address", ["/?url=https://example.com/", "/#top", "/#%", "/?text=hello"])
async def test_anything_else_in_the_address_changes_nothing(
    instagram: StandIn, start_service: StartService, browse: Browse, address: str
) -> None:
    client = await start_service()
    async with browse(client, address) as page:
        await expect(page.get_by_text("Nothing is stored yet.")).to_be_visible()
        await expect(page.get_by_label("Links")).to_have_value("")


async def asked(page: Page, method: str) -> dict[str, Any]:
    session = await page.context.new_cdp_session(page)
    answer: dict[str, Any] = await session.send(method)
    return answer


async def test_chromium_finds_the_page_installable(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.wait_for_load_state()
        manifest = await asked(page, "Page.getAppManifest")
        assert manifest["errors"] == []
        errors = (await asked(page, "Page.getInstallabilityErrors"))["installabilityErrors"]
        # A test's browser has no profile of its own.
        assert [it for it in errors if it["errorId"] != "in-incognito"] == []
        told = json.loads(manifest["data"])
        for icon in told["icons"]:
            async with client.get(f"/{icon['src']}") as response:
                assert (response.status, response.content_type) == (200, icon["type"])


async def test_what_the_share_sheet_sends_reaches_the_field(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        manifest = await asked(page, "Page.getAppManifest")
        target = json.loads(manifest["data"])["share_target"]
        assert target["method"] == "GET"
        # Instagram's app shares a link as text.
        query = urlencode({target["params"]["text"]: f"{LINK}?igsh=abc=="})
        await page.goto(urljoin(manifest["url"], target["action"]) + "?" + query)
        await expect(page.get_by_label("Links")).to_have_value(re.compile(re.escape(LINK)))
        await page.get_by_role("button", name="Get posts").click()
        await expect(page.locator("#summary")).to_have_text("1 of 1 done")


async def test_the_bookmarklet_leads_here_with_the_page_s_address(
    instagram: StandIn, start_service: StartService, browse: Browse
) -> None:
    client = await start_service()
    async with browse(client) as page:
        await page.get_by_text("From your phone or another page").click()
        bookmarklet = await page.get_by_role("link", name="Get this post").get_attribute("href")
        assert bookmarklet
        here = str(client.make_url("/"))
        address = await page.get_by_label("Address for the shortcut").input_value()
        assert address == f"{here}download?url="
        # As a bookmark runs it, with what window.open would be given.
        opened = await page.evaluate(
            f"(() => {{ let to; const window = {{ open: (url) => (to = url) }}; "
            f"const location = {{ href: {json.dumps(LINK)} }}; "
            f"{bookmarklet.removeprefix('javascript:')}; return to; }})()"
        )
        assert opened == f"{here}?url={quote(LINK, safe='')}"
        await page.goto(opened)
        await expect(page.get_by_label("Links")).to_have_value(LINK)


def test_all_texts_of_the_page_stand_in_one_module() -> None:
    html = PAGE_FILES["/"].read_text()
    body = html[html.index("<body>") :]
    told = [text.strip() for text in re.findall(r">([^<]+)<", body)]
    assert [text for text in told if text] == []
    texts = PAGE_FILES["/texts.js"].read_text()
    for name in re.findall(r'data-text="([A-Za-z]+)"', html):
        assert re.search(rf"^  {name}:", texts, re.MULTILINE), name
