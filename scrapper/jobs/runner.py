"""Scrape one post of a job, and note in it how far it is and how it ended."""

import math

import structlog

from scrapper.errors import (
    INTERNAL_ERROR,
    RESPONSES,
    PaceExceeded,
    RateLimited,
    ScrapeError,
    ServerFull,
)
from scrapper.jobs.contract import MAKE_ROOM_SECONDS
from scrapper.jobs.model import JobPost
from scrapper.links import read_link
from scrapper.scraping.scraper import Scraped, Scraper

__all__ = ["needs_no_turn", "note_progress", "pause_after", "run_post"]

log = structlog.get_logger(__name__)

_LIMITS = (RateLimited, PaceExceeded, ServerFull)
_SHORTEST_PAUSE = 1.0


async def run_post(post: JobPost, scraper: Scraper, *, keep: bool, patience: float) -> float | None:
    """Scrape the *post* of a job and note its outcome in it; a share link is opened first.

    Return the seconds after which to try again if it met a limit, else None. A post that met one
    has no outcome yet, unless its *patience*, so many seconds in all, is used up.
    """
    try:
        stored = (await _scrape(post, scraper, keep)).stored
    except ScrapeError as error:
        pause, wait = pause_after(error), error.retry_after
        if pause is None or pause > post.patience_left(patience):
            post.fail(*RESPONSES[type(error)], None if wait is None else max(1, math.ceil(wait)))
        return pause
    except Exception:
        log.exception("post of a job failed", shortcode=post.shortcode)
        post.fail(*INTERNAL_ERROR)
    else:
        post.bytes_done = post.bytes_total = sum(file.size for file in stored.post.files)
        # The link may have named one of the post's items.
        post.shortcode = stored.post.shortcode
        post.state, post.status = "done", 200
    return None


def pause_after(error: ScrapeError) -> float | None:
    """The seconds after which to try again, if *error* is a limit; None if it is not."""
    if not isinstance(error, _LIMITS):
        return None
    wait = error.retry_after
    return max(_SHORTEST_PAUSE, MAKE_ROOM_SECONDS if wait is None else wait)


async def needs_no_turn(post: JobPost, scraper: Scraper) -> bool:
    """Whether the *post* is stored already, so that Instagram need not be asked for it."""
    try:
        return post.shortcode is not None and await scraper.has(post.shortcode)
    except ScrapeError:
        # Let it try: then it meets the same error, and that is noted.
        return True


async def _scrape(post: JobPost, scraper: Scraper, keep: bool) -> Scraped:
    if post.shortcode is None:
        link = read_link(post.url, max_length=len(post.url))
        post.shortcode = await scraper.shortcode_of(link)
    return await scraper.scrape(post.shortcode, post.url, keep=keep)


def note_progress(post: JobPost, scraper: Scraper) -> None:
    """Note in a running *post* how far its download is."""
    if post.state == "running" and post.shortcode:
        progress = scraper.progress(post.shortcode)
        if progress is not None:
            post.bytes_done, post.bytes_total = progress.done, progress.total
