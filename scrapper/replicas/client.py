"""The connection to the Redis that replicas share, with short timeouts."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar, cast

import redis
import redis.retry
import structlog
from prometheus_client import Gauge
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from scrapper.errors import JobsUnreachable
from scrapper.telemetry.complaints import Complaint
from scrapper.telemetry.metrics import Metrics

__all__ = [
    "PREFIX",
    "SharedRedis",
    "blocking_client",
    "connection_options",
    "reaching",
    "until_redis_answers",
]

log = structlog.get_logger(__name__)

PREFIX = "scrapper:"
"""The prefix of every key."""

_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_RETRY_SECONDS = 5.0
_TURN_SECONDS = 2.0
"""How long to wait for a connection while all are in use."""
_MOST_CONNECTIONS = 32
# Otherwise redis-py reads its version from the disk for each connection.
_DRIVER = DriverInfo()
_SECONDS_BETWEEN_REFUSALS = 60.0

Result = TypeVar("Result")


def connection_options() -> dict[str, Any]:
    """Options for redis-py, whose defaults would keep callers waiting for seconds."""
    return {
        "socket_timeout": _PATIENCE_SECONDS,
        "socket_connect_timeout": _PATIENCE_SECONDS,
        # Only using a connection shows that Redis closed it meanwhile.
        "retry": Retry(NoBackoff(), 1, (RedisConnectionError,)),
        "protocol": 2,
        "driver_info": _DRIVER,
    }


def blocking_client(url: str) -> redis.Redis:
    """A client for the threads that download; it connects when it is first used."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
        retry=redis.retry.Retry(NoBackoff(), 0),
        protocol=2,
    )
    return client


@contextmanager
def reaching() -> Iterator[None]:
    """Turn errors of Redis in the block into an error that clients understand.

    Raises:
        JobsUnreachable: Redis does not answer.
    """
    try:
        yield
    except RedisError as error:
        raise JobsUnreachable(retry_after=_RETRY_SECONDS) from error


async def until_redis_answers(ask: Callable[[], Awaitable[Result]]) -> Result:
    """The result of *ask*, which is retried until Redis answers."""
    while True:
        try:
            return await ask()
        except RedisError:
            await asyncio.sleep(_PAUSE_SECONDS)


class SharedRedis(Redis):
    """A client whose calls fail fast while Redis is gone.

    A reply may take a second. If none comes, calls within the next second fail at once with
    :class:`redis.exceptions.ConnectionError`; then one call tries again. The client logs once that
    Redis is gone, and once that it is back. If Redis refuses writes, because it is full for
    example, the client logs that once a minute.
    """

    _up: Gauge
    _gone = False
    _again_at = 0.0
    _refusals: Complaint

    @classmethod
    def at(cls, url: str, metrics: Metrics) -> Self:
        """A client for the Redis at *url*; it connects when it is first used."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MOST_CONNECTIONS,
            timeout=_TURN_SECONDS,
            **connection_options(),
        )
        client: Any = cls.from_pool(pool)
        client._refusals = Complaint(_SECONDS_BETWEEN_REFUSALS)
        client._up = Gauge("redis_up", "1 while Redis answers", registry=metrics.registry)
        client._up.set(1)
        return cast(Self, client)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with self.asking():
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Do for the pipeline in the block what :meth:`execute_command` does for one command.

        Raises:
            redis.exceptions.ConnectionError: Redis did not answer a moment ago.
        """
        now, finding_out = time.monotonic(), self._gone
        if finding_out:
            if now < self._again_at:
                raise RedisConnectionError("redis did not answer a moment ago")
            self._again_at = now + _PAUSE_SECONDS
        try:
            yield
        except (RedisConnectionError, RedisTimeoutError) as error:
            self._note_outage(error)
            raise
        except (OutOfMemoryError, ReadOnlyError, NoPermissionError) as error:
            self._note_refusal(error)
            raise
        except ResponseError:
            # Redis does answer, if only that it does not know a script.
            self._note_recovery(finding_out)
            raise
        self._note_recovery(finding_out)

    def _note_recovery(self, finding_out: bool) -> None:
        # A reply to an earlier request proves nothing.
        if finding_out and self._gone:
            self._gone = False
            self._up.set(1)
            log.info("redis is back")

    def _note_refusal(self, error: Exception) -> None:
        if self._refusals.is_due():
            log.error("redis refuses: going on without it", cause=str(error))

    def _note_outage(self, error: Exception) -> None:
        self._again_at = time.monotonic() + _PAUSE_SECONDS
        if not self._gone:
            self._gone = True
            self._up.set(0)
            log.warning("redis does not answer: going on without it", cause=str(error))
