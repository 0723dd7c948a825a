"""``POST /scrape``: a post by its URL."""

from aiohttp import web

from scrapper.base_path import BASE_PATH
from scrapper.handlers.operation import Operation, describe
from scrapper.handlers.request_bodies import ScrapeRequest, read_body
from scrapper.handlers.resources import SCRAPER, SETTINGS
from scrapper.library.response import PostResponse
from scrapper.links import read_link

__all__ = ["scrape"]


@describe(
    Operation(
        id="scrape",
        summary="Download a post, or give it from disk",
        tag="posts",
        response=PostResponse,
        body=ScrapeRequest,
        errors=(400, 403, 404, 408, 422, 502, 503, 507),
    )
)
async def scrape(request: web.Request) -> web.Response:
    """Download the post that the body's ``url`` names, or give it from disk.

    With ``"refresh": true`` it is downloaded even if it is stored.
    """
    asked = await read_body(request, ScrapeRequest)
    app = request.app
    link = read_link(asked.url, max_length=app[SETTINGS].max_url_length)
    shortcode = await app[SCRAPER].shortcode_of(link)
    scraped = await app[SCRAPER].scrape(shortcode, asked.url, refresh=asked.refresh)
    body = scraped.stored.rendered.to_json(
        original_url=asked.url, cached=scraped.cached, prefix=app[BASE_PATH].prefix_of(request)
    )
    return web.Response(body=body, content_type="application/json")
