"""The jobs of several replicas: any replica takes them, workers run them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from scrapper.errors import JobsUnreachable
from scrapper.jobs.contract import MAKE_ROOM_SECONDS
from scrapper.jobs.model import Job, JobPost
from scrapper.replicas.backlog import RedisBacklog
from scrapper.replicas.job_store import RedisJobStore
from scrapper.replicas.queue import STREAM, PostQueue

__all__ = ["SharedJobs"]


class SharedJobs:
    """:class:`~scrapper.jobs.contract.Jobs` in *store*, whose posts wait in *queue*."""

    def __init__(self, store: RedisJobStore, queue: PostQueue, backlog: RedisBacklog) -> None:
        self._store = store
        self._queue = queue
        self._backlog = backlog
        self.closing = False

    async def submit(self, job: Job) -> None:
        def enqueue(transaction: Pipeline) -> None:
            for index, post in enumerate(job.posts):
                if post.unfinished:
                    self._queue.add(transaction, job.id, index)

        with _reaching():
            await self._store.add(job, enqueue)

    async def get(self, job_id: str) -> Job | None:
        with _reaching():
            job = await self._store.get(job_id)
            if job and any(post.state == "waiting" for post in job.posts):
                held_until = await self._backlog.held_until()
                for post in job.posts:
                    post.note_delay(held_until)
            return job

    async def cancel(self, job: Job) -> bool:
        def give_up(post: JobPost) -> JobPost | None:
            return post.cancelled() if post.can_be_cancelled else None

        with _reaching():
            for index, post in enumerate(job.posts):
                if post.unfinished:
                    await self._store.change(job.id, index, give_up)
            return await self._store.load(job)

    async def retry(self, job: Job) -> bool:
        def again(post: JobPost) -> JobPost | None:
            return post.anew() if post.can_be_retried else None

        with _reaching():
            if job.state != "running":
                await self._store.check_room(job.client or "")
            for index, post in enumerate(job.posts):
                if post.can_be_retried:
                    message = self._queue.message_for(job.id, index)
                    await self._store.change(job.id, index, again, queue=(STREAM, message))
            return await self._store.load(job)

    async def observe(self, job: Job) -> bool:
        # While Redis is gone, nothing new is known.
        with suppress(RedisError):
            return await self._store.refresh(job)
        return True


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise JobsUnreachable(retry_after=MAKE_ROOM_SECONDS) from error
