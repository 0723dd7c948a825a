"""``POST /scrape``: a post by its URL."""

from aiohttp import web

from scrapper.handlers.openapi import Operation
from scrapper.handlers.posts import post_json
from scrapper.handlers.request_bodies import ScrapeRequest, read_body
from scrapper.handlers.resources import SCRAPER, SETTINGS
from scrapper.library.post import Wish
from scrapper.library.response import PostResponse
from scrapper.links import read_link
from scrapper.scraping.scraper import Scraped

__all__ = ["scrape", "scraped_post"]


@Operation(
    id="scrape",
    summary="Download a post, or return it from disk",
    tag="posts",
    response=PostResponse,
    body=ScrapeRequest,
    errors=(400, 403, 404, 408, 422, 502, 507),
)
async def scrape(request: web.Request) -> web.Response:
    """Download the post that the body's ``url`` names, or return it from disk.

    A stored post is never an error: if Instagram gives no newer one, the response is the stored
    one with ``"stale": true``. With ``"refresh": true`` it is downloaded even if it is stored, and
    a failure is an error. With ``"keep": true`` it is never removed because of its age.

    ``"quality": "best"`` asks for the largest video, and ``"max_mb": 8`` for the largest file of at
    most 8 MB. A stored post that does not fit is downloaded again.
    """
    asked = await read_body(request, ScrapeRequest)
    wish = asked.wish(request.app[SETTINGS].video_quality)
    how = {"refresh": asked.refresh, "keep": asked.keep}
    scraped = await scraped_post(request, asked.url, wish, **how)
    body = post_json(request, scraped.stored, asked.url, cached=scraped.cached)
    return web.Response(body=body, content_type="application/json")


async def scraped_post(
    request: web.Request, url: str, wish: Wish, *, refresh: bool = False, keep: bool = False
) -> Scraped:
    """The post that *url* names, fitting the *wish*: from disk, or downloaded.

    Raises:
        ScrapeError: one of its subclasses.
    """
    scraper = request.app[SCRAPER]
    link = read_link(url, max_length=request.app[SETTINGS].max_url_length)
    shortcode = await scraper.shortcode_of(link)
    return await scraper.scrape(shortcode, url, refresh=refresh, keep=keep, wish=wish)
