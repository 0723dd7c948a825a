"""Prometheus metrics for requests: count, duration and size."""

import time
from functools import cache, partial
from http import HTTPStatus

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Histogram

from middlewares.sending import Sent, send

__all__ = ["metrics"]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def metrics(registry: CollectorRegistry) -> Middleware:
    """Count and time requests, with metrics in *registry*.

    ::

        from middlewares.metrics import metrics
        app = web.Application(middlewares=[metrics(REGISTRY)])

    The histogram ``http_request_duration_seconds`` measures the time until the last byte was sent.
    Its labels are ``method``, ``route`` and ``status`` (as sent). The route is a template, such as
    ``/posts/{shortcode}``, or ``none``. Unknown methods are counted as ``other``, so that clients
    cannot create new series. A request that was cancelled before it got a response has the status
    499.

    ``http_response_bytes_total`` counts the bytes of response bodies by route.
    ``http_requests_aborted_total`` counts requests whose client disconnected before the last byte.
    ``http_internal_errors_total`` counts requests that ended with 500. It is exported as 0 from the
    start, so that alerts notice the first such request.

    Put this middleware outside the one that turns exceptions into responses.
    """
    histogram = Histogram(
        "http_request_duration_seconds",
        "Time until the last byte of the response",
        ["method", "route", "status"],
        buckets=_BUCKETS,
        registry=registry,
    )
    counter = partial(Counter, registry=registry)
    sizes = counter("http_response_bytes", "Bytes of response bodies, by route", ["route"])
    aborted = counter(
        "http_requests_aborted", "Requests whose client disconnected before the last byte"
    )
    internal_errors = counter("http_internal_errors", "Requests that ended with 500")
    # Looking up a series by its labels takes a lock and builds strings.
    series, sizes_of = cache(histogram.labels), cache(sizes.labels)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()

        def observe(sent: Sent) -> None:
            resource = request.match_info.route.resource
            route = "none" if resource is None else resource.canonical
            if sent.bytes:
                sizes_of(route).inc(sent.bytes)
            if sent.aborted:
                aborted.inc()
            if sent.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                internal_errors.inc()
            method = request.method if request.method in hdrs.METH_ALL else "other"
            series(method, route, sent.status).observe(time.perf_counter() - started)

        return await send(request, handler, observe)

    return middleware
