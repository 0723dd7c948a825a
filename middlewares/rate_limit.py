"""A token bucket for each client."""

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache, lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from throttled import asyncio as throttled
from throttled.exceptions import StoreUnavailableError

__all__ = ["HEADERS", "rate_limit"]

HEADERS = web.RequestKey[dict[str, str]]("rate_limit_headers")
"""Where an outer middleware may put a dictionary, to get the headers of a request that fails."""

_IPV6_PREFIX = 64
_ALGORITHM = throttled.RateLimiterType.GCRA.value


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
) -> Middleware:
    """Give each client a bucket of *max_requests* tokens, refilled within *window_seconds*.

    ::

        from middlewares.rate_limit import rate_limit
        app = web.Application(middlewares=[rate_limit(30, 60)])

    Each request takes a token, or as many as *cost* returns. If there are too few, it gets 429 with
    ``Retry-After``. A request that costs more than the bucket holds takes all of a full one. Both
    refusals and the responses of inner handlers have ``RateLimit-Limit``, ``RateLimit-Remaining``
    and ``RateLimit-Reset`` (seconds until the bucket is full). Requests for which *exempt* returns
    true cost nothing. *penalties* maps the status of a response to the extra tokens that it costs;
    if fewer are left, it takes those. *on_refusal* is called for each refusal.

    A client is ``request.remote``, for IPv6 its /64, since one host usually has a whole /64. Only
    the *max_clients* seen most recently have buckets. If a client has a bucket of its own, whatever
    its address, *own_limit* returns that bucket's name and size.

    With *redis*, an asyncio client of redis-py (only its ``register_script`` is used), all
    processes share the buckets called *name*. While Redis does not answer, each process has its
    own buckets.

    The bucket is stored as one timestamp (GCRA, which gives the same limit). The algorithm that
    throttled-py 3.5 calls ``token_bucket`` drops fractions of a second at each request: with half a
    token a second and one request a second, no token would ever come.
    """
    buckets = _Buckets(window_seconds, max_clients, redis, name)
    fines = penalties or {}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if exempt(request):
            return await handler(request)
        own = None if own_limit is None else await own_limit(request)
        client, size = own or (_bucket(request.remote), max_requests)
        if not size:
            return await handler(request)
        tokens = 1 if cost is None else min(await cost(request), size)
        result = await buckets.take(client, size, tokens)
        state = result.state
        headers = _headers(state)
        if result.limited:
            on_refusal()
            headers["Retry-After"] = str(max(1, math.ceil(state.retry_after)))
            raise web.HTTPTooManyRequests(
                text="Too many requests: wait before the next one", headers=headers
            )
        try:
            response = await handler(request)
        except web.HTTPException as error:
            penalty = min(fines.get(error.status, 0), state.remaining)
            if penalty:
                state = (await buckets.take(client, size, penalty)).state
                headers = _headers(state)
            error.headers.update(headers)
            raise
        except Exception:
            request.get(HEADERS, {}).update(headers)
            raise
        if not response.prepared:
            response.headers.update(headers)
        return response

    return middleware


class _Buckets:
    """The buckets of all clients: in *redis*, if it is there and answers, else in memory."""

    def __init__(self, window_seconds: int, max_clients: int, redis: Any, name: str) -> None:
        self._window = timedelta(seconds=window_seconds)
        self._memory = throttled.MemoryStore(options={"MAX_SIZE": max_clients})
        self._redis = redis
        self._name = name
        # One for each size.
        self._limiters = cache(self._limiters_of)

    async def take(self, client: str, size: int, tokens: int) -> throttled.RateLimitResult:
        limiter, shared = self._limiters(size)
        if shared is not None:
            with suppress(StoreUnavailableError):
                return await shared.limit(f"{self._name}:{client}", tokens)
        return await limiter.limit(client, tokens)

    def _limiters_of(
        self, size: int
    ) -> tuple[throttled.BaseRateLimiter, throttled.BaseRateLimiter | None]:
        quota = throttled.per_duration(self._window, size, size)
        limiter = throttled.Throttled(using=_ALGORITHM, quota=quota, store=self._memory).limiter
        return limiter, _shared_limiter(self._redis, quota) if self._redis else None


def _headers(state: throttled.RateLimitState) -> dict[str, str]:
    return {
        "RateLimit-Limit": str(state.limit),
        "RateLimit-Remaining": str(state.remaining),
        "RateLimit-Reset": str(math.ceil(state.reset_after)),
    }


def _shared_limiter(redis: Any, quota: throttled.Quota) -> throttled.BaseRateLimiter:
    # Otherwise throttled-py makes its own connections, with its own timeouts.
    class Backend(throttled.RedisStoreBackend):
        def get_client(self) -> Any:
            return redis

    class Store(throttled.RedisStore):
        _BACKEND_CLASS = Backend

    return throttled.Throttled(using=_ALGORITHM, quota=quota, store=Store()).limiter


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
