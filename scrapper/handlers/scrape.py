"""``POST /scrape``: a post by its URL."""

from aiohttp import web

from scrapper.base_path import BASE_PATH
from scrapper.handlers.operation import Operation, describe
from scrapper.handlers.request_bodies import ScrapeRequest, read_body
from scrapper.handlers.resources import SCRAPER, SETTINGS
from scrapper.library.response import PostResponse
from scrapper.links import read_link
from scrapper.scraping.scraper import Scraped

__all__ = ["scrape", "scraped_post"]


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
    scraped = await scraped_post(request, asked.url, refresh=asked.refresh)
    prefix = request.app[BASE_PATH].prefix_of(request)
    body = scraped.stored.rendered.to_json(
        original_url=asked.url, cached=scraped.cached, prefix=prefix
    )
    return web.Response(body=body, content_type="application/json")


async def scraped_post(request: web.Request, url: str, *, refresh: bool = False) -> Scraped:
    """The post that *url* names: from disk, or downloaded.

    Raises:
        ScrapeError: one of its subclasses.
    """
    scraper = request.app[SCRAPER]
    link = read_link(url, max_length=request.app[SETTINGS].max_url_length)
    return await scraper.scrape(await scraper.shortcode_of(link), url, refresh=refresh)
