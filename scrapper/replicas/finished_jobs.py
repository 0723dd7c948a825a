"""The jobs that ended, for the plugins that want to know, in Redis."""

from collections.abc import Sequence
from typing import Any

from scrapper.jobs.model import Job
from scrapper.replicas.client import SharedRedis
from scrapper.replicas.job_store import RedisJobStore, ended_for

__all__ = ["RedisFinishedJobs"]

_AT_ONCE = 99


class RedisFinishedJobs:
    """:class:`~scrapper.plugins.following.FinishedJobs` of the jobs in *store*.

    Each plugin has a sorted set, which the store adds to when a job ends. Calls raise
    :class:`redis.exceptions.RedisError` if Redis does not answer.
    """

    def __init__(self, redis: SharedRedis, store: RedisJobStore) -> None:
        self._redis = redis
        self._store = store

    async def untold(self, plugin: str) -> Sequence[Job]:
        names: Any = await self._redis.zrange(ended_for(plugin), 0, _AT_ONCE)
        jobs = []
        for name in names:
            job = await self._store.get(name.decode())
            # One that goes on is noted again when it ends.
            if job is None or job.state == "running":
                await self.note_told(plugin, name.decode())
            else:
                jobs.append(job)
        return jobs

    async def note_told(self, plugin: str, job_id: str) -> None:
        await self._redis.zrem(ended_for(plugin), job_id)
