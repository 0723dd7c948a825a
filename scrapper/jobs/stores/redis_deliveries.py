"""Webhooks that are to be delivered, in Redis, where any worker finds them."""

from typing import Any
from uuid import uuid4

import orjson

from scrapper.jobs.stores.redis import ENDED_JOBS, RedisStore
from scrapper.jobs.webhooks import Delivery
from scrapper.replicas.client import PREFIX, SharedRedis

__all__ = ["RedisDeliveries"]

_DUE = f"{PREFIX}deliveries"
_LEASE_SECONDS = 60
"""Within this time a worker delivers what it took, or another one takes it."""
_KEPT_SECONDS = 7 * 24 * 60 * 60

_LATER = """
local now = tonumber(redis.call("TIME")[1])
redis.call("ZADD", KEYS[1], now + ARGV[1], ARGV[2])
"""
_TAKE = """
local now = tonumber(redis.call("TIME")[1])
local due = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", now, "LIMIT", 0, 1)
if due[1] then
    redis.call("ZADD", KEYS[1], now + ARGV[1], due[1])
end
return due[1]
"""


class RedisDeliveries:
    """:class:`~scrapper.jobs.webhooks.Deliveries` for all workers; the jobs are in *store*.

    A sorted set has the IDs of deliveries, by the time at which each is due, and a hash has the
    rest of each. Calls raise :class:`redis.exceptions.RedisError` if Redis does not answer.
    """

    def __init__(self, redis: SharedRedis, store: RedisStore) -> None:
        self._redis = redis
        self._store = store
        self._take: Any = redis.register_script(_TAKE)
        self._later: Any = redis.register_script(_LATER)

    async def take_delivery(self) -> Delivery | None:
        while (job_id := await self._take(keys=[ENDED_JOBS], args=[_LEASE_SECONDS])) is not None:
            await self._write_down(job_id.decode())
        while (found := await self._take(keys=[_DUE], args=[_LEASE_SECONDS])) is not None:
            id_ = found.decode()
            fields: Any = await self._redis.hgetall(_key(id_))
            if fields:
                url, attempts = fields[b"url"].decode(), int(fields[b"attempts"])
                return Delivery(id_, url, fields[b"body"], attempts)
            await self._redis.zrem(_DUE, id_)
        return None

    async def finish(self, delivery: Delivery) -> None:
        async with self._redis.pipeline() as transaction:
            transaction.zrem(_DUE, delivery.id)
            transaction.delete(_key(delivery.id))
            with self._redis.asking():
                await transaction.execute()

    async def postpone(self, delivery: Delivery, seconds: float) -> None:
        await self._redis.hset(_key(delivery.id), "attempts", str(delivery.attempts + 1))
        await self._later(keys=[_DUE], args=[int(seconds), delivery.id])

    async def _write_down(self, job_id: str) -> None:
        """Make a delivery of a job that ended, before the job changes or goes."""
        job = await self._store.read(job_id)
        id_ = f"msg_{uuid4().hex}"
        async with self._redis.pipeline() as transaction:
            transaction.zrem(ENDED_JOBS, job_id)
            if job is not None and job.webhook is not None and job.state != "running":
                body = orjson.dumps(job.to_response())
                fields: dict[Any, Any] = {"url": job.webhook, "body": body, "attempts": 0}
                transaction.hset(_key(id_), mapping=fields)
                transaction.expire(_key(id_), _KEPT_SECONDS)
                transaction.zadd(_DUE, {id_: 0})
            with self._redis.asking():
                await transaction.execute()


def _key(delivery_id: str) -> str:
    return f"{PREFIX}delivery:{delivery_id}"
