"""Scrape one post of a job, and note in it how far it is and how it ended."""

import asyncio
import math

import structlog

from scrapper.errors import INTERNAL_ERROR, RESPONSES, ScrapeError, ServerFull
from scrapper.jobs.contract import MAKE_ROOM_SECONDS
from scrapper.jobs.model import JobPost
from scrapper.links import read_link
from scrapper.scraping.scraper import Scraped, Scraper

__all__ = ["note_progress", "run_post"]

log = structlog.get_logger(__name__)


async def run_post(post: JobPost, scraper: Scraper) -> None:
    """Scrape the *post* of a job and note its outcome in it; a share link is opened first."""
    try:
        stored = (await _scrape(post, scraper)).stored
    except ScrapeError as error:
        wait = error.retry_after
        post.fail(*RESPONSES[type(error)], None if wait is None else max(1, math.ceil(wait)))
    except Exception:
        log.exception("post of a job failed", shortcode=post.shortcode)
        post.fail(*INTERNAL_ERROR)
    else:
        post.bytes_done = post.bytes_total = sum(file.size for file in stored.post.files)
        post.state, post.status = "done", 200


async def _scrape(post: JobPost, scraper: Scraper) -> Scraped:
    while True:
        try:
            if post.shortcode is None:
                link = read_link(post.url, max_length=len(post.url))
                post.shortcode = await scraper.shortcode_of(link)
            return await scraper.scrape(post.shortcode, post.url)
        except ServerFull as error:
            # A batch can wait; no client holds a connection open for it.
            await asyncio.sleep(min(error.retry_after or MAKE_ROOM_SECONDS, MAKE_ROOM_SECONDS))


def note_progress(post: JobPost, scraper: Scraper) -> None:
    """Note in a running *post* how far its download is."""
    if post.state == "running" and post.shortcode:
        progress = scraper.progress(post.shortcode)
        if progress is not None:
            post.bytes_done, post.bytes_total = progress.done, progress.total
