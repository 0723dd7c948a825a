"""The jobs of a single process, which runs them itself."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from scrapper.background import in_background
from scrapper.cancellation import finished
from scrapper.errors import INTERNAL_ERROR
from scrapper.jobs.contract import check_room
from scrapper.jobs.model import Job
from scrapper.jobs.runner import note_progress, run_post
from scrapper.jobs.sqlite_store import JobStore
from scrapper.scraping.scraper import Scraper

__all__ = ["LocalJobs"]

log = structlog.get_logger(__name__)


class LocalJobs:
    """:class:`~scrapper.jobs.contract.Jobs` run here by *scraper*, *concurrency* posts at a time.

    At most *max_jobs* are kept, for *max_age* seconds. A new job takes the place of the oldest
    finished one. *check* raises where the folder of the *store* is gone.
    """

    def __init__(
        self,
        scraper: Scraper,
        store: JobStore,
        *,
        concurrency: int,
        max_jobs: int,
        max_age: float,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._scraper = scraper
        self._store = store
        self._concurrency = concurrency
        self._max_jobs = max_jobs
        self._max_age = max_age
        self._check = check
        self._jobs: dict[str, Job] = {}
        self._waiting: asyncio.Queue[tuple[Job, int]] = asyncio.Queue()
        self._runners: list[asyncio.Task[None]] = []
        self._tidying = asyncio.Lock()
        self._writing = asyncio.Lock()
        self.closing = False

    async def open(self) -> None:
        """Resume the jobs that an earlier process left.

        Raises:
            OSError, sqlite3.Error: the store cannot be used.
        """
        for job in await asyncio.to_thread(self._store.open):
            self._jobs[job.id] = job
            self._enqueue(job)
        for _ in range(self._concurrency):
            self._runners.append(in_background(self._work(), "job runner"))

    async def close(self) -> None:
        """Stop. Unfinished posts go on when the store is opened again."""
        self.closing = True
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        await asyncio.to_thread(self._store.close)

    async def submit(self, job: Job) -> None:
        async with self._tidying:
            await self._make_room(job.client)
            await asyncio.to_thread(self._check)
            await self._write(self._store.add, job)
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
        await self._write(self._store.save, job, waiting)
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
                await self._run(job, index)

    async def _run(self, job: Job, index: int) -> None:
        post = job.posts[index]
        try:
            await run_post(post, self._scraper)
        # Whatever it is, the next post must have its turn.
        except Exception:
            log.exception("post of a job failed", job=job.id)
            post.fail(*INTERNAL_ERROR)
        try:
            await self._write(self._store.save, job, [index])
        except Exception:
            # After a restart the post is looked up again.
            log.exception("job not saved", job=job.id)

    async def _write(self, change: Callable[..., None], *arguments: Any) -> None:
        """Run a *change* of the store: one at a time, and to its end if the caller goes away."""
        async with self._writing:
            await finished(asyncio.to_thread(change, *arguments))

    async def _make_room(self, client: str | None) -> None:
        unfinished = [job.client for job in self._jobs.values() if job.state == "running"]
        check_room(unfinished, client, self._max_jobs)
        surplus = len(self._jobs) + 1 - self._max_jobs
        doomed = self._expired()
        doomed += [
            job for job in self._jobs.values() if job.state != "running" and job not in doomed
        ][: max(0, surplus - len(doomed))]
        await self._remove(doomed)

    def _expired(self) -> list[Job]:
        oldest = time.time() - self._max_age
        return [
            job for job in self._jobs.values() if job.created_at < oldest and job.state != "running"
        ]

    async def _remove(self, jobs: list[Job]) -> None:
        if jobs:
            await self._write(self._store.remove, jobs)
            for job in jobs:
                del self._jobs[job.id]
