"""A store that keeps jobs in Redis, for all replicas and workers."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, get_args

import orjson
import structlog
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, WatchError

from scrapper.jobs.model import Job, JobFilter, JobPost
from scrapper.jobs.store import (
    Change,
    FinishedJob,
    JobChanges,
    check_room,
    jobs_to_drop,
)
from scrapper.jobs.stores.redis_backlog import BACKLOG, RedisBacklog
from scrapper.jobs.webhooks import Outcome
from scrapper.library.listing import Cursor
from scrapper.library.post import Preference
from scrapper.replicas.client import PREFIX, SharedRedis, translated_errors, until_redis_answers
from scrapper.replicas.queue import STREAM, PostQueue
from scrapper.tasks import end, in_background

__all__ = ["CHANGES", "ENDED_JOBS", "RECORD_CHANGE", "RedisStore", "job_key"]

log = structlog.get_logger(__name__)

_ALL = f"{PREFIX}jobs"
ENDED_JOBS = f"{PREFIX}jobs:ended"
"""The key of the finished jobs whose webhook has no delivery yet."""
CHANGES = (f"{PREFIX}jobs:changes", f"{PREFIX}jobs:changed")
"""Two keys: the number of the last change, and the jobs in the order of their last changes."""
_UNREPORTED_SECONDS = 7 * 24 * 60 * 60
_DAY = 24 * 60 * 60
_LAST_OF_BATCH = 99
_POLL_SECONDS = 0.25
_STUCK_SECONDS = 5.0
_MAX_FOLLOWED = 1000
_CREATED, _VERSION, _LEFT, _CLIENT = b"created_at", b"version", b"left", b"client"
_KEEP, _WEBHOOK, _OUTCOME = b"keep", b"webhook", b"webhook_outcome"
_QUALITY, _MAX_BYTES = b"quality", b"max_bytes"
_OWNER, _FORGOTTEN = b"owner", b"forgotten"
_EPOCH = "0"
"""The epoch of all jobs. It never changes, because Redis numbers the changes of all processes."""

RECORD_CHANGE = """
local function record_change(count, changes, job, id)
    local owner = redis.call("HGET", job, "owner") or ""
    redis.call("ZADD", changes, redis.call("INCR", count), id .. " " .. owner)
end
"""
"""A Lua function for use in scripts. It records that a job changed."""

_EXPIRE = """
local WEBHOOK_SECONDS = 3600
local function expire(job, at, seconds)
    local earliest = (redis.call("TIME")[1] + seconds) * 1000
    redis.call("PEXPIREAT", job, string.format("%.0f", math.max(tonumber(at), earliest)))
end
"""
"""Expires a job at a Unix time in milliseconds, but at least some seconds from now.

Even the webhook of an old job must be recorded before the job expires: within WEBHOOK_SECONDS.
"""

_RECORD_CHANGE = (
    RECORD_CHANGE
    + """
