"""Accepts, follows, cancels and retries jobs, with any store and runner."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from scrapper.errors import JobRunning
from scrapper.jobs.model import Job, JobFilter, JobPost
from scrapper.jobs.runner import Runner
from scrapper.jobs.store import JobChanges, JobStore
from scrapper.jobs.stores.memory import MemoryStore
from scrapper.library.listing import Cursor
from scrapper.tasks import end, in_background

__all__ = ["Jobs", "running"]

log = structlog.get_logger(__name__)


class Jobs:
    """The operations that clients can perform on the jobs in *store*.

    Once ``closing`` is true, every :meth:`follow` generator ends.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.closing = False

    async def submit(self, job: Job) -> None:
        """Accept a new *job*.

        Raises the same errors as :meth:`.JobStore.add`.
        """
        await self._store.add(job)

    async def get(self, job_id: str) -> Job | None:
        """Return the current state of the job, or None if it is unknown or expired.

        Raises:
            JobsUnreachable: Redis does not answer.
        """
        return await self._store.get(job_id)

    async def list(
        self, limit: int, after: Cursor | None, wanted: JobFilter
    ) -> tuple[Sequence[Job], Cursor | None]:
        """Return a page of jobs, newest first, and the cursor of the next page.

        The page has at most *limit* jobs that match the filter *wanted*. It starts after the cursor
        *after*, or with the newest job if *after* is None. The returned cursor is None if there is
        no next page.

        Raises:
            JobsUnreachable: Redis does not answer.
        """
        jobs = await self._store.newest(limit + 1, after, wanted)
        return jobs[:limit], jobs[limit - 1].cursor if len(jobs) > limit else None

    async def changed(self, since: int) -> JobChanges:
        """Return the jobs whose last change has a number greater than *since*.

        Raises:
            JobsUnreachable: Redis does not answer.
        """
        return await self._store.changed(since)

    async def forget(self, job: Job) -> bool:
        """Hide a finished *job* from all clients. Return False if the job is gone.

        Raises:
            JobRunning: the job is not finished.
            DiskFull, DiskReadOnly, MediaFolderGone: the change cannot be stored.
            JobsUnreachable: Redis does not answer.
        """
        if await self._store.forget(job):
            return True
        if await self._store.get(job.id) is None:
            return False
        raise JobRunning

    async def cancel(self, job: Job) -> bool:
        """Cancel the job's queued and waiting posts. Return False if the job is gone.

        Raises the same errors as :meth:`.JobStore.change`.
        """

        def cancel_post(post: JobPost) -> JobPost | None:
            return post.cancelled() if post.can_be_cancelled else None

        return await self._store.change(job, cancel_post)

    async def retry(self, job: Job) -> bool:
        """Queue the job's failed and cancelled posts again. Return False if the job is gone.

        Raises the same errors as :meth:`.JobStore.change`, and those of
        :meth:`.JobStore.check_room` if the job is finished.
        """

        def retry_post(post: JobPost) -> JobPost | None:
            return post.retried() if post.can_be_retried else None

        if job.state != "running" and any(post.can_be_retried for post in job.posts):
            await self._store.check_room(job.client)
        return await self._store.change(job, retry_post, queue=True)

    async def follow(self, job: Job, pause: Callable[[], float]) -> AsyncIterator[Job]:
        """Yield *job* now and after each change.

        The generator ends when the job ends or is gone, or when the process stops. The store is
        polled every ``pause()`` seconds.
        """
        seen = -1
        while not self.closing and await self._store.refresh(job):
            ended = job.state != "running"
            if job.version != seen or ended:
                seen = job.version
                yield job
            if ended:
                return
            await asyncio.sleep(pause())


@asynccontextmanager
async def running(store: MemoryStore, runner: Runner, concurrency: int) -> AsyncIterator[None]:
    """Open *store*, and run up to *concurrency* of its posts at once during the block.

    The posts run in this process. A persistent store resumes the unfinished posts of an earlier
    process.
    """

    async def work() -> None:
        while True:
            place = await store.next_place()
            try:
                await runner.run(place.job_id, place.position)
            except Exception:
                # An error in one post must not stop the worker.
                log.exception("post of a job abandoned", job=place.job_id, index=place.position)

    await store.open()
    workers = [in_background(work(), "job runner") for _ in range(concurrency)]
    try:
        yield
    finally:
        for worker in workers:
            worker.cancel()
        for worker in workers:
            await end(worker)
        await store.close()
