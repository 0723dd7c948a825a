"""How a worker runs a post of a job."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from redis.exceptions import RedisError
from structlog.contextvars import bound_contextvars

from scrapper.jobs.model import Job, JobPost
from scrapper.jobs.runner import needs_no_turn, note_progress, run_post
from scrapper.replicas.backlog import RedisBacklog
from scrapper.replicas.job_store import RedisJobStore
from scrapper.replicas.queue import PostQueue
from scrapper.scraping.scraper import Scraper
from scrapper.tasks import end

__all__ = ["PostRunner"]

_PROGRESS_SECONDS = 0.3
_PAUSE_SECONDS = 1.0

Result = TypeVar("Result")


class PostRunner:
    """Runs posts of the jobs in *store* by *scraper*, and keeps the jobs up to date.

    Posts that meet a limit wait in the *backlog*, for *patience* seconds in all, and return to the
    *queue*.
    """

    def __init__(
        self,
        store: RedisJobStore,
        scraper: Scraper,
        queue: PostQueue,
        backlog: RedisBacklog,
        *,
        patience: float,
    ) -> None:
        self._store = store
        self._scraper = scraper
        self._queue = queue
        self._backlog = backlog
        self._patience = patience

    async def fetch(self, job_id: str, index: int) -> None:
        """Run a post, unless it is finished or cancelled, or its job is gone.

        Return only once the outcome is stored, however long Redis is gone. Otherwise another
        worker would find the post unfinished and run it again.
        """

        def start(post: JobPost) -> JobPost | None:
            return replace(post, state="running", next_try_at=None) if post.unfinished else None

        with bound_contextvars(job=job_id):
            found = await _insist(lambda: self._store.find(job_id, index))
            if found is None or not found[1].unfinished:
                await _insist(self._backlog.skip)
                return
            job, before = found
            if await self._is_behind_others(before):
                await _insist(lambda: self._wait(job, index, before, 0.0))
                return
            post = await _insist(lambda: self._store.change(job_id, index, start))
            if post is None or post.state != "running":
                return
            following = asyncio.create_task(self._follow(job_id, index, post))
            try:
                wait = await run_post(post, self._scraper, keep=job.keep, patience=self._patience)
            finally:
                await end(following)
            if wait is None and before.state == "waiting":
                self._backlog.note_success()
            if wait is not None and post.unfinished:
                await _insist(lambda: self._wait(job, index, post, wait))
                return
            if wait is not None:
                await _insist(lambda: self._backlog.hold(wait))
            await _insist(lambda: self._note(job_id, index, post))

    async def _is_behind_others(self, post: JobPost) -> bool:
        if post.state != "queued" or not await _insist(self._backlog.has_posts):
            return False
        return not await needs_no_turn(post, self._scraper)

    async def _wait(self, job: Job, index: int, post: JobPost, hold: float) -> None:
        """Put the post in line, and store that it waits only after that, or it could be lost."""
        message = self._queue.message_for(job.id, index)
        turn = await self._backlog.join(job.place(index), message, hold)
        post.wait(turn, limited=hold > 0)
        await self._note(job.id, index, post)

    async def _follow(self, job_id: str, index: int, post: JobPost) -> None:
        """Store how far the download is, while it runs."""
        told = 0
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            note_progress(post, self._scraper)
            if post.bytes_done != told:
                with suppress(RedisError):
                    await self._note(job_id, index, post)
                    told = post.bytes_done

    async def _note(self, job_id: str, index: int, post: JobPost) -> None:
        # Another worker may have taken this one for dead, and been faster.
        await self._store.change(job_id, index, lambda stored: post if stored.unfinished else None)


async def _insist(ask: Callable[[], Awaitable[Result]]) -> Result:
    while True:
        try:
            return await ask()
        except RedisError:
            await asyncio.sleep(_PAUSE_SECONDS)
