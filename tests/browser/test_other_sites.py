"""Pages of other sites, in a real browser, attack a service without a key."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page

from tests.browser.opening import EVIL, NewPage
from tests.browser.requests_seen import MIDDLEWARES, SEEN
from tests.conftest import Client, StartService, stored_files, until
from tests.instagram import StandIn

URL = "https://www.instagram.com/reel/reel-{}/"

# Elements that load a URL without navigating to it. {0} is the URL.
LOADS = {
    "img": "<img src='{0}'>",
    "srcset": "<img srcset='{0} 1x'>",
    "svg": "<svg><image href='{0}'/></svg>",
    "input": "<input type=image src='{0}'>",
    "background": "<p style='background: url({0})'>x",
    "poster": "<video poster='{0}'></video>",
    "video": "<video preload=auto src='{0}'></video>",
    "audio": "<audio preload=auto src='{0}'></audio>",
    "track": "<video crossorigin><track default kind=subtitles src='{0}'></video>",
    "css": "<link rel=stylesheet href='{0}'>",
    "import": "<style>@import '{0}';</style>",
    "font": "<style>@font-face {{font-family: f; src: url({0})}}</style><p style='font: 9px f'>x",
    "script": "<script src='{0}'></script>",
    "module": "<script type=module src='{0}'></script>",
    "iframe": "<iframe src='{0}'></iframe>",
    "object": "<object data='{0}'></object>",
    "embed": "<embed src='{0}'>",
    "prefetch": "<link rel=prefetch href='{0}'>",
    "prefetch document": "<link rel=prefetch as=document href='{0}'>",
    "preload image": "<link rel=preload as=image href='{0}'>",
    "preload fetch": "<link rel=preload as=fetch href='{0}'>",
    "module preload": "<link rel=modulepreload href='{0}'>",
    "framed form": "<iframe name=frame></iframe><form target=frame action='{0}'></form>",
}
SCRIPTS = {
    "fetch": "fetch('{0}').catch(() => 0)",
    "fetch without CORS": "fetch('{0}', {{mode: 'no-cors'}}).catch(() => 0)",
    "XHR": "const x = new XMLHttpRequest(); x.open('GET', '{0}'); x.send()",
    "Image": "new Image().src = '{0}'",
    "Audio": "new Audio('{0}').load()",
    "EventSource": "new EventSource('{0}')",
    "WebSocket": "new WebSocket('{0}'.replace('http', 'ws'))",
    "dynamic import": "import('{0}').catch(() => 0)",
    "worker": "new Worker(URL.createObjectURL(new Blob([`importScripts('{0}')`])))",
    "beacon": "navigator.sendBeacon('{0}')",
    "keepalive": "fetch('{0}', {{keepalive: true, method: 'POST', mode: 'no-cors'}})",
    "ping": "const a = document.createElement('a'); a.ping = '{0}'; a.href = '#'; a.click()",
}
SPECULATION = """
const rules = document.createElement("script");
rules.type = "speculationrules";
rules.textContent = JSON.stringify({{"%s": [{{urls: ["{0}"], eagerness: "immediate"}}]}});
document.head.append(rules);
"""
SCRIPTS |= {f"speculation {kind}": SPECULATION % kind for kind in ("prefetch", "prerender")}
# Ways to navigate to the URL, in the same tab or in another.
VISITS = {
    "link": "const a = document.createElement('a'); a.href = '{0}'; document.body.append(a); "
    "a.click()",
    "location": "location = '{0}'",
    "meta refresh": "document.head.innerHTML += `<meta http-equiv=refresh content='0;url={0}'>`",
    "window": "window.open('{0}')",
    "form": "document.forms[0].submit()",
}


@pytest_asyncio.fixture(loop_scope="session", params=["cross-site"])
async def evil_page(new_page: NewPage, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A page of another site."""

    async def empty(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Evil</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    async with TestServer(app) as server:
        page = await new_page()
        name = EVIL if request.param == "cross-site" else "127.0.0.1"
        await page.goto(f"http://{name}:{server.port}/")
        yield page


async def store_reel(client: Client) -> None:
    async with client.post("/scrape", json={"url": URL.format("mine")}) as response:
        assert response.status == 200


async def test_a_page_of_another_site_cannot_start_downloads(
    instagram: StandIn, start_service: StartService, evil_page: Page
) -> None:
    client = await start_service()
    for mode in ("no-cors", "cors"):
        for path, body in (
            ("/scrape", f'{{"url": "{URL.format("evil")}"}}'),
            ("/jobs", f'{{"urls": ["{URL.format("evil")}"]}}'),
        ):
            asked = str(client.make_url(path))
            script = "([url, options]) => fetch(url, options).then(() => 1, () => 0)"
            options = {"method": "POST", "mode": mode, "body": body}
            await evil_page.evaluate(script, [asked, options])
    # A form can send the request without CORS.
    await evil_page.set_content(
        f'<form method="post" enctype="text/plain" action="{client.make_url("/scrape")}">'
        f'<input name=\'{{"url":"{URL.format("evil")}","x":"\' value=\'"}}\'></form>'
    )
    async with evil_page.expect_navigation() as navigated:
        await evil_page.evaluate("document.forms[0].submit()")
    answer = await navigated.value
    assert (answer.status, (await answer.json())["code"]) == (403, "cross_site")
    assert instagram.requests() == 0


async def test_dns_rebinding_gives_no_access(
    instagram: StandIn, start_service: StartService, evil_page: Page, media_root: Path
) -> None:
    client = await start_service()
    await store_reel(client)
    # To the browser, this is the evil site's own origin, so the browser allows everything.
    rebound = f"http://{EVIL}:{client.port}"
    page = "<!doctype html><title>Evil</title>"
    await evil_page.route(
        f"{rebound}/evil", lambda route: route.fulfill(body=page, content_type="text/html")
    )
    await evil_page.goto(f"{rebound}/evil")
    script = "([url, method]) => fetch(url, { method }).then((response) => response.status)"
    for method, path in (
        ("GET", "/posts"),
        ("GET", "/media/reel-mine/reel-mine.mp4"),
        ("GET", "/"),
        ("POST", "/scrape"),
        ("DELETE", "/posts/reel-mine"),
    ):
        assert await evil_page.evaluate(script, [path, method]) == 421
    assert "reel-mine/post.json" in stored_files(media_root)
    # Under the machine's own address, the same page gets responses.
    answer = await evil_page.goto(str(client.make_url("/posts")))
    assert answer
    assert answer.status == 200


def download_url(client: Client, name: str, form: str = "") -> str:
    """Return a URL that downloads a post; :data:`SEEN` records its request under *name*.

    With *form*, return that form with the same target and parameters.
    """
    url = f"{client.make_url('/download')}?name={quote(name)}&url={URL.format('evil')}"
    if not form:
        return url
    fields = "".join(
        f"<input name='{field}' value='{value}'>"
        for field, value in (("name", name), ("url", URL.format("evil")))
    )
    return form.replace("</form>", f"{fields}</form>").format(client.make_url("/download"))


@pytest.mark.parametrize("evil_page", ["same-site", "cross-site"], indirect=True)
async def test_other_sites_cannot_start_downloads_without_navigating(
    instagram: StandIn, start_service: StartService, evil_page: Page
) -> None:
    client = await start_service(MIDDLEWARES=MIDDLEWARES)
    SEEN.clear()
    html = "".join(
        download_url(client, name, form=load)
        if "<form" in load
        else load.format(download_url(client, name))
        for name, load in LOADS.items()
    )
    await evil_page.set_content(f"<!doctype html><title>Evil</title>{html}", wait_until="commit")
    await evil_page.locator("form").first.wait_for(state="attached")
    await evil_page.evaluate("document.forms[0].submit()")
    for name, script in SCRIPTS.items():
        await evil_page.evaluate(f"() => {{ {script.format(download_url(client, name))} }}")
    await until(lambda: {*LOADS, *SCRIPTS} <= {name for name, _ in SEEN})
    # A route that does not accept POST responds with 405.
    assert {status for _, status in SEEN} <= {403, 405}, SEEN
    assert instagram.requests() == 0


@pytest.mark.parametrize("evil_page", ["same-site", "cross-site"], indirect=True)
async def test_navigating_from_another_site_starts_a_download(
    instagram: StandIn, start_service: StartService, evil_page: Page
) -> None:
    client = await start_service(MIDDLEWARES=MIDDLEWARES)
    SEEN.clear()
    for name, script in VISITS.items():
        form = download_url(client, name, form="<form action='{0}'></form>")
        await evil_page.set_content(f"<!doctype html><title>Evil</title>{form}")
        await evil_page.evaluate(f"() => {{ {script.format(download_url(client, name))} }}")
        await until(lambda name=name: (name, 200) in SEEN)  # type: ignore[misc]
    assert instagram.requests() > 0
