"""A store that keeps jobs in memory until the process ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import NamedTuple
from uuid import uuid4

import orjson
import structlog

from scrapper.errors import Busy
from scrapper.jobs.model import Job, JobFilter, JobPost
from scrapper.jobs.store import Change, FinishedJob, JobChanges, check_room, jobs_to_drop
from scrapper.jobs.waiting import Backlog, Place
from scrapper.jobs.webhooks import LEASE_SECONDS, Delivery, Outcome, Waiting
from scrapper.library.listing import Cursor
from scrapper.tasks import end, in_background

__all__ = ["MemoryStore", "Record", "WaitingDelivery"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """A change to jobs that is stored atomically.

    ``posts`` are the changed posts of ``job``, by index. If the job ends with this change, ``ends``
    maps the name of each plugin to the number that identifies this end, and ``delivery`` is the
    webhook delivery, or None if the job has no webhook. ``reopened`` marks a finished job that runs
    again. ``forgotten`` hides the job. ``removed`` lists the IDs of the jobs to drop.
    """

    job: Job | None = None
    posts: Mapping[int, JobPost] = field(default_factory=dict)
    is_new: bool = False
    reopened: bool = False
    forgotten: bool = False
    ends: Mapping[str, int] = field(default_factory=dict)
    delivery: Delivery | None = None
    removed: Sequence[str] = ()


class WaitingDelivery(NamedTuple):
    """A delivery and its times on the monotonic clock."""

    delivery: Delivery
    noted_at: float
    due_at: float


class MemoryStore:
    """A :class:`~scrapper.jobs.store.JobStore` in memory.

    It also implements :class:`~scrapper.jobs.store.FinishedJobs` and
    :class:`~scrapper.jobs.webhooks.Deliveries`.

    At most *max_jobs* are kept. Jobs expire after *max_age* seconds, but not before their end is
    reported to all *plugins*, and only while *clock_is_trusted* returns True. That function may
    block. *spacing* is passed to the :class:`~scrapper.jobs.waiting.Backlog`. A subclass that
    persists the jobs overrides :meth:`keep` and the methods that change deliveries.
    """

    def __init__(
        self,
        *,
        max_jobs: int = 1,
        max_age: float = float("inf"),
        spacing: float = 0.0,
        plugins: Sequence[str] = (),
        clock_is_trusted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._max_jobs = max_jobs
        self._max_age = max_age
        self._clock_is_trusted = clock_is_trusted
        self._jobs: dict[str, Job] = {}
        self._unfinished: dict[str, int] = {}
        # Posts of older jobs come first, so a post from the backlog overtakes those of newer jobs.
        self._queue: asyncio.PriorityQueue[Place] = asyncio.PriorityQueue()
        self._queued: set[Place] = set()
        self._backlog = Backlog(spacing)
        self._deliveries: dict[str, WaitingDelivery] = {}
        self._ends: dict[str, dict[str, int]] = {plugin: {} for plugin in plugins}
        self._last_end = 0
        self._changing = asyncio.Lock()
        self._busy_at = float("-inf")
        # Maps each job to the number of its last change and its owner; the latest change is last.
        self._changes: dict[str, tuple[int, str | None]] = {}
        self._last_change = 0

    async def open(self) -> None:
        """Start releasing posts from the backlog."""
        self._releasing = in_background(self._release(), "backlog")

    async def close(self) -> None:
        """Stop releasing posts from the backlog."""
        await end(self._releasing)

    async def next_place(self) -> Place:
        """Wait for a queued post, then remove and return the one from the oldest job."""
        place = await self._queue.get()
        self._queued.discard(place)
        return place

    async def keep(self, record: Record) -> None:
        """Persist *record*, or raise an error. This class persists nothing."""

    async def add(self, job: Job) -> None:
        async with self._exclusive():
            await self.check_room(job.client)
            expired = await self._expired()
            finished = [
                it for it, left in self._unfinished.items() if not left and it not in expired
            ]
            unreported = {job_id for ends in self._ends.values() for job_id in ends}
            kept = len(self._jobs) - len(expired)
            full = jobs_to_drop(kept, finished, unreported, self._max_jobs)
            await self._remove([*expired, *full])
            await self._apply(job, Record(job, dict(enumerate(job.posts)), is_new=True))
            self._jobs[job.id] = job

    async def get(self, job_id: str) -> Job | None:
        await self._drop_expired()
        job = self._jobs.get(job_id)
        return None if job is None or job.forgotten else job

    async def newest(self, number: int, after: Cursor | None, wanted: JobFilter) -> Sequence[Job]:
        await self._drop_expired()
        jobs = sorted(self._jobs.values(), key=lambda job: job.cursor.key)
        rest = (job for job in jobs if after is None or job.cursor.key > after.key)
        return list(islice(filter(wanted.allows, rest), number))

    async def forget(self, job: Job) -> bool:
        async with self._exclusive():
            kept = self._jobs.get(job.id)
            if kept is None or self._unfinished[job.id]:
                return False
            await self.keep(Record(kept, forgotten=True))
            kept.forgotten = True
            self._record_change(kept)
        return True

    async def changed(self, since: int) -> JobChanges:
        changes = reversed(self._changes.items())
        later = takewhile(lambda change: change[1][0] > since, changes)
        return JobChanges(self._last_change, [(id_, owner) for id_, (_, owner) in later])

    async def refresh(self, job: Job) -> bool:
        kept = self._jobs.get(job.id)
        return kept is not None and not kept.forgotten

    async def change(self, job: Job, how: Change, *, queue: bool = False) -> bool:  # noqa: ARG002 - the post's state decides
        async with self._exclusive():
            kept = self._jobs.get(job.id)
            if kept is None or kept.forgotten:
                return False
            posts = ((index, how(post)) for index, post in enumerate(kept.posts))
            await self._apply(kept, Record(kept, {it: post for it, post in posts if post}))
        return True

    async def check_room(self, client: str | None) -> None:
        unfinished = [job.client for job in self._jobs.values() if self._unfinished[job.id]]
        check_room(unfinished, client, self._max_jobs)

    async def find(self, job_id: str, index: int) -> tuple[Job, JobPost] | None:
        job = self._jobs.get(job_id)
        return None if job is None else (job, job.posts[index])

    async def save_post(self, job_id: str, index: int, post: JobPost) -> bool:
        async with self._changing:
            job = self._jobs.get(job_id)
            if job is None or not job.posts[index].unfinished:
                return False
            await self._apply(job, Record(job, {index: post}), is_outcome=True)
        return True

    async def wait(self, job: Job, index: int, post: JobPost, hold: float = 0.0) -> None:
        await self.hold(hold)
        place = job.place(index)
        until = self._backlog.join(place)
        if not await self.save_post(job.id, index, post.waiting(until, limited=hold > 0)):
            self._backlog.leave(place)

    async def hold(self, seconds: float) -> None:
        self._backlog.hold(seconds)
        until = self._backlog.held_until
        for place in self._backlog:
            job = self._jobs[place.job_id]
            post = job.posts[place.position]
            if (delayed := post.delayed(until)) is not post:
                job.posts[place.position] = delayed
                job.record_version(place.position, job.version + 1)
                self._record_change(job)

    async def has_waiting(self) -> bool:
        return bool(self._backlog)

    def record_success(self) -> None:
        self._backlog.record_success()

    async def skip(self) -> None:
        """Do nothing, because a cancelled post has already left this backlog."""

    async def unreported(self, plugin: str) -> Sequence[FinishedJob]:
        # Return copies because a job may be retried before the plugin gets it.
        return [
            FinishedJob(replace(job.to_response(), posts=list(job.posts)), number)
            for job_id, number in self._ends[plugin].items()
            if (job := self._jobs.get(job_id))
        ]

    async def is_unreported(self, plugin: str, job: FinishedJob) -> bool:
        return self._ends[plugin].get(job.response.id) == job.end

    async def record_reported(self, plugin: str, job: FinishedJob) -> None:
        if await self.is_unreported(plugin, job):
            del self._ends[plugin][job.response.id]

    async def waiting(self) -> Sequence[Waiting]:
        now = time.monotonic()
        return [
            Waiting(id_, it.delivery.job, it.delivery.receiver, now - it.noted_at, it.due_at <= now)
            for id_, it in self._deliveries.items()
        ]

    async def take(self, id_: str) -> Delivery | None:
        found = self._deliveries.get(id_)
        if found is None:
            return None
        self._deliveries[id_] = found._replace(due_at=time.monotonic() + LEASE_SECONDS)
        return found.delivery

    async def finish(self, id_: str, outcome: Outcome) -> None:
        job = self._jobs.get(self._deliveries.pop(id_).delivery.job)
        others = (it.delivery.job for it in self._deliveries.values())
        # A retried job sends another webhook when it ends again.
        if job is not None and not self._unfinished[job.id] and job.id not in others:
            job.webhook_outcome = outcome
            self._record_change(job)

    async def postpone(self, id_: str, seconds: float) -> None:
        found = self._deliveries[id_]
        counted = replace(found.delivery, attempts=found.delivery.attempts + 1)
        self._deliveries[id_] = found._replace(delivery=counted, due_at=time.monotonic() + seconds)

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Hold the lock for a client that changes jobs.

        Raises:
            Busy: another client's change failed with Busy while this client waited for the lock.
                This client's change is not attempted, because it could take seconds to fail.
        """
        queued_at = time.monotonic()
        async with self._changing:
            if self._busy_at > queued_at:
                raise Busy(retry_after=1)
            try:
                yield
            except Busy:
                self._busy_at = time.monotonic()
                raise

    async def _release(self) -> None:
        while True:
            self._enqueue(await self._backlog.next())

    def _enqueue(self, place: Place) -> None:
        # A post that was cancelled and then retried may still be in the queue.
        if place not in self._queued:
            self._queued.add(place)
            self._queue.put_nowait(place)

    def _resume(self, jobs: Iterable[Job], longest_wait: float) -> None:
        """Resume *jobs* of an earlier process. Their posts wait at most *longest_wait* seconds."""
        hold = 0.0
        for job in jobs:
            self._jobs[job.id] = job
            self._unfinished[job.id] = sum(post.unfinished for post in job.posts)
            for index, post in enumerate(job.posts):
                job.record_version(index, index + 1)
                if post.state == "queued":
                    self._enqueue(job.place(index))
                elif post.state == "waiting":
                    self._backlog.join(job.place(index))
                    # The latest of these times is the end of the last hold.
                    hold = max(hold, post.seconds_to_wait(longest_wait))
        self._backlog.hold(hold)

    async def _apply(self, job: Job, record: Record, *, is_outcome: bool = False) -> None:
        """Store *record*, then apply it to *job*.

        An outcome that cannot be stored is applied anyway. After a restart, the post is processed
        again.
        """
        before = self._unfinished.get(job.id, 0)
        left = before + sum(post.unfinished for post in record.posts.values())
        if not record.is_new:
            left -= sum(job.posts[index].unfinished for index in record.posts)
        if not left and (before or record.is_new):
            record = self._with_end(job, record)
        elif left and not (before or record.is_new):
            record = replace(record, reopened=True)
        try:
            await self.keep(record)
        except Exception:
            if not is_outcome:
                raise
            log.exception("job not saved", job=job.id)
        self._unfinished[job.id] = left
        for index, post in record.posts.items():
            self._replace(job, index, post)
        self._record_end(job, record)
        self._record_change(job)

    def _replace(self, job: Job, index: int, post: JobPost) -> None:
        old, job.posts[index] = job.posts[index], post
        job.record_version(index, job.version + 1)
        if post.state == "queued":
            self._enqueue(job.place(index))
        elif old.state == "waiting" != post.state:
            self._backlog.leave(job.place(index))

    def _record_change(self, job: Job) -> None:
        self._last_change += 1
        self._changes.pop(job.id, None)
        self._changes[job.id] = self._last_change, job.owner
        if len(self._changes) > 2 * self._max_jobs:
            del self._changes[next(iter(self._changes))]

    def _with_end(self, job: Job, record: Record) -> Record:
        """Return *record* with the end of *job* added, for the plugins and the webhook."""
        self._last_end += 1
        delivery = None
        if job.webhook is not None:
            posts = [record.posts.get(index, post) for index, post in enumerate(job.posts)]
            body = orjson.dumps(replace(job, posts=posts).to_response())
            id_, now = f"msg_{uuid4().hex}", time.time()
            delivery = Delivery(id_, job.webhook, body, job=job.id, noted_at=now)
        return replace(record, ends=dict.fromkeys(self._ends, self._last_end), delivery=delivery)

    def _record_end(self, job: Job, record: Record) -> None:
        if record.reopened:
            job.webhook_outcome = None
        for plugin, ends in self._ends.items():
            if record.reopened:
                ends.pop(job.id, None)
            elif plugin in record.ends:
                ends[job.id] = record.ends[plugin]
        if record.delivery is not None:
            now = time.monotonic()
            self._deliveries[record.delivery.id] = WaitingDelivery(record.delivery, now, now)

    async def _announce(self, job: Job) -> None:
        """Add a delivery for a *job* that ended in an earlier process."""
        record = replace(self._with_end(job, Record(job)), ends={})
        try:
            await self.keep(record)
        except Exception:
            # The webhook is still sent from memory. After a restart, the delivery is added again.
            log.exception("webhook not stored", job=job.id)
        self._record_end(job, record)

    async def _expired(self) -> Sequence[str]:
        oldest = time.time() - self._max_age
        unreported = {job_id for ends in self._ends.values() for job_id in ends}
        reported = [
            job
            for job in self._jobs.values()
            if not self._unfinished[job.id] and job.id not in unreported
        ]
        forgotten = [job.id for job in reported if job.forgotten]
        expired = [job.id for job in reported if job.created_at < oldest]
        if expired and not await asyncio.to_thread(self._clock_is_trusted):
            return forgotten
        return list({*forgotten, *expired})

    async def _drop_expired(self) -> None:
        try:
            if await self._expired():
                async with self._changing:
                    await self._remove(await self._expired())
        except Exception as error:  # noqa: BLE001
            # Clients must be able to read jobs even while the disk is full.
            log.warning("old jobs not removed", cause=repr(error))

    async def _remove(self, job_ids: Sequence[str]) -> None:
        if not job_ids:
            return
        await self.keep(Record(removed=job_ids))
        for job_id in job_ids:
            self._record_change(self._jobs[job_id])
            del self._jobs[job_id], self._unfinished[job_id]
            for plugin, ends in self._ends.items():
                if ends.pop(job_id, None) is not None:
                    log.error("plugin missed a job: too many waiting", plugin=plugin)
