"""The jobs of a single process, which runs them itself."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import structlog

from scrapper.background import in_background
from scrapper.cancellation import finished
from scrapper.errors import INTERNAL_ERROR
from scrapper.jobs.backlog import Backlog, Place
from scrapper.jobs.contract import check_room
from scrapper.jobs.model import Job, JobPost
from scrapper.jobs.runner import needs_no_turn, note_progress, run_post
from scrapper.jobs.sqlite_store import JobStore
from scrapper.jobs.webhooks import MOST_DELIVERIES, Delivery
from scrapper.scraping.scraper import Scraper

__all__ = ["LocalJobs"]

log = structlog.get_logger(__name__)

_DAY = 24 * 60 * 60


class LocalJobs:
    """:class:`~scrapper.jobs.contract.Jobs` run here by *scraper*, *concurrency* posts at a time.

    At most *max_jobs* are kept, for *max_age* seconds. A new job takes the place of the oldest
    finished one. Posts that meet a limit wait in the *backlog*, for *patience* seconds in all.
    *check* raises where the folder of the *store* is gone.
    """

    def __init__(
        self,
        scraper: Scraper,
        store: JobStore,
        *,
        backlog: Backlog,
        patience: float,
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
        # The oldest first: a post that waited goes before those that came later.
        self._queue: asyncio.PriorityQueue[Place] = asyncio.PriorityQueue()
        self._backlog = backlog
        self._patience = patience
        self._deliveries: dict[Delivery, float] = {}
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
            await self._announce(job)
        self._deliveries = await asyncio.to_thread(self._store.deliveries)
        self._resume_waiting()
        self._runners.append(in_background(self._let_go(), "backlog"))
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
        await self._announce(job)

    async def get(self, job_id: str) -> Job | None:
        async with self._tidying:
            await self._remove(self._expired())
        job = self._jobs.get(job_id)
        if job is not None:
            await self.observe(job)
        return job

    async def cancel(self, job: Job) -> bool:
        unstarted = [index for index, post in enumerate(job.posts) if post.can_be_cancelled]
        for index in unstarted:
            job.posts[index].cancel()
            self._backlog.leave(job.place(index))
        await self._write(self._store.save, job, unstarted)
        await self._announce(job)
        return True

    async def retry(self, job: Job) -> bool:
        ended = [index for index, post in enumerate(job.posts) if post.can_be_retried]
        if job.state != "running":
            check_room(self._unfinished(), job.client, self._max_jobs)
        before = {index: job.posts[index] for index in ended}
        for index, post in before.items():
            job.posts[index] = post.anew()
        try:
            await self._write(self._store.reopen, job, ended)
        except Exception:
            for index, post in before.items():
                job.posts[index] = post
            raise
        job.announced = False
        for index in ended:
            self._queue.put_nowait(job.place(index))
        return True

    async def observe(self, job: Job) -> bool:
        opens_at = self._backlog.opens_at
        for post in job.posts:
            note_progress(post, self._scraper)
            post.note_delay(opens_at)
        return True

    async def take(self) -> Delivery | None:
        """Part of :class:`~scrapper.jobs.webhooks.Deliveries`, as are the next two."""
        now = time.time()
        for delivery, due_at in self._deliveries.items():
            # A time far ahead is one that a wrong clock left.
            if not now < due_at < now + _DAY:
                self._deliveries.pop(delivery)
                return delivery
        return None

    async def finish(self, delivery: Delivery) -> None:
        await self._write(self._store.finish, delivery)

    async def postpone(self, delivery: Delivery, seconds: float) -> None:
        due_at = time.time() + seconds
        self._deliveries[replace(delivery, attempts=delivery.attempts + 1)] = due_at
        await self._write(self._store.postpone, delivery, due_at)

    async def _announce(self, job: Job) -> None:
        """Note that the job's end is to be told, if it ended."""
        if job.webhook is None or job.announced or job.state == "running":
            return
        job.announced = True
        delivery = Delivery(f"msg_{uuid4().hex}", job.webhook, orjson.dumps(job.to_response()))
        try:
            await self._write(self._store.announce, job, delivery)
        except Exception:
            # The next start finds that nobody was told.
            log.exception("webhook not stored", job=job.id)
            return
        self._deliveries[delivery] = 0.0
        if len(self._deliveries) > MOST_DELIVERIES:
            del self._deliveries[next(iter(self._deliveries))]
            log.error("webhook given up", cause="too many wait")

    def _resume_waiting(self) -> None:
        waiting = [
            (job.place(index), post.seconds_to_wait(self._patience))
            for job in self._jobs.values()
            for index, post in enumerate(job.posts)
            if post.state == "waiting"
        ]
        # The others' turns come after the first one's.
        first = min((seconds for _, seconds in waiting), default=0.0)
        for place, _ in waiting:
            self._backlog.join(place, first)

    async def _let_go(self) -> None:
        while True:
            self._queue.put_nowait(await self._backlog.next())

    def _enqueue(self, job: Job) -> None:
        for index, post in enumerate(job.posts):
            if post.state == "queued":
                self._queue.put_nowait(job.place(index))

    async def _work(self) -> None:
        while True:
            place = await self._queue.get()
            job = self._jobs.get(place.job_id)
            if job and job.posts[place.position].can_be_cancelled:
                await self._run(job, place)

    async def _run(self, job: Job, place: Place) -> None:
        index = place.position
        post = job.posts[index]
        try:
            wait = await self._try(post, job.keep)
            if wait is None:
                self._backlog.note_success()
            else:
                post.wait(self._backlog.join(place, wait))
        # Whatever it is, the next post must have its turn.
        except Exception:
            log.exception("post of a job failed", job=job.id)
            post.fail(*INTERNAL_ERROR)
        try:
            await self._write(self._store.save, job, [index])
            await self._announce(job)
        except Exception:
            # After a restart the post is looked up again.
            log.exception("job not saved", job=job.id)

    async def _try(self, post: JobPost, keep: bool) -> float | None:
        overtakes = post.state == "queued" and len(self._backlog) > 0
        if overtakes and not await needs_no_turn(post, self._scraper):
            return 0.0
        post.start()
        return await run_post(post, self._scraper, keep=keep, patience=self._patience)

    async def _write(self, change: Callable[..., None], *arguments: Any) -> None:
        """Run a *change* of the store: one at a time, and to its end if the caller goes away."""
        async with self._writing:
            await finished(asyncio.to_thread(change, *arguments))

    async def _make_room(self, client: str | None) -> None:
        check_room(self._unfinished(), client, self._max_jobs)
        surplus = len(self._jobs) + 1 - self._max_jobs
        doomed = self._expired()
        doomed += [
            job for job in self._jobs.values() if job.state != "running" and job not in doomed
        ][: max(0, surplus - len(doomed))]
        await self._remove(doomed)

    def _unfinished(self) -> list[str | None]:
        return [job.client for job in self._jobs.values() if job.state == "running"]

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
