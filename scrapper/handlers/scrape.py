"""``POST /scrape``: a post by its URL."""

from aiohttp import web

from scrapper.handlers.request_bodies import ScrapeRequest, read_body
from scrapper.handlers.resources import SCRAPER, SETTINGS
from scrapper.links import read_link

__all__ = ["scrape"]


async def scrape(request: web.Request) -> web.Response:
    """Download the post that the body's ``url`` names, or answer it from disk.

    With ``"refresh": true`` it is downloaded in any case.
    """
    asked = await read_body(request, ScrapeRequest)
    app = request.app
    link = read_link(asked.url, max_length=app[SETTINGS].max_url_length)
    shortcode = await app[SCRAPER].shortcode_of(link)
    scraped = await app[SCRAPER].scrape(shortcode, asked.url, refresh=asked.refresh)
    body = scraped.stored.answer.to_json(original_url=asked.url, cached=scraped.cached)
    return web.Response(body=body, content_type="application/json")
