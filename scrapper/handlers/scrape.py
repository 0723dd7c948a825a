"""``POST /scrape``: a post by its URL."""

from typing import Any

import orjson
from aiohttp import web

from scrapper.handlers.resources import SCRAPER, SETTINGS
from scrapper.urls import shortcode_of

__all__ = ["scrape"]


async def scrape(request: web.Request) -> web.Response:
    """Download the post that the body's ``url`` names, or answer it from disk.

    With ``"refresh": true`` it is downloaded in any case. The body's ``Content-Type`` does not
    matter.
    """
    asked = await _json_object(request)
    url = asked.get("url")
    if not isinstance(url, str) or not url:
        raise web.HTTPBadRequest(text="url is missing, or not a text")
    refresh = asked.get("refresh", False)
    if not isinstance(refresh, bool):
        raise web.HTTPBadRequest(text="refresh is neither true nor false")
    app = request.app
    shortcode = shortcode_of(url, max_length=app[SETTINGS].max_url_length)
    scraped = await app[SCRAPER].scrape(shortcode, url, refresh=refresh)
    body = scraped.stored.answer.to_json(original_url=url, cached=scraped.cached)
    return web.Response(body=body, content_type="application/json")


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    # The last two: a body that is not what its headers say, or that never came whole.
    except (ValueError, web.RequestPayloadError, ConnectionError):
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="The body is not a JSON object")
    return body
