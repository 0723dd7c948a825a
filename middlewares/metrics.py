"""The number and duration of requests, for Prometheus."""

import asyncio
import time
from functools import cache

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Histogram

__all__ = ["metrics"]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CLIENT_GONE = 499


def metrics(registry: CollectorRegistry) -> Middleware:
    """Count and time requests: ``http_request_duration_seconds`` in *registry*.

    ::

        from middlewares.metrics import metrics
        app = web.Application(middlewares=[metrics(REGISTRY)])

    The histogram has the labels ``method``, ``route`` and ``status``. The route is its template,
    such as ``/posts/{shortcode}``, or ``none``; an unknown method is ``other``. So clients cannot
    create series. A request that was cancelled before its response has status 499. Put this
    middleware outside the one that turns exceptions into responses.
    """
    histogram = Histogram(
        "http_request_duration_seconds",
        "Time until the response",
        ["method", "route", "status"],
        buckets=_BUCKETS,
        registry=registry,
    )
    # A look-up by labels takes a lock and builds strings.
    series = cache(histogram.labels)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started, status = time.perf_counter(), 500
        try:
            response = await handler(request)
        except web.HTTPException as error:
            status = error.status
            raise
        except asyncio.CancelledError:
            status = _CLIENT_GONE
            raise
        else:
            status = response.status
            return response
        finally:
            method = request.method if request.method in hdrs.METH_ALL else "other"
            seconds = time.perf_counter() - started
            series(method, _route(request), status).observe(seconds)

    return middleware


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "none" if resource is None else resource.canonical
