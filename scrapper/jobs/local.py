"""The jobs of a single process, which runs them itself."""

import asyncio
import time

import aiosqlite
import structlog

from scrapper.errors import DiskFull, DiskReadOnly, JobsFull
from scrapper.jobs.contract import MAKE_ROOM_SECONDS
from scrapper.jobs.model import Job
from scrapper.jobs.runner import note_progress, run_post
from scrapper.jobs.sqlite_store import JobStore
from scrapper.scraping.scraper import Scraper

__all__ = ["LocalJobs"]

log = structlog.get_logger(__name__)


class LocalJobs:
    """:class:`~scrapper.jobs.contract.Jobs` run here by *scraper*, *concurrency* posts at a time.

    At most *max_jobs* are kept, for *max_age* seconds. A new job takes the place of the oldest
    finished one.
    """

    def __init__(
        self,
        scraper: Scraper,
        store: JobStore,
        *,
        concurrency: int,
        max_jobs: int,
        max_age: float,
    ) -> None:
        self._scraper = scraper
        self._store = store
        self._concurrency = concurrency
        self._max_jobs = max_jobs
        self._max_age = max_age
        self._jobs: dict[str, Job] = {}
        self._waiting: asyncio.Queue[tuple[Job, int]] = asyncio.Queue()
        self._runners: list[asyncio.Task[None]] = []
        self._tidying = asyncio.Lock()
        self.closing = False

    async def open(self) -> None:
        """Resume the jobs that an earlier process left.

        Raises:
            aiosqlite.Error: the store cannot be used.
        """
        await self._store.open()
        for job in await self._store.load():
            self._jobs[job.id] = job
            self._enqueue(job)
        for _ in range(self._concurrency):
            self._runners.append(asyncio.create_task(self._work()))

    async def close(self) -> None:
        """Stop. Unfinished posts go on when the store is opened again."""
        self.closing = True
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        await self._store.close()

    async def submit(self, job: Job) -> None:
        async with self._tidying:
            await self._make_room()
            await self._store.add(job)
            self._jobs[job.id] = job
        self._enqueue(job)

    async def get(self, job_id: str) -> Job | None:
        async with self._tidying:
            await self._remove(self._expired())
        job = self._jobs.get(job_id)
        if job is not None:
            await self.observe(job)
        return job

    async def cancel(self, job: Job) -> bool:
        waiting = [index for index, post in enumerate(job.posts) if post.state == "queued"]
        for index in waiting:
            job.posts[index].state = "cancelled"
        await self._store.save(job, waiting)
        return True

    async def observe(self, job: Job) -> bool:
        for post in job.posts:
            note_progress(post, self._scraper)
        return True

    def _enqueue(self, job: Job) -> None:
        for index, post in enumerate(job.posts):
            if post.state == "queued":
                self._waiting.put_nowait((job, index))

    async def _work(self) -> None:
        while True:
            job, index = await self._waiting.get()
            post = job.posts[index]
            if post.state == "queued":
                post.state = "running"
                await run_post(post, self._scraper)
                try:
                    await self._store.save(job, [index])
                except (aiosqlite.Error, DiskFull, DiskReadOnly):
                    # After a restart the post is looked up again.
                    log.exception("job not saved", job=job.id)

    async def _make_room(self) -> None:
        surplus = len(self._jobs) + 1 - self._max_jobs
        doomed = self._expired()
        doomed += [
            job for job in self._jobs.values() if job.state != "running" and job not in doomed
        ][: max(0, surplus - len(doomed))]
        if len(doomed) < surplus:
            raise JobsFull(retry_after=MAKE_ROOM_SECONDS)
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
