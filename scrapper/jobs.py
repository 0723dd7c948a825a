"""Jobs: batches of posts, fetched in the background as slots get free."""

import asyncio
import math
import time
import uuid
from collections.abc import Sequence

import aiosqlite
import structlog

from scrapper.errors import (
    ANSWERS,
    DiskFull,
    DiskReadOnly,
    InvalidURL,
    JobsFull,
    ScrapeError,
    ServerFull,
)
from scrapper.job import Job, JobPost
from scrapper.job_store import JobStore
from scrapper.scraping import Scraped, Scraper
from scrapper.urls import shortcode_of

__all__ = ["Jobs"]

log = structlog.get_logger(__name__)

_LONGEST_WAIT = 5.0


class Jobs:
    """Runs jobs over *scraper*, at most *concurrency* of their posts at a time.

    At most *max_jobs* are kept, for *max_age* seconds. For a new one the oldest that is
    finished goes.
    """

    def __init__(
        self,
        scraper: Scraper,
        store: JobStore,
        *,
        concurrency: int,
        max_jobs: int,
        max_age: float,
        max_url_length: int,
    ) -> None:
        self._scraper = scraper
        self._store = store
        self._concurrency = concurrency
        self._max_jobs = max_jobs
        self._max_age = max_age
        self._max_url_length = max_url_length
        self._jobs: dict[str, Job] = {}
        self._waiting: asyncio.Queue[tuple[Job, int]] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._tidying = asyncio.Lock()
        self.closing = False

    async def open(self) -> None:
        """Take up the jobs that an earlier process left.

        Raises:
            aiosqlite.Error: the store cannot be used.
        """
        await self._store.open()
        for job in await self._store.load():
            self._jobs[job.id] = job
            self._enqueue(job)
        for _ in range(self._concurrency):
            self._workers.append(asyncio.create_task(self._work()))

    async def close(self) -> None:
        """Stop. What is unfinished goes on when the store is opened again."""
        self.closing = True
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._store.close()

    async def submit(self, urls: Sequence[str]) -> Job:
        """Make a job of *urls*; those that are not of a post have failed at once.

        Raises:
            JobsFull: as many jobs as may be kept are unfinished.
        """
        posts = [self._post(url) for url in urls]
        job = Job(uuid.uuid4().hex, time.time(), posts)
        async with self._tidying:
            await self._make_room()
            await self._store.add(job)
            self._jobs[job.id] = job
        self._enqueue(job)
        return job

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now, or None: unknown, or too old."""
        async with self._tidying:
            await self._remove(self._expired())
        job = self._jobs.get(job_id)
        if job is not None:
            self.observe(job)
        return job

    async def cancel(self, job: Job) -> None:
        """Give up the job's posts that wait; those under way go on."""
        waiting = [index for index, post in enumerate(job.posts) if post.state == "queued"]
        for index in waiting:
            job.posts[index].state = "cancelled"
        await self._store.save(job, waiting)

    def observe(self, job: Job) -> None:
        """Note in the job's running posts how far their downloads are."""
        for post in job.posts:
            if post.state == "running" and post.shortcode:
                progress = self._scraper.progress(post.shortcode)
                if progress is not None:
                    post.bytes_done, post.bytes_total = progress.done, progress.total

    def _post(self, url: str) -> JobPost:
        try:
            return JobPost(url, shortcode_of(url, max_length=self._max_url_length))
        except InvalidURL as error:
            post = JobPost(url, None)
            post.fail(*ANSWERS[type(error)])
            return post

    def _enqueue(self, job: Job) -> None:
        for index, post in enumerate(job.posts):
            if post.state == "queued":
                self._waiting.put_nowait((job, index))

    async def _work(self) -> None:
        while True:
            job, index = await self._waiting.get()
            post = job.posts[index]
            if post.state == "queued":
                await self._run(post, str(post.shortcode))
                try:
                    await self._store.save(job, [index])
                except (aiosqlite.Error, DiskFull, DiskReadOnly):
                    # After a restart the post is looked up again.
                    log.exception("job not saved", job=job.id)

    async def _run(self, post: JobPost, shortcode: str) -> None:
        post.state = "running"
        try:
            stored = (await self._scrape(shortcode, post.url)).stored
        except ScrapeError as error:
            wait = error.retry_after
            status, text = ANSWERS[type(error)]
            post.fail(status, text, None if wait is None else max(1, math.ceil(wait)))
        except Exception:
            log.exception("post of a job failed", shortcode=shortcode)
            post.fail(500, "Internal server error")
        else:
            post.bytes_done = post.bytes_total = sum(file.size for file in stored.post.files)
            post.state, post.status = "done", 200

    async def _scrape(self, shortcode: str, url: str) -> Scraped:
        while True:
            try:
                return await self._scraper.scrape(shortcode, url)
            except ServerFull as error:
                # A batch has the time that a client with an open connection has not.
                await asyncio.sleep(min(error.retry_after or _LONGEST_WAIT, _LONGEST_WAIT))

    async def _make_room(self) -> None:
        surplus = len(self._jobs) + 1 - self._max_jobs
        doomed = self._expired()
        doomed += [
            job for job in self._jobs.values() if job.state != "running" and job not in doomed
        ][: max(0, surplus - len(doomed))]
        if len(doomed) < surplus:
            raise JobsFull(retry_after=_LONGEST_WAIT)
        await self._remove(doomed)

    def _expired(self) -> list[Job]:
        oldest = time.time() - self._max_age
        return [
            job for job in self._jobs.values() if job.created_at < oldest and job.state != "running"
        ]

    async def _remove(self, jobs: list[Job]) -> None:
        if jobs:
            await self._store.remove(jobs)
            for job in jobs:
                del self._jobs[job.id]
