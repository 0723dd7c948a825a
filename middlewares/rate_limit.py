"""A token bucket for each client."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["HEADERS", "rate_limit"]

HEADERS = web.RequestKey[dict[str, str]]("rate_limit_headers")
"""The request key under which the middleware stores its headers for responses that it cannot
change: those that a handler sends itself, and those to exceptions."""

_IPV6_PREFIX = 64
# The same arithmetic as in _Memory.take, but with the clock of the Redis server.
_TAKE = """
local size, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]) * ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = tonumber(held[1]) or size * window
level = math.min(size * window, level + math.max(0, now - (tonumber(held[2]) or now)) * size)
local refused = cost > level
if not refused then level = level - cost end
redis.call('HSET', KEYS[1], 'level', string.format('%.0f', level), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], window)
return {refused and 1 or 0, string.format('%.0f', level)}
"""


def rate_limit(
    max_requests: int,
    window_seconds: int,
    *,
    max_clients: int = 10_000,
    redis: Any = None,
    name: str = "",
    exempt: Callable[[web.Request], bool] = lambda _: False,
    cost: Callable[[web.Request], Awaitable[int]] | None = None,
    own_limit: Callable[[web.Request], Awaitable[tuple[str, int] | None]] | None = None,
    penalties: Mapping[int, int] | None = None,
    on_refusal: Callable[[], None] = lambda: None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Middleware:
    """Give each client a bucket of *max_requests* tokens, refilled within *window_seconds*.

    ::

        from middlewares.rate_limit import rate_limit
        app = web.Application(middlewares=[rate_limit(30, 60)])

    Each request takes one token, or as many as *cost* returns, but at most a full bucket. If the
    bucket holds too few, the request gets 429 with ``Retry-After``. Both this refusal and the
    responses of inner handlers have ``RateLimit-Limit``, ``RateLimit-Remaining`` and
    ``RateLimit-Reset`` (seconds until the bucket is full). For responses that handlers send
    themselves, and for those to exceptions, these headers are in ``request[HEADERS]``. Requests for
    which *exempt* returns true cost nothing. *penalties* maps the status of an error to the extra
    tokens that it costs. If fewer remain, the penalty takes all of them. *on_refusal* is called for
    each refusal.

    A client is identified by ``request.remote``. If this is an IPv6 address, its /64 network is
    used, because one host usually has a whole /64. Only the *max_clients* clients that were seen
    most recently have buckets. *own_limit* may identify a client by other means, such as its key:
    it returns the name and size of that client's bucket, or None if the client has no bucket of its
    own. A bucket of size 0 is unlimited.

    *redis* is a redis-py asyncio client; only its ``register_script`` is used. If it is given,
    all processes share the buckets called *name*. While Redis does not answer, each process uses
    its own buckets. A process refills its own buckets according to *clock*, which returns monotonic
    nanoseconds.
    """
    buckets = _Memory(window_seconds, max_clients, clock)
    shared = None if redis is None else _Shared(window_seconds, redis, name, buckets)
    take = buckets.take if shared is None else shared.take
    extra_costs = penalties or {}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if exempt(request):
            return await handler(request)
        own = None if own_limit is None else await own_limit(request)
        client, size = own or (_bucket(request.remote), max_requests)
        if not size:
            return await handler(request)
        tokens = 1 if cost is None else min(await cost(request), size)
        level = await take(client, size, tokens)
        headers = level.headers()
        if level.refused:
            on_refusal()
            headers["Retry-After"] = str(level.seconds_to(tokens))
            raise web.HTTPTooManyRequests(
                text="Too many requests: wait before the next one", headers=headers
            )
        request[HEADERS] = headers
        try:
            response = await handler(request)
        except web.HTTPException as error:
            penalty = min(extra_costs.get(error.status, 0), level.remaining)
            if penalty:
                headers = (await take(client, size, penalty)).headers()
            error.headers.update(headers)
            raise
        if not response.prepared:
            response.headers.update(headers)
        return response

    return middleware


class _Level(NamedTuple):
    """The state of a bucket after a request.

    ``level`` is the number of tokens times ``window``, which is in milliseconds. ``size`` is in
    tokens.
    """

    level: int
    size: int
    window: int
    refused: bool

    @property
    def remaining(self) -> int:
        """The number of whole tokens in the bucket."""
        return self.level // self.window

    def seconds_to(self, tokens: int) -> int:
        """Return the seconds until the bucket holds *tokens*, rounded up."""
        return max(0, -(-(tokens * self.window - self.level) // (self.size * 1000)))

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.size),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.seconds_to(self.size)),
        }


class _Memory:
    """The buckets of this process. Levels are integers, so rounding never adds or loses tokens."""

    def __init__(self, window_seconds: int, max_clients: int, clock: Callable[[], int]) -> None:
        self._window = window_seconds * 1000
        self._max_clients = max_clients
        self._clock = clock
        # Each bucket's level and when it was set, by client and size; least recently used first.
        self._buckets: dict[tuple[str, int], tuple[int, int]] = {}

    async def take(self, client: str, size: int, tokens: int) -> _Level:
        now = self._clock() // 1_000_000
        capacity, cost = size * self._window, tokens * self._window
        level, at = self._buckets.pop((client, size), (capacity, now))
        level = min(capacity, level + (now - at) * size)
        refused = cost > level
        if not refused:
            level -= cost
        self._buckets[client, size] = level, now
        if len(self._buckets) > self._max_clients:
            del self._buckets[next(iter(self._buckets))]
        return _Level(level, size, self._window, refused)


class _Shared:
    """The buckets called *name* in Redis, with a fallback to those of this process."""

    def __init__(self, window_seconds: int, redis: Any, name: str, own: _Memory) -> None:
        # Imported here, because only callers that pass a Redis client need redis-py.
        from redis.exceptions import RedisError  # noqa: PLC0415

        self._unavailable = RedisError
        self._window = window_seconds * 1000
        self._script = redis.register_script(_TAKE)
        self._name = name
        self._own = own

    async def take(self, client: str, size: int, tokens: int) -> _Level:
        key = f"{self._name}:{client}:{size}"
        try:
            refused, level = await self._script([key], [size, self._window, tokens])
        except self._unavailable:
            return await self._own.take(client, size, tokens)
        return _Level(int(level), size, self._window, bool(refused))


@lru_cache
def _bucket(remote: str | None) -> str:
    try:
        address = ip_address(remote or "")
    except ValueError:
        return remote or "unknown"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(int(address) >> (128 - _IPV6_PREFIX))
    return str(address)
