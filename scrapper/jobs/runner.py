"""Jobs: batches of posts, fetched in the background as slots get free."""

import asyncio
import math
import time
import uuid
from collections.abc import Sequence
from typing import Protocol

import structlog

from scrapper.errors import ANSWERS, InvalidURL, ScrapeError, ServerFull
from scrapper.jobs.model import Job, JobPost
from scrapper.links import shortcode_of
from scrapper.scraping.scraper import Scraped, Scraper

__all__ = ["MAKE_ROOM_SECONDS", "Jobs", "new_job", "note_progress", "run_post"]

log = structlog.get_logger(__name__)

MAKE_ROOM_SECONDS = 5.0
"""After which another try makes sense, where there was no room for one more job or post."""


class Jobs(Protocol):
    """Takes jobs, has them done, and tells how they are."""

    closing: bool
    """Whether the process ends, so that nobody may be kept waiting for a job's end."""

    async def submit(self, job: Job) -> None:
        """Take a new *job*.

        Raises:
            JobsFull: as many jobs as may be kept are unfinished.
            JobsUnreachable: where they are kept does not answer.
        """
        ...

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now, or None: unknown, or too old.

        Raises:
            JobsUnreachable: where it is kept does not answer.
        """
        ...

    async def cancel(self, job: Job) -> bool:
        """Give up the job's posts that wait; those under way go on. False: it is there no more.

        Raises:
            JobsUnreachable: where it is kept does not answer.
        """
        ...

    async def observe(self, job: Job) -> bool:
        """Bring *job* up to date, as far as that can be known. False: it is there no more."""
        ...


def new_job(urls: Sequence[str], *, max_url_length: int) -> Job:
    """A job of *urls*; those that are not of a post have failed at once."""
    posts = [_post(url, max_url_length) for url in urls]
    return Job(uuid.uuid4().hex, time.time(), posts)


def _post(url: str, max_url_length: int) -> JobPost:
    try:
        return JobPost(url, shortcode_of(url, max_length=max_url_length))
    except InvalidURL as error:
        post = JobPost(url, None)
        post.fail(*ANSWERS[type(error)])
        return post


async def run_post(post: JobPost, scraper: Scraper) -> None:
    """Scrape the *post* of a job, which has a shortcode, and note its outcome in it."""
    try:
        stored = (await _scrape(str(post.shortcode), post.url, scraper)).stored
    except ScrapeError as error:
        wait = error.retry_after
        status, text = ANSWERS[type(error)]
        post.fail(status, text, None if wait is None else max(1, math.ceil(wait)))
    except Exception:
        log.exception("post of a job failed", shortcode=post.shortcode)
        post.fail(500, "Internal server error")
    else:
        post.bytes_done = post.bytes_total = sum(file.size for file in stored.post.files)
        post.state, post.status = "done", 200


async def _scrape(shortcode: str, url: str, scraper: Scraper) -> Scraped:
    while True:
        try:
            return await scraper.scrape(shortcode, url)
        except ServerFull as error:
            # A batch has the time that a client with an open connection has not.
            await asyncio.sleep(min(error.retry_after or MAKE_ROOM_SECONDS, MAKE_ROOM_SECONDS))


def note_progress(post: JobPost, scraper: Scraper) -> None:
    """Note in a running *post* how far its download by *scraper* is."""
    if post.state == "running" and post.shortcode:
        progress = scraper.progress(post.shortcode)
        if progress is not None:
            post.bytes_done, post.bytes_total = progress.done, progress.total
