"""Jobs in Redis, where all replicas and workers see them."""

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from redis.asyncio.client import Pipeline

from scrapper.errors import JobsFull
from scrapper.job import Job, JobPost
from scrapper.jobs import MAKE_ROOM_SECONDS
from scrapper.replicas.client import PREFIX, SharedRedis

__all__ = ["RedisJobStore"]

_ALL = f"{PREFIX}jobs"
_CREATED, _VERSION, _LEFT = b"created_at", b"version", b"left"
_EPOCH = "0"
"""Of the versions of all jobs here: they are counted in Redis, and so the same for everybody."""


class RedisJobStore:
    """At most *max_jobs* jobs, for *max_age* seconds; for a new one the oldest finished one goes.

    A job is a hash: its time, the number of its last change, how many of its posts are
    unfinished, and each post under its index, with the number of the change that made it so.
    All IDs are in a sorted set, by time. Calls raise :class:`redis.exceptions.RedisError` where
    Redis does not answer.
    """

    def __init__(self, redis: SharedRedis, *, max_jobs: int, max_age: float) -> None:
        self._redis = redis
        self._max_jobs = max_jobs
        self._max_age = max_age

    async def add(self, job: Job, also: Callable[[Pipeline], None]) -> None:
        """Store a new *job*, and do what is *also* to be done in the same transaction.

        Raises:
            JobsFull: as many jobs as may be kept are unfinished.
        """
        job.epoch = _EPOCH

        async def add(transaction: Pipeline) -> None:
            gone = await self._make_room(transaction)
            transaction.multi()
            if gone:
                transaction.zrem(_ALL, *gone)
                transaction.delete(*map(_key, gone))
            transaction.zadd(_ALL, {job.id: job.created_at})
            transaction.hset(_key(job.id), mapping={_CREATED: job.created_at, _VERSION: 0})
            self._write(transaction, job, 0, range(len(job.posts)))
            also(transaction)

        with self._redis.asking():
            await self._redis.transaction(add, _ALL)

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now, or None: unknown, or too old."""
        job = Job(job_id, 0.0, [], _EPOCH)
        return job if await self.load(job) else None

    async def load(self, job: Job) -> bool:
        """Bring *job* up to date; false where it is there no more."""
        return _read(job, await self._redis.hgetall(_key(job.id)))

    async def change(self, job_id: str, how: Callable[[Job], Iterable[int]]) -> Job | None:
        """Change a job: *how* does it, and answers with the indexes of the posts it changed.

        It is called again where somebody else changed the job meanwhile. The job as it is then
        is returned, or None where there is none.
        """

        async def change(transaction: Pipeline) -> Job | None:
            job = Job(job_id, 0.0, [], _EPOCH)
            fields: Any = await transaction.hgetall(_key(job_id))
            if not _read(job, fields):
                return None
            changed = list(how(job))
            transaction.multi()
            if changed:
                self._write(transaction, job, int(fields[_VERSION]), changed)
            return job

        with self._redis.asking():
            done: Job | None = await self._redis.transaction(
                change, _key(job_id), value_from_callable=True
            )
        return done

    def _write(self, transaction: Pipeline, job: Job, version: int, indexes: Iterable[int]) -> None:
        for version_now, index in enumerate(indexes, start=version + 1):
            told = orjson.dumps([version_now, *job.posts[index].to_json().values()])
            transaction.hset(_key(job.id), str(index), told)
            version = version_now
        left = sum(post.unfinished for post in job.posts)
        transaction.hset(_key(job.id), mapping={_VERSION: version, _LEFT: left})
        if not left:
            transaction.pexpireat(_key(job.id), int((job.created_at + self._max_age) * 1000))

    async def _make_room(self, transaction: Pipeline) -> list[str]:
        """The IDs of the jobs that are to go for a new one, or went by themselves."""
        names: Any = await transaction.zrange(_ALL, 0, -1)
        ids = [name.decode() for name in names]
        surplus = len(ids) + 1 - self._max_jobs
        if surplus <= 0:
            return []
        left = {id_: await transaction.hget(_key(id_), _LEFT) for id_ in ids}
        gone = [id_ for id_ in ids if left[id_] is None]
        finished = [id_ for id_ in ids if left[id_] == b"0"]
        gone += finished[: max(0, surplus - len(gone))]
        if len(gone) < surplus:
            raise JobsFull(retry_after=MAKE_ROOM_SECONDS)
        return gone


def _key(job_id: str) -> str:
    return f"{PREFIX}job:{job_id}"


def _read(job: Job, fields: Any) -> bool:
    if not fields:
        return False
    job.created_at = float(fields[_CREATED])
    rows = [orjson.loads(fields[b"%d" % index]) for index in range(len(fields) - 3)]
    job.posts[:] = [JobPost(*row[1:]) for row in rows]
    for index, (version, *_) in enumerate(rows):
        job.note(index, version)
    return True
