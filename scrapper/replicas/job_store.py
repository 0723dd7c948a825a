"""Jobs in Redis, where all replicas and workers see them."""

import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

import orjson
from redis.asyncio.client import Pipeline

from scrapper.jobs.contract import check_room
from scrapper.jobs.model import Job, JobPost
from scrapper.jobs.webhooks import Outcome
from scrapper.replicas.client import PREFIX, SharedRedis

__all__ = ["ENDED_JOBS", "RedisJobStore", "ended_for", "job_key"]

_ALL = f"{PREFIX}jobs"
ENDED_JOBS = f"{PREFIX}jobs:ended"
"""The jobs that ended and have a webhook, which no worker saw yet."""
_UNTOLD_SECONDS = 7 * 24 * 60 * 60
_CREATED, _VERSION, _LEFT, _CLIENT = b"created_at", b"version", b"left", b"client"
_KEEP, _WEBHOOK, _OUTCOME = b"keep", b"webhook", b"webhook_outcome"
_EPOCH = "0"
"""The epoch of all versions here: Redis counts them, so they are the same for everybody."""

_SWAP = """
if redis.call("HGET", KEYS[1], ARGV[1]) ~= ARGV[2] then
    return 0
end
local version = redis.call("HINCRBY", KEYS[1], "version", 1)
redis.call("HSET", KEYS[1], ARGV[1], "[" .. version .. "," .. ARGV[3])
if redis.call("HINCRBY", KEYS[1], "left", ARGV[4]) > 0 then
    redis.call("PERSIST", KEYS[1])
elseif tonumber(ARGV[4]) < 0 then
    local expires = tonumber(ARGV[5])
    local told = #KEYS > 3
    for plugin = 4, #KEYS do
        local time = redis.call("TIME")
        redis.call("ZADD", KEYS[plugin], time[1] * 1000000 + time[2], ARGV[7])
        redis.call("EXPIRE", KEYS[plugin], ARGV[8])
    end
    if redis.call("HEXISTS", KEYS[1], "webhook") == 1 then
        redis.call("HDEL", KEYS[1], "webhook_outcome")
        redis.call("ZADD", KEYS[2], 0, ARGV[7])
        told = true
    end
    if #KEYS > 3 then
        expires = math.max(expires, (redis.call("TIME")[1] + ARGV[8]) * 1000)
    elseif told then
        -- However old the job is, its webhook must be written down before it goes.
        expires = math.max(expires, (redis.call("TIME")[1] + 3600) * 1000)
    end
    redis.call("PEXPIREAT", KEYS[1], string.format("%.0f", expires))
end
if ARGV[6] ~= "" then
    redis.call("XADD", KEYS[3], "*", "data", ARGV[6])
end
return 1
"""
"""Writes a post, and perhaps queues it, unless it changed since it was read.

A job ends with its last post; then the script notes that its webhook is to be sent.
"""


