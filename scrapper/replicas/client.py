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
from scrapper.telemetry.log_throttle import LogThrottle
from scrapper.telemetry.metrics import Metrics

__all__ = [
    "PREFIX",
    "SharedRedis",
    "blocking_client",
    "connection_options",
    "translated_errors",
    "until_redis_answers",
]

log = structlog.get_logger(__name__)

PREFIX = "scrapper:"
"""The prefix of every Redis key."""

_TIMEOUT_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_RETRY_AFTER_SECONDS = 5.0
_POOL_TIMEOUT_SECONDS = 2.0
"""Seconds to wait for a connection if all connections are in use."""
_MAX_CONNECTIONS = 32
# Shared, because redis-py would otherwise read its own version from disk for each connection.
_DRIVER = DriverInfo()
_REFUSAL_LOG_SECONDS = 60.0

Result = TypeVar("Result")


def connection_options() -> dict[str, Any]:
    """Return options for redis-py, whose default timeouts are too long."""
    return {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
        # Redis may have closed a pooled connection, which redis-py notices only when using it.
        "retry": Retry(NoBackoff(), 1, (RedisConnectionError,)),
        "protocol": 2,
        "driver_info": _DRIVER,
    }


def blocking_client(url: str) -> redis.Redis:
    """Return a client for the download threads; it connects on first use."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=redis.retry.Retry(NoBackoff(), 0),
        protocol=2,
    )
    return client


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate Redis errors in the block into the service's own error.

    Raises:
        JobsUnreachable: Redis does not answer, or refuses a command.
    """
    try:
        yield
    except RedisError as error:
        raise JobsUnreachable(retry_after=_RETRY_AFTER_SECONDS) from error


async def until_redis_answers(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Call *ask* every second until Redis answers, and return the result."""
    while True:
        try:
            return await ask()
        except RedisError:
            await asyncio.sleep(_PAUSE_SECONDS)


class SharedRedis(Redis):
    """A client whose calls fail fast while Redis is down.

    If no reply arrives within a second, calls during the next second fail at once with
    :class:`redis.exceptions.ConnectionError`. The first call after that is a probe. The client logs
    one line when Redis goes down, and one when it is back. If Redis refuses a command, for example
    because its memory is full, the client logs the error at most once a minute.
    """

    _up: Gauge
    _is_down = False
    _probe_at = 0.0
    _refusals: LogThrottle

    @classmethod
    def at(cls, url: str, metrics: Metrics) -> Self:
        """Return a client for the Redis at *url*; it connects on first use."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=_POOL_TIMEOUT_SECONDS,
            **connection_options(),
        )
        client: Any = cls.from_pool(pool)
        client._refusals = LogThrottle(_REFUSAL_LOG_SECONDS)
        client._up = Gauge("redis_up", "1 while Redis answers", registry=metrics.registry)
        client._up.set(1)
        return cast(Self, client)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with self.fail_fast():
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    @contextmanager
    def fail_fast(self) -> Iterator[None]:
        """Make a pipeline or subscription in the block fail fast, and log its errors.

        Raises:
            redis.exceptions.ConnectionError: Redis did not answer a moment ago.
        """
        now, is_probe = time.monotonic(), self._is_down
        if is_probe:
            if now < self._probe_at:
                raise RedisConnectionError("redis did not answer a moment ago")
            self._probe_at = now + _PAUSE_SECONDS
        try:
            yield
        except (RedisConnectionError, RedisTimeoutError) as error:
            self._record_outage(error)
            raise
        except (OutOfMemoryError, ReadOnlyError, NoPermissionError) as error:
            self._record_refusal(error)
            raise
        except ResponseError:
            # An error reply, for example about an unknown script, also shows that Redis is up.
            self._record_recovery(is_probe)
            raise
        self._record_recovery(is_probe)

    def _record_recovery(self, is_probe: bool) -> None:
        # A reply to a request that was sent before the outage proves nothing.
        if is_probe and self._is_down:
            self._is_down = False
            self._up.set(1)
            log.info("redis is back")

    def _record_refusal(self, error: Exception) -> None:
        if self._refusals.is_due():
            log.error("redis refuses commands: continuing without it", cause=str(error))

    def _record_outage(self, error: Exception) -> None:
        self._probe_at = time.monotonic() + _PAUSE_SECONDS
        if not self._is_down:
            self._is_down = True
            self._up.set(0)
            log.warning("redis does not answer: continuing without it", cause=str(error))
