"""The webhook deliveries in Redis, shared by all workers."""

import time
from typing import Any
from uuid import uuid4

import orjson
from redis.asyncio.client import Pipeline

from scrapper.jobs.stores.redis import CHANGES, ENDED_JOBS, RECORD_CHANGE, RedisStore, job_key
from scrapper.jobs.webhooks import LEASE_SECONDS, Delivery, Outcome, Waiting
from scrapper.replicas.client import PREFIX, SharedRedis

__all__ = ["RedisDeliveries"]

_DUE = f"{PREFIX}deliveries"
_ABOUT = f"{PREFIX}deliveries:about"
_KEPT_SECONDS = 7 * 24 * 60 * 60

_POSTPONE_SCRIPT = """
local now = tonumber(redis.call("TIME")[1])
redis.call("ZADD", KEYS[1], "XX", now + ARGV[1], ARGV[2])
"""
_TAKE_SCRIPT = """
local now = tonumber(redis.call("TIME")[1])
local due = ARGV[2] ~= "" and redis.call("ZSCORE", KEYS[1], ARGV[2])
if ARGV[2] == "" then
    ARGV[2], due = unpack(redis.call("ZRANGE", KEYS[1], 0, 0, "WITHSCORES"))
end
if due and tonumber(due) <= now then
    redis.call("ZADD", KEYS[1], now + ARGV[1], ARGV[2])
    return ARGV[2]
end
"""
"""Leases the named member, or the first one if no name is given. The member must be due."""
_FINISH_SCRIPT = (
    RECORD_CHANGE
    + """
redis.call("ZREM", KEYS[1], ARGV[1])
redis.call("HDEL", KEYS[2], ARGV[1])
redis.call("DEL", KEYS[3])
for _, about in ipairs(redis.call("HVALS", KEYS[2])) do
    if string.match(about, "^%S+ (%S+)") == ARGV[2] then
        return
    end
end
if redis.call("HGET", KEYS[4], "left") == "0" and not redis.call("ZSCORE", KEYS[5], ARGV[2]) then
    redis.call("HSET", KEYS[4], "webhook_outcome", ARGV[3])
    record_change(KEYS[6], KEYS[7], KEYS[4], ARGV[2])
end
"""
)
"""Removes a delivery, and records its outcome in its job unless the job has another delivery."""


class RedisDeliveries:
    """The :class:`~scrapper.jobs.webhooks.Deliveries` of all workers, for the jobs in *store*.

    A sorted set contains the IDs of the deliveries, ordered by the time at which each is due. One
    hash contains, for each delivery, the receiver, the job's ID, and the time at which the job's
    end was recorded. The rest of each delivery is in a hash of its own. The methods raise
    :class:`redis.exceptions.RedisError` if Redis does not answer.
    """

    def __init__(self, redis: SharedRedis, store: RedisStore) -> None:
        self._redis = redis
        self._store = store
        self._take: Any = redis.register_script(_TAKE_SCRIPT)
        self._postpone: Any = redis.register_script(_POSTPONE_SCRIPT)
        self._finish: Any = redis.register_script(_FINISH_SCRIPT)

    async def waiting(self) -> list[Waiting]:
        while job_id := await self._take(keys=[ENDED_JOBS], args=[LEASE_SECONDS, ""]):
            await self._record_webhook(job_id.decode())
        async with self._redis.pipeline(transaction=False) as reads:
            reads.zrange(_DUE, 0, -1, withscores=True)
            reads.hgetall(_ABOUT)
            reads.time()
            with self._redis.fail_fast():
                due, about, (now, _) = await reads.execute()
        waiting = []
        for id_, due_at in due:
            noted_at, job, receiver = about.get(id_, b"%d - -" % now).decode().split(" ", 2)
            age = now - float(noted_at)
            waiting.append(Waiting(id_.decode(), job, receiver, age, due_at <= now))
        return waiting

    async def take(self, id_: str) -> Delivery | None:
        if not await self._take(keys=[_DUE], args=[LEASE_SECONDS, id_]):
            return None
        fields: Any = await self._redis.hgetall(_key(id_))
        if not fields:
            await self.finish(id_, "given_up")
            return None
        url, job = fields[b"url"].decode(), fields.get(b"job", b"").decode()
        return Delivery(id_, url, fields[b"body"], int(fields[b"attempts"]), job)

    async def finish(self, id_: str, outcome: Outcome) -> None:
        job: Any = await self._redis.hget(_key(id_), "job")
        name = job.decode() if job else ""
        keys = [_DUE, _ABOUT, _key(id_), job_key(name), ENDED_JOBS, *CHANGES]
        await self._finish(keys=keys, args=[id_, name, outcome])

    async def postpone(self, id_: str, seconds: float) -> None:
        await self._redis.hincrby(_key(id_), "attempts", 1)
        await self._postpone(keys=[_DUE], args=[int(seconds), id_])

    async def _record_webhook(self, job_id: str) -> None:
        """Add a delivery for a job that has ended, unless it is running again or is gone."""
        id_ = f"msg_{uuid4().hex}"

        async def record(transaction: Pipeline) -> None:
            job = await self._store.read(job_id)
            transaction.multi()
            transaction.zrem(ENDED_JOBS, job_id)
            if job is not None and job.webhook is not None and job.state != "running":
                body = orjson.dumps(job.to_response())
                new = Delivery(id_, job.webhook, body, job=job_id, noted_at=time.time())
                fields: dict[Any, Any] = {"url": new.url, "body": body, "attempts": 0}
                transaction.hset(_key(id_), mapping={**fields, "job": job_id})
                transaction.expire(_key(id_), _KEPT_SECONDS)
                transaction.hset(_ABOUT, id_, f"{new.noted_at:.0f} {job_id} {new.receiver}")
                transaction.zadd(_DUE, {id_: 0})

        with self._redis.fail_fast():
            # If the job changes after it was read, it may have ended again, so it is read again.
            await self._redis.transaction(record, job_key(job_id))


def _key(delivery_id: str) -> str:
    return f"{PREFIX}delivery:{delivery_id}"