record_change(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
"""
)
_FORGET_JOB = (
    RECORD_CHANGE
    + """
if redis.call("HGET", KEYS[3], "left") ~= "0" then
    return 0
end
redis.call("HSET", KEYS[3], "forgotten", 1)
record_change(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
return 1
"""
)
"""Marks a job as forgotten, unless it is gone or unfinished."""

_SWAP = (
    RECORD_CHANGE
    + _EXPIRE
    + """
if redis.call("HGET", KEYS[1], ARGV[1]) ~= ARGV[2] then
    return 0
end
if ARGV[6] ~= "" and redis.call("HEXISTS", KEYS[1], "forgotten") == 1 then
    return 0
end
local version = redis.call("HINCRBY", KEYS[1], "version", 1)
redis.call("HSET", KEYS[1], ARGV[1], "[" .. version .. "," .. ARGV[3])
if redis.call("HINCRBY", KEYS[1], "left", ARGV[4]) > 0 then
    redis.call("PERSIST", KEYS[1])
elseif tonumber(ARGV[4]) < 0 then
    local seconds = 0
    for plugin = 6, #KEYS do
        local time = redis.call("TIME")
        redis.call("ZADD", KEYS[plugin], time[1] * 1000000 + time[2], ARGV[7])
        redis.call("EXPIRE", KEYS[plugin], ARGV[8])
    end
    if redis.call("HEXISTS", KEYS[1], "webhook") == 1 then
        redis.call("HDEL", KEYS[1], "webhook_outcome")
        redis.call("ZADD", KEYS[2], 0, ARGV[7])
        seconds = WEBHOOK_SECONDS
    end
    if #KEYS > 5 then
        seconds = ARGV[8]
    end
    expire(KEYS[1], ARGV[5], seconds)
end
if ARGV[6] ~= "" then
    redis.call("XADD", KEYS[3], "*", "data", ARGV[6])
end
record_change(KEYS[4], KEYS[5], KEYS[1], ARGV[7])
return 1
"""
)
"""Writes a post, and queues it if a message is given.

If the stored post has changed, the script does nothing. When the last post of a job ends, the
script also records the end for plugins and the webhook.
"""

_REQUEUE = """
if redis.call("HGET", KEYS[3], "version") ~= ARGV[2] then
    return 0
end
local length = redis.call("XLEN", KEYS[1])
if length > 2000 or (ARGV[1] == "" and length > 0) then
    return 0
end
local queued, requeued = {}, 0
for _, entry in ipairs(redis.call("XRANGE", KEYS[1], "-", "+")) do
    queued[entry[2][2]] = true
end
for index = 3, #ARGV do
    if not queued[ARGV[index]] and not redis.call("ZSCORE", KEYS[2], ARGV[index]) then
        redis.call("XADD", KEYS[1], "*", "data", ARGV[index])
        requeued = requeued + 1
    end
end
return requeued
"""
"""Requeues the posts that Redis lost: those that are in neither the queue nor the backlog.

If the job has changed since it was read, the script does nothing. Unless the job is ``stuck``,
posts are requeued only if the queue is empty. Nothing is requeued while the queue has over 2,000
posts: each process searches it every five seconds for each job that waits, and blocks Redis while
it does.
"""

_FORGET_END = """
if tonumber(redis.call("ZSCORE", KEYS[1], ARGV[1])) == tonumber(ARGV[2]) then
    redis.call("ZREM", KEYS[1], ARGV[1])
end
"""

_RESTORE_EXPIRY = (
    _EXPIRE
    + """
for plugin = 3, #KEYS do
    if redis.call("ZSCORE", KEYS[plugin], ARGV[1]) then
        return
    end
end
if redis.call("HGET", KEYS[1], "left") == "0" then
    expire(KEYS[1], ARGV[2], redis.call("ZSCORE", KEYS[2], ARGV[1]) and WEBHOOK_SECONDS or 0)
end
"""
)
"""Restores the usual expiry of a finished job, unless a plugin has yet to be notified of it."""


class RedisStore:
    """A :class:`~scrapper.jobs.store.JobStore` in Redis, for all replicas and workers.

    It also implements :class:`~scrapper.jobs.store.FinishedJobs` for *plugins*.

    At most *max_jobs* jobs are kept, for *max_age* seconds. If the store is full, a new job
    replaces the oldest finished one. Unfinished posts are in the *queue*, or in a
    :class:`~scrapper.jobs.stores.redis_backlog.RedisBacklog` with the given *spacing*.

    Each job is a Redis hash that contains the time of the job's creation, its client, its owner,
    the number of its last change, and the number of its unfinished posts. The hash also has a field
    for each post, named after the post's index. The value of the field is a JSON list that begins
    with the number of the post's last change. A sorted set contains the IDs of all jobs, ordered by
    time of creation. For each plugin, a sorted set contains the IDs of the finished jobs that have
    not been reported to the plugin.
    """

    def __init__(
        self,
        redis: SharedRedis,
        queue: PostQueue,
        *,
        max_jobs: int,
        max_age: float,
        spacing: float = 0.0,
        plugins: Sequence[str] = (),
    ) -> None:
        self._redis = redis
        self._queue = queue
        self._backlog = RedisBacklog(redis, spacing)
        self._max_jobs = max_jobs
        self._max_age = max_age
        self._plugins = plugins
        self._unchanged: dict[str, tuple[int, float]] = {}
        self._swap: Any = redis.register_script(_SWAP)
        self._requeue: Any = redis.register_script(_REQUEUE)
        self._forget_end: Any = redis.register_script(_FORGET_END)
        self._restore_expiry: Any = redis.register_script(_RESTORE_EXPIRY)
        self._forget_job: Any = redis.register_script(_FORGET_JOB)
        self._record_change: Any = redis.register_script(_RECORD_CHANGE)
        self.record_success = self._backlog.record_success

    @asynccontextmanager
    async def releasing(self) -> AsyncIterator[None]:
        """During the block, move posts from the backlog to the queue as soon as they may leave.

        All workers do this, but each post is moved only once.
        """

        async def release() -> None:
            while True:
                while await until_redis_answers(lambda: self._backlog.release(STREAM)):
                    pass
                await asyncio.sleep(_POLL_SECONDS)

        releasing = in_background(release(), "backlog")
        try:
            yield
        finally:
            await end(releasing)

    async def add(self, job: Job) -> None:
        job.epoch = _EPOCH
        left = sum(post.unfinished for post in job.posts)

        async def add(transaction: Pipeline) -> None:
            if await transaction.exists(job_key(job.id)):
                # An earlier attempt stored the job, but its reply was lost.
                return
            now, _ = await transaction.time()
            if abs(job.created_at - now) > _DAY:
                # This machine's clock is wrong, so the job would expire at the wrong time.
                job.created_at = float(now)
            gone = await self._jobs_to_drop(transaction, job.client or "")
            if gone:
                # They may have been retried before they were watched, so they are read again.
                await transaction.watch(*map(job_key, gone))
                if await self._jobs_to_drop(transaction, job.client or "") != gone:
                    raise WatchError("the jobs to drop have changed")
            transaction.multi()
            for id_ in gone:
                await self._record_change(
                    keys=[*CHANGES, job_key(id_)], args=[id_], client=transaction
                )
            if gone:
                transaction.zrem(_ALL, *gone)
                transaction.delete(*map(job_key, gone))
            transaction.zadd(_ALL, {job.id: job.created_at})
            transaction.hset(job_key(job.id), mapping=_fields(job, left))
            if not left:
                self._record_end(transaction, job, now)
            for message in self._messages(job):
                transaction.xadd(STREAM, {b"data": message})
            await self._record_change(
                keys=[*CHANGES, job_key(job.id)], args=[job.id], client=transaction
            )
            # Only the latest changes are needed, because followers poll every second.
            transaction.zremrangebyrank(CHANGES[1], 0, -2 * self._max_jobs)

        with translated_errors(), self._redis.fail_fast():
            await self._redis.transaction(add, _ALL)

    def _record_end(self, transaction: Pipeline, job: Job, now: int) -> None:
        """Record the end of a new job that has no valid links."""
        expiry = self._expiry(job.created_at)
        if self._plugins:
            expiry = max(expiry, (now + _UNREPORTED_SECONDS) * 1000)
        transaction.pexpireat(job_key(job.id), expiry)
        if job.webhook is not None:
            transaction.zadd(ENDED_JOBS, {job.id: 0})
        for key in map(_ended_for, self._plugins):
            transaction.zadd(key, {job.id: job.created_at * 1e6})
            transaction.expire(key, _UNREPORTED_SECONDS)

    async def get(self, job_id: str) -> Job | None:
        with translated_errors():
            job = await self.read(job_id)
            if job is None or job.forgotten:
                return None
            if job.state == "running":
                await self._queue_lost_posts(job, stuck=self._is_stuck(job))
                job.delay(await self._backlog.held_until())
            return job

    async def newest(self, number: int, after: Cursor | None, wanted: JobFilter) -> Sequence[Job]:
        with translated_errors():
            names: Any = await self._redis.zrange(_ALL, 0, -1, withscores=True)
            places = sorted(
                (Cursor(time, id_.decode()) for id_, time in names), key=lambda it: it.key
            )
            places = [place for place in places if after is None or place.key > after.key]
            held_until = await self._backlog.held_until()
            jobs: list[Job] = []
            while places and len(jobs) < number:
                some, places = places[:number], places[number:]
                async with self._redis.pipeline(transaction=False) as reads:
                    for place in some:
                        reads.hgetall(job_key(place.name))
                    with self._redis.fail_fast():
                        found = await reads.execute()
                pairs = zip(some, found, strict=True)
                read = (_read(Job(it.name, it.time, []), fields) for it, fields in pairs)
                jobs += filter(wanted.allows, filter(None, read))
            for job in jobs[:number]:
                job.delay(held_until)
            return jobs[:number]

    async def forget(self, job: Job) -> bool:
        with translated_errors():
            return bool(await self._forget_job(keys=[*CHANGES, job_key(job.id)], args=[job.id]))

    async def changed(self, since: int) -> JobChanges:
        with translated_errors():
            number = int(await self._redis.get(CHANGES[0]) or 0)
            found: Any = await self._redis.zrange(
                CHANGES[1], "+inf", f"({since}", desc=True, byscore=True
            )
        jobs = [member.decode().partition(" ")[::2] for member in found]
        return JobChanges(number, [(id_, owner or None) for id_, owner in jobs])

    async def refresh(self, job: Job) -> bool:
        # While Redis does not answer, the job stays as it is.
        with suppress(RedisError):
            names = [_VERSION.decode(), _FORGOTTEN.decode()]
            version, forgotten = await self._redis.hmget(job_key(job.id), names)
            if version is None or forgotten:
                return False
            if int(version) != job.version:
                return await self._load(job)
            if job.state == "running" and self._is_stuck(job):
                await self._queue_lost_posts(job, stuck=True)
        return True

    async def _queue_lost_posts(self, job: Job, *, stuck: bool) -> None:
        """Requeue the posts that Redis may have lost in a crash."""
        arguments = [b"stuck" if stuck else b"", job.version, *self._messages(job)]
        if await self._requeue(keys=[STREAM, BACKLOG, job_key(job.id)], args=arguments):
            log.warning("posts missing from the queue: queued again", job=job.id)

    def _is_stuck(self, job: Job) -> bool:
        """Return whether *job* has been unchanged for five seconds. If so, start counting again."""
        now = time.monotonic()
        version, since = self._unchanged.pop(job.id, (job.version, now))
        is_stuck = version == job.version and now - since > _STUCK_SECONDS
        self._unchanged[job.id] = (
            job.version,
            now if is_stuck or version != job.version else since,
        )
        if len(self._unchanged) > _MAX_FOLLOWED:
            del self._unchanged[next(iter(self._unchanged))]
        return is_stuck

    async def change(self, job: Job, how: Change, *, queue: bool = False) -> bool:
        with translated_errors():
            for index, post in enumerate(job.posts):
                if how(post) is not None:
                    await self._change_one(job.id, index, how, queue=queue)
            return await self._load(job) and not job.forgotten

    async def check_room(self, client: str | None) -> None:
        with translated_errors():
            await self._jobs_to_drop(self._redis, client or "")

    async def find(self, job_id: str, index: int) -> tuple[Job, JobPost] | None:
        names = [name.decode() for name in (_CREATED, _KEEP, _QUALITY, _MAX_BYTES)]
        created, keep, quality, max_bytes, row = await until_redis_answers(
            lambda: self._redis.hmget(job_key(job_id), [*names, str(index)])
        )
        if created is None or row is None:
            return None
        job = Job(
            job_id,
            float(created),
            [],
            keep=keep == b"1",
            preference=_preference(quality, max_bytes),
        )
        return job, JobPost(*orjson.loads(row)[1:])

    async def save_post(self, job_id: str, index: int, post: JobPost) -> bool:
        # Another worker may have assumed that this one is dead, and finished the post.
        def unless_ended(stored: JobPost) -> JobPost | None:
            return post if stored.unfinished else None

        return await until_redis_answers(lambda: self._change_one(job_id, index, unless_ended))

    async def wait(self, job: Job, index: int, post: JobPost, hold: float = 0.0) -> None:
        message = self._queue.message_for(job.id, index)
        place = job.place(index)
        # Join the backlog first, because a crash in between would otherwise lose the post.
        until = await until_redis_answers(lambda: self._backlog.join(place, message, hold))
        await self.save_post(job.id, index, post.waiting(until, limited=hold > 0))

    async def hold(self, seconds: float) -> None:
        await until_redis_answers(lambda: self._backlog.hold(seconds))

    async def has_waiting(self) -> bool:
        return await until_redis_answers(self._backlog.has_posts)

    async def skip(self) -> None:
        await until_redis_answers(self._backlog.skip)

    async def unreported(self, plugin: str) -> Sequence[FinishedJob]:
        """Return up to 100 jobs not yet reported to *plugin*, oldest first.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        ends: Any = await self._redis.zrange(_ended_for(plugin), 0, _LAST_OF_BATCH, withscores=True)
        jobs = []
        for name, number in ends:
            job = await self.read(name.decode())
            # An unfinished job will be recorded again when it ends.
            if job is None or job.state == "running":
                await self._remove_end(plugin, name.decode(), number)
            else:
                jobs.append(FinishedJob(job.to_response(), number))
        return jobs

    async def is_unreported(self, plugin: str, job: FinishedJob) -> bool:
        """Return whether this end of *job* still has to be reported to *plugin*.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        async with self._redis.pipeline(transaction=False) as reads:
            reads.zscore(_ended_for(plugin), job.response.id)
            reads.hget(job_key(job.response.id), _LEFT.decode())
            end, left = await reads.execute()
        return bool(end == job.end and left == b"0")

    async def record_reported(self, plugin: str, job: FinishedJob) -> None:
        """Record that *job* was reported to *plugin*, unless it has ended again since.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        job_id = job.response.id
        await self._remove_end(plugin, job_id, job.end)
        created = await self._redis.hget(job_key(job_id), _CREATED.decode())
        if created is not None:
            keys = [job_key(job_id), ENDED_JOBS, *map(_ended_for, self._plugins)]
            await self._restore_expiry(keys=keys, args=[job_id, self._expiry(float(created))])

    async def read(self, job_id: str) -> Job | None:
        """Return the job as stored, even if it is forgotten, or None if it is gone.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        job = Job(job_id, 0.0, [], epoch=_EPOCH)
        return job if await self._load(job) else None

    async def _load(self, job: Job) -> bool:
        """Update *job* from Redis. Return False if the job is gone."""
        fields: Any = await self._redis.hgetall(job_key(job.id))
        return _read(job, fields) is not None

    async def _change_one(
        self, job_id: str, index: int, how: Change, *, queue: bool = False
    ) -> bool:
        """Apply *how* to a post; return whether the post changed.

        If another process changes the post in the meantime, *how* is called again with the new
        state. No post of a forgotten job is queued.
        """
        message = self._queue.message_for(job_id, index) if queue else b""
        keys = [job_key(job_id), ENDED_JOBS, STREAM, *CHANGES, *map(_ended_for, self._plugins)]
        while True:
            names = [_CREATED.decode(), _FORGOTTEN.decode(), str(index)]
            created, forgotten, row = await self._redis.hmget(keys[0], names)
            if created is None or row is None or (queue and forgotten):
                return False
            post = JobPost(*orjson.loads(row)[1:])
            changed = how(post)
            if changed is None:
                return False
            less = changed.unfinished - post.unfinished
            expiry = self._expiry(float(created))
            arguments = [index, row, _row_end(changed), less, expiry, message, job_id]
            if await self._swap(keys=keys, args=[*arguments, _UNREPORTED_SECONDS]):
                return True

    def _messages(self, job: Job) -> list[bytes]:
        """Return the queue messages of the job's unfinished posts."""
        unfinished = [index for index, post in enumerate(job.posts) if post.unfinished]
        return [self._queue.message_for(job.id, index) for index in unfinished]

    async def _remove_end(self, plugin: str, job_id: str, number: object) -> None:
        await self._forget_end(keys=[_ended_for(plugin)], args=[job_id, repr(number)])

    def _expiry(self, created_at: float) -> int:
        return int((created_at + self._max_age) * 1000)

    async def _jobs_to_drop(self, reading: SharedRedis | Pipeline, client: str) -> list[str]:
        """Return the IDs of the jobs to drop so that a new job fits, and of the expired jobs.

        Raises:
            JobsFull, TooManyJobs: there is no room for a job of *client*.
        """
        names: Any = await reading.zrange(_ALL, 0, -1)
        ids = [name.decode() for name in names]
        async with self._redis.pipeline(transaction=False) as reads:
            for id_ in ids:
                reads.hmget(job_key(id_), [it.decode() for it in (_LEFT, _CLIENT)])
            left = dict(zip(ids, await reads.execute(), strict=True))
        gone = [id_ for id_ in ids if left[id_][0] is None]
        finished = [id_ for id_ in ids if left[id_][0] == b"0"]
        unfinished = [left[id_][1] for id_ in ids if id_ not in gone and id_ not in finished]
        check_room(unfinished, client.encode(), self._max_jobs)
        unreported = set()
        for key in (ENDED_JOBS, *map(_ended_for, self._plugins)):
            ended: Any = await reading.zrange(key, 0, -1)
            unreported |= {name.decode() for name in ended}
        full = jobs_to_drop(len(ids) - len(gone), finished, unreported, self._max_jobs)
        return [*gone, *full]


def _ended_for(plugin: str) -> str:
    """Return the key of the finished jobs that have not been reported to the plugin."""
    return f"{ENDED_JOBS}:{plugin}"


def job_key(job_id: str) -> str:
    """Return the key of the job's hash."""
    return f"{PREFIX}job:{job_id}"


def _fields(job: Job, left: int) -> dict[Any, Any]:
    """Return the hash of a new job. *left* is the number of its unfinished posts."""
    fields: dict[Any, Any] = {
        _CREATED: job.created_at,
        _VERSION: len(job.posts),
        _LEFT: left,
        _CLIENT: job.client or "",
        _KEEP: int(job.keep),
        _QUALITY: job.preference.quality,
    }
    if job.preference.max_bytes is not None:
        fields[_MAX_BYTES] = job.preference.max_bytes
    if job.webhook is not None:
        fields[_WEBHOOK] = job.webhook
    if job.owner is not None:
        fields[_OWNER] = job.owner
    for index, post in enumerate(job.posts):
        fields[b"%d" % index] = b"[%d,%b" % (index + 1, _row_end(post))
    return fields


def _read(job: Job, fields: Any) -> Job | None:
    """Update *job* from the *fields* of its hash and return it, or None if there are no fields."""
    if not fields:
        return None
    job.epoch = _EPOCH
    job.created_at = float(fields[_CREATED])
    job.keep = fields.get(_KEEP) == b"1"
    job.preference = _preference(fields.get(_QUALITY), fields.get(_MAX_BYTES))
    job.webhook = fields[_WEBHOOK].decode() if _WEBHOOK in fields else None
    job.owner = fields[_OWNER].decode() if _OWNER in fields else None
    job.forgotten = _FORGOTTEN in fields
    outcome = fields.get(_OUTCOME, b"").decode()
    job.webhook_outcome = outcome if outcome in get_args(Outcome) else None
    job.client = fields[_CLIENT].decode() or None if _CLIENT in fields else None
    number = sum(name.isdigit() for name in fields)
    rows = [orjson.loads(fields[b"%d" % index]) for index in range(number)]
    job.posts[:] = [JobPost(*row[1:]) for row in rows]
    for index, (version, *_) in enumerate(rows):
        job.record_version(index, version)
    return job


def _preference(quality: Any, max_bytes: Any) -> Preference:
    return Preference.stored(
        "best" if quality == b"best" else None, None if max_bytes is None else int(max_bytes)
    )


def _row_end(post: JobPost) -> bytes:
    """Return the part of a post's JSON list that follows the version."""
    return orjson.dumps(list(post.to_json().values()))[1:]
