"""A lock with a lease, called a turn, for work that only one replica may do at a time."""

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from scrapper.replicas.client import SharedRedis
from scrapper.tasks import end, in_background

__all__ = ["LEASE_SECONDS", "Turn"]

log = structlog.get_logger(__name__)

LEASE_SECONDS = 5.0
"""Seconds that a turn lasts unless renewed. A killed holder blocks others for at most this long."""

_RENEWALS_PER_LEASE = 4


class Turn:
    """A lock, acquired by :meth:`take` and held until :meth:`release`.

    ``fence`` is the time at which the turn was taken, in microseconds on Redis's clock. It is
    greater than the fence of every earlier turn, even after Redis loses its data.
    """

    def __init__(self, lock: Lock, fence: int) -> None:
        self.fence = fence
        self._lock = lock
        self._renewing = in_background(self._renew(), "renewing a turn")

    @classmethod
    async def take(cls, redis: SharedRedis, name: str) -> "Turn | None":
        """Take the turn *name*. Return None if another process has it.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        lock = Lock(redis, name, timeout=LEASE_SECONDS, blocking=False, thread_local=False)
        if not await lock.acquire():
            return None
        # If this process was delayed, its lease may have ended, and another process may have the
        # turn now.
        async with redis.pipeline() as together:
            together.time()
            together.get(name)
            with redis.fail_fast():
                (seconds, microseconds), owner = await together.execute()
        if owner != lock.local.token:
            return None
        return cls(lock, seconds * 1_000_000 + microseconds)

    def __bool__(self) -> bool:
        """Return whether the lease was valid at the last renewal; it may have ended since."""
        return not self._renewing.done()

    async def release(self) -> None:
        """Release the turn for others."""
        await end(self._renewing)
        # If the release fails, the turn expires with its lease.
        with suppress(RedisError):
            await self._lock.release()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / _RENEWALS_PER_LEASE)
            try:
                await self._lock.reacquire()
            except LockError:
                # Redis was down or lost the turn. If no other process has it, take it again.
                taken: Any = False
                with suppress(RedisError):
                    taken = await self._lock.do_acquire(self._lock.local.token)
                if not taken:
                    log.warning("turn expired", turn=self._lock.name)
                    return
            except RedisError:
                # Redis may be back before the lease ends.
                continue