class RedisJobStore:
    """At most *max_jobs* jobs, for *max_age* seconds; a new one replaces the oldest finished one.

    A job is a hash: its time, its client, the number of its last change, the number of its
    unfinished posts, and each post under its index, as a list that begins with the number of its
    last change. A sorted set holds all IDs, by time. Calls raise
    :class:`redis.exceptions.RedisError` if Redis does not answer.
    """

    def __init__(
        self, redis: SharedRedis, *, max_jobs: int, max_age: float, plugins: Sequence[str] = ()
    ) -> None:
        self._plugins = plugins
        self._redis = redis
        self._max_jobs = max_jobs
        self._max_age = max_age
        self._swap: Any = redis.register_script(_SWAP)

    async def add(self, job: Job, also: Callable[[Pipeline], None]) -> None:
        """Store a new *job*, and run *also* in the same transaction.

        Raises:
            JobsFull: *max_jobs* jobs are kept, and none of them is finished.
            TooManyJobs: the client has as many unfinished ones as one client may have.
        """
        job.epoch = _EPOCH
        key = job_key(job.id)
        left = sum(post.unfinished for post in job.posts)
        client = job.client or ""
        fields: dict[Any, Any] = {
            _CREATED: job.created_at,
            _VERSION: len(job.posts),
            _LEFT: left,
            _CLIENT: client,
            _KEEP: int(job.keep),
        }
        if job.webhook is not None:
            fields[_WEBHOOK] = job.webhook
        for index, post in enumerate(job.posts):
            fields[b"%d" % index] = b"[%d,%b" % (index + 1, _rest(post))

        async def add(transaction: Pipeline) -> None:
            gone = await self._make_room(transaction, client)
            transaction.multi()
            if gone:
                transaction.zrem(_ALL, *gone)
                transaction.delete(*map(job_key, gone))
            transaction.zadd(_ALL, {job.id: job.created_at})
            transaction.hset(key, mapping=fields)
            if not left:
                expiry = self._expiry(job.created_at)
                if self._plugins:
                    expiry = max(expiry, int((time.time() + _UNTOLD_SECONDS) * 1000))
                transaction.pexpireat(key, expiry)
                if job.webhook is not None:
                    transaction.zadd(ENDED_JOBS, {job.id: 0})
                for plugin in self._plugins:
                    transaction.zadd(ended_for(plugin), {job.id: job.created_at * 1e6})
                    transaction.expire(ended_for(plugin), _UNTOLD_SECONDS)
            also(transaction)

        with self._redis.asking():
            await self._redis.transaction(add, _ALL)

    async def find(self, job_id: str, index: int) -> tuple[Job, JobPost] | None:
        """The job without its posts, and the post at *index*; None if they are gone."""
        names = [_CREATED.decode(), _KEEP.decode(), str(index)]
        created, keep, told = await self._redis.hmget(job_key(job_id), names)
        if created is None or told is None:
            return None
        job = Job(job_id, float(created), [], keep=keep == b"1")
        return job, JobPost(*orjson.loads(told)[1:])

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now; None if it is unknown or too old."""
        job = Job(job_id, 0.0, [], epoch=_EPOCH)
        return job if await self.load(job) else None

    async def load(self, job: Job) -> bool:
        """Read the whole *job*; False if it is gone."""
        fields: Any = await self._redis.hgetall(job_key(job.id))
        if not fields:
            return False
        job.created_at = float(fields[_CREATED])
        job.keep = fields.get(_KEEP) == b"1"
        job.webhook = fields[_WEBHOOK].decode() if _WEBHOOK in fields else None
        outcome = fields.get(_OUTCOME, b"").decode()
        job.webhook_outcome = outcome if outcome in get_args(Outcome) else None
        job.client = fields[_CLIENT].decode() or None if _CLIENT in fields else None
        number = sum(name.isdigit() for name in fields)
        rows = [orjson.loads(fields[b"%d" % index]) for index in range(number)]
        job.posts[:] = [JobPost(*row[1:]) for row in rows]
        for index, (version, *_) in enumerate(rows):
            job.note(index, version)
        return True

    async def refresh(self, job: Job) -> bool:
        """Read *job* again if it changed; False if it is gone."""
        version: Any = await self._redis.hget(job_key(job.id), _VERSION.decode())
        return version is not None and (int(version) == job.version or await self.load(job))

    async def change(
        self,
        job_id: str,
        index: int,
        how: Callable[[JobPost], JobPost | None],
        *,
        queue: tuple[str, bytes] | None = None,
    ) -> JobPost | None:
        """Replace a post of a job by what *how* makes of it; None from *how* leaves it alone.

        With *queue*, a stream and a message, the post is also put into that stream.
        *how* is called again if somebody else changed the post meanwhile. Return the post as it
        is then, or None if there is no such job.
        """
        stream, message = queue or ("", b"")
        keys = [job_key(job_id), ENDED_JOBS, stream, *map(ended_for, self._plugins)]
        while True:
            created, told = await self._redis.hmget(keys[0], [_CREATED.decode(), str(index)])
            if created is None or told is None:
                return None
            post = JobPost(*orjson.loads(told)[1:])
            changed = how(post)
            if changed is None:
                return post
            less = changed.unfinished - post.unfinished
            expiry = self._expiry(float(created))
            arguments = [index, told, _rest(changed), less, expiry, message, job_id]
            arguments.append(_UNTOLD_SECONDS)
            if await self._swap(keys=keys, args=arguments):
                return changed

    async def let_go(self, job_id: str) -> None:
        """Let a finished job expire as usual, once all plugins were told of it."""
        for key in map(ended_for, self._plugins):
            if await self._redis.zscore(key, job_id) is not None:
                return
        created, left = await self._redis.hmget(
            job_key(job_id), [_CREATED.decode(), _LEFT.decode()]
        )
        if created is not None and left == b"0":
            # The hour that a webhook has may be over sooner: it is written down within a second.
            await self._redis.pexpireat(job_key(job_id), self._expiry(float(created)))

    def _expiry(self, created_at: float) -> int:
        return int((created_at + self._max_age) * 1000)

    async def check_room(self, client: str) -> None:
        """See that *client* may have one more unfinished job.

        Raises:
            JobsFull, TooManyJobs: not now.
        """
        await self._make_room(self._redis, client)

    async def _make_room(self, reading: SharedRedis | Pipeline, client: str) -> list[str]:
        """The IDs of the jobs that make room for a new one, and of those that expired."""
        names: Any = await reading.zrange(_ALL, 0, -1)
        ids = [name.decode() for name in names]
        async with self._redis.pipeline(transaction=False) as reads:
            for id_ in ids:
                reads.hmget(job_key(id_), [_LEFT.decode(), _CLIENT.decode()])
            left = dict(zip(ids, await reads.execute(), strict=True))
        gone = [id_ for id_ in ids if left[id_][0] is None]
        finished = [id_ for id_ in ids if left[id_][0] == b"0"]
        unfinished = [left[id_][1] for id_ in ids if id_ not in gone and id_ not in finished]
        check_room(unfinished, client.encode(), self._max_jobs)
        untold = set()
        for key in (ENDED_JOBS, *map(ended_for, self._plugins)):
            ended: Any = await reading.zrange(key, 0, -1)
            untold |= {name.decode() for name in ended}
        if len(untold) < self._max_jobs:
            finished = [id_ for id_ in finished if id_ not in untold]
        surplus = len(ids) + 1 - self._max_jobs
        return gone + finished[: max(0, surplus - len(gone))]


def ended_for(plugin: str) -> str:
    """The set of the jobs that ended and that the plugin was not told of."""
    return f"{ENDED_JOBS}:{plugin}"


def job_key(job_id: str) -> str:
    """The hash of the job."""
    return f"{PREFIX}job:{job_id}"


def _rest(post: JobPost) -> bytes:
    """A post as the JSON that follows its version."""
    return orjson.dumps(list(post.to_json().values()))[1:]
