"""A turn: a lock with a lease, for work that only one replica at a time does."""

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
"""How long a turn lasts unless its holder extends it, so how long a killed holder delays others."""

_EXTENSIONS_A_LEASE = 4


class Turn:
    """The lock *name*, held until :meth:`give_back`; :meth:`take` makes one.

    ``fence`` is the time when the turn was taken, by Redis's clock, in microseconds: greater than
    that of every earlier turn, even after Redis lost its data.
    """

    def __init__(self, lock: Lock, fence: int) -> None:
        self.fence = fence
        self._lock = lock
        self._keeping = in_background(self._keep(), "keeping a turn")

    @classmethod
    async def take(cls, redis: SharedRedis, name: str) -> "Turn | None":
        """Take the turn; None if another process has it.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        lock = Lock(redis, name, timeout=LEASE_SECONDS, blocking=False, thread_local=False)
        if not await lock.acquire():
            return None
        # If we were held up in between, another process may have taken the turn meanwhile.
        async with redis.pipeline() as together:
            together.time()
            together.get(name)
            with redis.asking():
                (seconds, microseconds), owner = await together.execute()
        if owner != lock.local.token:
            return None
        return cls(lock, seconds * 1_000_000 + microseconds)

    def __bool__(self) -> bool:
        """Whether the turn lasts, as far as is known: its lease may have ended meanwhile."""
        return not self._keeping.done()

    async def give_back(self) -> None:
        """End the turn."""
        await end(self._keeping)
        # The turn has expired, or will.
        with suppress(RedisError):
            await self._lock.release()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / _EXTENSIONS_A_LEASE)
            try:
                await self._lock.reacquire()
            except LockError:
                # Redis was gone or lost the turn: perhaps nobody has it.
                taken: Any = False
                with suppress(RedisError):
                    taken = await self._lock.do_acquire(self._lock.local.token)
                if not taken:
                    log.warning("turn expired", turn=self._lock.name)
                    return
            except RedisError:
                # Redis may be back before the lease ends.
                continue
