"""``POST /scrape``: download a post by its URL."""

from aiohttp import web

from scrapper.handlers.openapi import Operation
from scrapper.handlers.posts import post_json
from scrapper.handlers.request_bodies import ScrapeRequest, read_body
from scrapper.handlers.resources import SCRAPER, SETTINGS
from scrapper.library.post import Preference
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
    """Return the post at the body's ``url``, from disk or after downloading it.

    If a stored post cannot be downloaded again, the response is not an error but the stored post
    with ``"stale": true``. With ``"refresh": true``, the post is downloaded even if it is stored,
    and a failure is an error. With ``"keep": true``, the post is never removed because of its age.

    ``"quality": "best"`` requests the largest video, and ``"max_mb": 8`` the largest file of at
    most 8 MB. A stored post that does not satisfy the request is downloaded again.
    """
    body = await read_body(request, ScrapeRequest)
    preference = body.preference(request.app[SETTINGS].video_quality)
    scraped = await scraped_post(
        request, body.url, preference, refresh=body.refresh, keep=body.keep
    )
    post = post_json(request, scraped.stored, body.url, cached=scraped.cached)
    return web.Response(body=post, content_type="application/json")


async def scraped_post(
    request: web.Request,
    url: str,
    preference: Preference,
    *,
    refresh: bool = False,
    keep: bool = False,
) -> Scraped:
    """Return the post at *url*, with files that satisfy *preference*, from disk or Instagram.

    Raises:
        ScrapeError: the link is invalid, or the post cannot be downloaded.
    """
    scraper = request.app[SCRAPER]
    link = read_link(url, max_length=request.app[SETTINGS].max_url_length)
    shortcode = await scraper.shortcode_of(link)
    return await scraper.scrape(shortcode, url, refresh=refresh, keep=keep, preference=preference)
