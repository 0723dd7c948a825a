"""The jobs that ended, for the plugins that want to know, in Redis."""

from collections.abc import Sequence
from typing import Any

from scrapper.jobs.contract import FinishedJob
from scrapper.replicas.client import SharedRedis
from scrapper.replicas.job_store import RedisJobStore, ended_for

__all__ = ["RedisFinishedJobs"]

_AT_ONCE = 99
_FORGET = """
if tonumber(redis.call("ZSCORE", KEYS[1], ARGV[1])) == tonumber(ARGV[2]) then
    redis.call("ZREM", KEYS[1], ARGV[1])
end
"""


class RedisFinishedJobs:
    """:class:`~scrapper.jobs.contract.FinishedJobs` of the jobs in *store*.

    Each plugin has a sorted set, which the store adds to when a job ends. Calls raise
    :class:`redis.exceptions.RedisError` if Redis does not answer.
    """

    def __init__(self, redis: SharedRedis, store: RedisJobStore) -> None:
        self._redis = redis
        self._store = store
        self._forget_end: Any = redis.register_script(_FORGET)

    async def untold(self, plugin: str) -> Sequence[FinishedJob]:
        ends: Any = await self._redis.zrange(ended_for(plugin), 0, _AT_ONCE, withscores=True)
        jobs = []
        for name, end in ends:
            job = await self._store.get(name.decode())
            # One that goes on is noted again when it ends.
            if job is None or job.state == "running":
                await self._forget(plugin, name.decode(), end)
            else:
                jobs.append(FinishedJob(job.to_response(), end))
        return jobs

    async def note_told(self, plugin: str, job: FinishedJob) -> None:
        await self._forget(plugin, job.response.id, job.end)
        await self._store.let_go(job.response.id)

    async def _forget(self, plugin: str, job_id: str, end: object) -> None:
        await self._forget_end(keys=[ended_for(plugin)], args=[job_id, repr(end)])
