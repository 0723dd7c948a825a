"""A downloader that stores nothing: it looks up a post, and streams its video to the client.

``python -m tests.bench.peers.streaming PORT`` serves it. It limits neither queries nor downloads,
and checks nothing.
"""

import json
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from tests.instagram.server import QUERY

_SITE = "https://www.instagram.com"
_SESSION = web.AppKey("session", aiohttp.ClientSession)
_TOKEN = web.AppKey("token", str)


async def _session(app: web.Application) -> AsyncIterator[None]:
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(connector=connector, trust_env=True) as session:
        async with session.get(f"{_SITE}/") as page:
            token = re.search(r'"LSD",\[\],\{"token":"([^"]+)"', await page.text())
            assert token
            app[_SESSION], app[_TOKEN] = session, token[1]
        yield


async def _scrape(request: web.Request) -> web.StreamResponse:
    session, token = request.app[_SESSION], request.app[_TOKEN]
    shortcode = (await request.json())["url"].rstrip("/").rpartition("/")[2]
    query = {"variables": json.dumps({"shortcode": shortcode}), "doc_id": QUERY, "lsd": token}
    headers = {"x-csrftoken": "token"}
    async with session.post(f"{_SITE}/api/graphql", data=query, headers=headers) as answer:
        data = json.loads(await answer.read())["data"]
    [media] = data["xdt_api__v1__media__shortcode__web_info"]["items"]
    async with session.get(media["video_versions"][0]["url"]) as video:
        response = web.StreamResponse()
        response.content_length = video.content_length
        await response.prepare(request)
        async for piece in video.content.iter_any():
            await response.write(piece)
        await response.write_eof()
    return response


async def _health(_request: web.Request) -> web.Response:
    return web.Response(text="OK")


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(_session)
    app.router.add_post("/scrape", _scrape)
    app.router.add_get("/health", _health)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
