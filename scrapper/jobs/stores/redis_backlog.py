"""The backlog in Redis, shared by all workers."""

import math
import time
from typing import Any

from scrapper.jobs.waiting import BacklogPace, Place
from scrapper.replicas.client import PREFIX, SharedRedis

__all__ = ["BACKLOG", "RedisBacklog"]

BACKLOG = f"{PREFIX}backlog"
"""The key of the sorted set of waiting posts."""

_HOLD = f"{PREFIX}backlog:held"
_NEXT = f"{PREFIX}backlog:next"
_HOLD_SCRIPT = """
local time = redis.call("TIME")
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
if ends > tonumber(redis.call("GET", KEYS[1]) or 0) then
    redis.call("SET", KEYS[1], ends, "PX", ARGV[1])
end
"""

_RELEASE_SCRIPT = """
if redis.call("EXISTS", KEYS[2], KEYS[3]) > 0 then
    return 0
end
local first = redis.call("ZPOPMIN", KEYS[1])
if not first[1] then
    return 0
end
redis.call("XADD", KEYS[4], "*", "data", first[1])
if tonumber(ARGV[1]) > 0 then
    redis.call("SET", KEYS[3], "", "PX", ARGV[1])
end
return 1
"""


class RedisBacklog:
    """A :class:`~scrapper.jobs.waiting.Backlog` for all workers.

    A sorted set contains the messages of the posts, ordered by place. One key exists while the
    backlog is held, and another during the pause after a post leaves. Both keys expire by
    themselves. The coroutines raise :class:`redis.exceptions.RedisError` if Redis does not answer.
    """

    def __init__(self, redis: SharedRedis, spacing: float) -> None:
        self._redis = redis
        self._pace = BacklogPace(spacing)
        self._hold: Any = redis.register_script(_HOLD_SCRIPT)
        self._release: Any = redis.register_script(_RELEASE_SCRIPT)

    async def join(self, place: Place, message: bytes, hold: float = 0.0) -> float:
        """Add a post, and return the earliest Unix time at which it may leave.

        If *hold* is 0, the post waits behind others. Otherwise, the post hit a limit, which holds
        the backlog for *hold* seconds. *message* is added to the queue when the post leaves.
        """
        if hold:
            await self.hold(hold)
        # A score is a double, which is precise enough for the job's time plus the post's position.
        score = place.created_at + place.position / 1e6
        await self._redis.zadd(BACKLOG, {message: score})
        return max(time.time(), await self.held_until())

    async def hold(self, seconds: float) -> None:
        self._pace.slow_down()
        await self._hold(keys=[_HOLD], args=[math.ceil(seconds * 1000)])

    def record_success(self) -> None:
        self._pace.speed_up()

    async def skip(self) -> None:
        """Let the next post leave now, because the last one to leave was cancelled."""
        await self._redis.delete(_NEXT)

    async def has_posts(self) -> bool:
        """Return whether any post is waiting."""
        return bool(await self._redis.exists(BACKLOG))

    async def held_until(self) -> float:
        return int(await self._redis.get(_HOLD) or 0) / 1000

    async def release(self, stream: str) -> bool:
        """Move the first post to the queue *stream*. Return False if no post may leave now."""
        milliseconds = math.ceil(self._pace.seconds * 1000)
        return bool(await self._release(keys=[BACKLOG, _HOLD, _NEXT, stream], args=[milliseconds]))
