"""The jobs of a single process, which runs them itself."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import structlog

from scrapper.errors import INTERNAL_ERROR, ScrapeError
from scrapper.jobs.backlog import Backlog, Place
from scrapper.jobs.contract import JobEnds, Nobody, check_room
from scrapper.jobs.model import Job
from scrapper.jobs.runner import needs_no_turn, note_progress, run_post
from scrapper.jobs.sqlite_store import JobStore
from scrapper.jobs.webhooks import MOST_DELIVERIES, Delivery
from scrapper.scraping.scraper import Scraper
from scrapper.tasks import finished, in_background

__all__ = ["LocalJobs"]

log = structlog.get_logger(__name__)

_DAY = 24 * 60 * 60
_SECONDS_BETWEEN_LOOKS = 5.0


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
        ends: JobEnds | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._ends = ends or Nobody()
        self._scraper = scraper
        self._store = store
        self._concurrency = concurrency
        self._max_jobs = max_jobs
        self._max_age = max_age
        self._check = check
        self._jobs: dict[str, Job] = {}
        # The oldest first: a post that waited goes before those that came later.
        self._queue: asyncio.PriorityQueue[Place] = asyncio.PriorityQueue()
        self._queued: set[Place] = set()
        self._backlog = backlog
        self._patience = patience
        self._deliveries: dict[Delivery, float] = {}
        self._in_flight: set[Delivery] = set()
        self._runners: list[asyncio.Task[None]] = []
        self._tidying = asyncio.Lock()
        self._writing = asyncio.Lock()
        self.closing = False

    async def open(self) -> None:
        """Resume the jobs that an earlier process left.

        Raises:
            OSError, sqlite3.Error: the store cannot be used.
        """
        jobs = await asyncio.to_thread(self._store.open, self._everything)
        await self._ends.opened(jobs)
        for job in jobs:
            self._jobs[job.id] = job
            self._enqueue(job)
            await self._announce(job)
        self._deliveries = await asyncio.to_thread(self._store.deliveries)
        self._resume_waiting()
        self._runners.append(in_background(self._let_go(), "backlog"))
        self._runners.append(in_background(self._watch(), "file of jobs"))
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
            try:
                await self._remove(self._expired())
            except (ScrapeError, sqlite3.Error) as error:
                # Even on a full disk, clients can still look at a job.
                log.warning("old jobs not removed", cause=repr(error))
        job = self._jobs.get(job_id)
        if job is not None:
            await self.observe(job)
        return job

    async def cancel(self, job: Job) -> bool:
        unstarted = [index for index, post in enumerate(job.posts) if post.can_be_cancelled]
        with self._restoring(job, unstarted):
            for index in unstarted:
                job.posts[index] = job.posts[index].cancelled()
            await self._write(self._store.save, job, unstarted)
        for index in unstarted:
            self._backlog.leave(job.place(index))
        await self._announce(job)
        return True

    async def retry(self, job: Job) -> bool:
        ended = [index for index, post in enumerate(job.posts) if post.can_be_retried]
        if not ended:
            return True
        if job.state != "running":
            check_room(self._unfinished(), job.client, self._max_jobs)
        await self._ends.reopened(job)
        # Somebody else may have retried the job meanwhile.
        ended = [index for index in ended if job.posts[index].can_be_retried]
        try:
            with self._restoring(job, ended):
                for index in ended:
                    job.posts[index] = job.posts[index].anew()
                await self._write(self._store.reopen, job, ended)
        except Exception:
            if job.state != "running":
                self._ends.ended(job)
            raise
        job.announced = False
        for index in ended:
            self._put(job.place(index))
        return True

    @contextmanager
    def _restoring(self, job: Job, positions: Sequence[int]) -> Iterator[None]:
        """Put the job's posts at these *positions* back if they cannot be stored."""
        before = {index: job.posts[index] for index in positions}
        try:
            yield
        except Exception:
            for index, post in before.items():
                job.posts[index] = post
                # Meanwhile a runner may have taken the post from the queue and skipped it.
                if post.state == "queued":
                    self._put(job.place(index))
                elif post.state == "waiting":
                    self._backlog.leave(job.place(index))
                    self._backlog.join(job.place(index))
            raise

    async def observe(self, job: Job) -> bool:
        held_until = self._backlog.held_until
        for post in job.posts:
            note_progress(post, self._scraper)
            post.note_delay(held_until)
        return True

    async def take(self) -> Delivery | None:
        """Part of :class:`~scrapper.jobs.webhooks.Deliveries`, as are the next two."""
        now = time.time()
        for delivery, due_at in self._deliveries.items():
            # A time far ahead is one that a wrong clock left.
            if not now < due_at < now + _DAY:
                self._deliveries.pop(delivery)
                self._in_flight.add(delivery)
                return delivery
        return None

    async def finish(self, delivery: Delivery) -> None:
        self._in_flight.discard(delivery)
        await self._write(self._store.finish, delivery)

    async def postpone(self, delivery: Delivery, seconds: float) -> None:
        due_at = time.time() + seconds
        self._in_flight.discard(delivery)
        self._deliveries[replace(delivery, attempts=delivery.attempts + 1)] = due_at
        await self._write(self._store.postpone, delivery, due_at)

    def _everything(self) -> tuple[list[Job], dict[Delivery, float]]:
        """What a new file of the store must hold; called in its thread."""
        in_flight = dict.fromkeys(self._in_flight.copy(), 0.0)
        return list(self._jobs.values()), {**in_flight, **self._deliveries.copy()}

    async def _announce(self, job: Job) -> None:
        """If the job ended and has a webhook, note that it is to be sent."""
        if job.state != "running":
            self._ends.ended(job)
        if job.webhook is None or job.announced or job.state == "running":
            return
        job.announced = True
        delivery = Delivery(f"msg_{uuid4().hex}", job.webhook, orjson.dumps(job.to_response()))
        try:
            await self._write(self._store.announce, job, delivery)
        except Exception:
            # It is sent from memory, or again after the next start.
            log.exception("webhook not stored", job=job.id)
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
        # The last limit set the latest time.
        longest = max((seconds for _, seconds in waiting), default=0.0)
        for place, _ in waiting:
            self._backlog.join(place, longest)

    async def _watch(self) -> None:
        """Have the jobs on disk while nothing changes, too."""
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            try:
                await self._write(self._store.look)
            # The disk may be away for a while.
            except Exception as error:  # noqa: BLE001
                log.warning("jobs not on disk", cause=repr(error))

    async def _let_go(self) -> None:
        while True:
            self._put(await self._backlog.next())

    def _put(self, place: Place) -> None:
        # A post that was cancelled and is tried again may still be in the queue.
        if place not in self._queued:
            self._queued.add(place)
            self._queue.put_nowait(place)

    def _enqueue(self, job: Job) -> None:
        for index, post in enumerate(job.posts):
            if post.state == "queued":
                self._put(job.place(index))

    async def _work(self) -> None:
        while True:
            place = await self._queue.get()
            self._queued.discard(place)
            job = self._jobs.get(place.job_id)
            if job and job.posts[place.position].can_be_cancelled:
                await self._run(job, place)

    async def _run(self, job: Job, place: Place) -> None:
        index = place.position
        post = job.posts[index]
        try:
            await self._try(job, place)
        # Whatever the error is, the next post must run.
        except Exception:
            log.exception("post of a job failed", job=job.id)
            post.fail(*INTERNAL_ERROR)
        try:
            await self._write(self._store.save, job, [index])
        except Exception:
            # After a restart the post is looked up again.
            log.exception("job not saved", job=job.id)
        await self._announce(job)

    async def _try(self, job: Job, place: Place) -> None:
        post = job.posts[place.position]
        had_waited = post.state == "waiting"
        is_behind = bool(self._backlog) and not had_waited
        must_wait = is_behind and not await needs_no_turn(post, self._scraper)
        if post is not job.posts[place.position]:
            # It was cancelled meanwhile.
            return
        if must_wait:
            post.wait(self._backlog.join(place), limited=False)
            return
        post.start()
        pause = await run_post(post, self._scraper, keep=job.keep, patience=self._patience)
        if pause is None:
            if had_waited:
                self._backlog.note_success()
        elif post.unfinished:
            post.wait(self._backlog.join(place, pause), limited=True)
        else:
            self._backlog.hold(pause)

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
