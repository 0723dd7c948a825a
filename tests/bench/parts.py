"""Measures the parts that serve a stored post, each with and without its optimisation.

All of them run in one process. Over sockets, noise would hide savings of a few microseconds.
"""

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import orjson
import structlog
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry, Histogram

from middlewares.rate_limit import _bucket
from middlewares.request_context import _new_id
from scrapper.library.post import Post
from scrapper.library.response import RenderedPost
from scrapper.links import read_link
from scrapper.serving.response_headers import HEADERS
from scrapper.telemetry.logs import _add_time

__all__ = ["PARTS", "seconds_of"]

Work = Callable[[], object]
_TURNS = 2000
_LINE = {
    "method": "POST",
    "path": "/scrape",
    "status": 200,
    "duration_ms": 72.291,
    "client": "127.0.0.1",
    "event": "request",
    "request_id": "ee06ab74689141d9b13762483e693ff6",
    "level": "info",
    "timestamp": "2026-11-23T23:33:49.498121Z",
}


def _response(manifest: dict[str, Any], root: Path) -> tuple[Work, Work]:
    post = Post.from_manifest(manifest)
    rendered = RenderedPost.of(post, root)
    fields = {"original_url": post.original_url, "kept": False, "cached": True}
    return (
        lambda: rendered.to_json(**fields),  # type: ignore[arg-type]
        lambda: RenderedPost.of(post, root).to_json(**fields),  # type: ignore[arg-type]
    )


def _line(_manifest: dict[str, Any], _root: Path) -> tuple[Work, Work]:
    return lambda: orjson.dumps(_LINE).decode(), lambda: json.dumps(_LINE)


def _logger(_manifest: dict[str, Any], _root: Path) -> tuple[Work, Work]:
    def logger(*, cached: bool) -> Any:
        return structlog.wrap_logger(
            structlog.WriteLoggerFactory(io.StringIO())(),
            processors=[lambda *_: ""],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            cache_logger_on_first_use=cached,
        )

    return partial(logger(cached=True).info, "x"), _first_use(logger(cached=False))


def _first_use(logger: Any) -> Work:
    return lambda: logger.info("x")


def _request_ids(_manifest: dict[str, Any], _root: Path) -> tuple[Work, Work]:
    return _new_id, lambda: uuid.uuid4().hex


def _times(_manifest: dict[str, Any], _root: Path) -> tuple[Work, Work]:
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)

    def line(add_time: Any) -> Work:
        return lambda: orjson.dumps(add_time(None, "info", {}), None, orjson.OPT_UTC_Z)

    return line(_add_time), line(stamp)


def _headers(_manifest: dict[str, Any], _root: Path) -> tuple[Work, Work]:
    ready = CIMultiDict(HEADERS)

    def one_by_one() -> None:
        headers = CIMultiDict[str]()
        for name, value in HEADERS.items():
            headers.setdefault(name, value)

    return lambda: CIMultiDict[str]().merge(ready), one_by_one


def _series(_manifest: dict[str, Any], _root: Path) -> tuple[Work, Work]:
    histogram = Histogram("x", "x", ["method", "route", "status"], registry=CollectorRegistry())
    labels = ("POST", "/scrape", 200)
    remembered = cache(histogram.labels)
    return lambda: remembered(*labels), lambda: histogram.labels(*labels)


def _urls(manifest: dict[str, Any], _root: Path) -> tuple[Work, Work]:
    parse: Any = read_link
    url = manifest["original_url"]
    return lambda: parse(url, max_length=512), lambda: parse.__wrapped__(url, max_length=512)


def _addresses(_manifest: dict[str, Any], _root: Path) -> tuple[Work, Work]:
    bucket: Any = _bucket
    return lambda: bucket("192.0.2.1"), lambda: bucket.__wrapped__("192.0.2.1")


PARTS: dict[str, Callable[[dict[str, Any], Path], tuple[Work, Work]]] = {
    "a pre-rendered response": _response,
    "a log line with orjson": _line,
    "cached loggers": _logger,
    "request IDs from a cheaper random generator": _request_ids,
    "a log line's timestamp with orjson": _times,
    "headers merged in one call": _headers,
    "cached histogram series": _series,
    "cached URLs": _urls,
    "cached addresses": _addresses,
}
"""Functions that take a post's manifest and the media root.

Each returns a pair: the work with the optimisation, and the same work without it.
"""


def seconds_of(pair: tuple[Work, Work], rounds: int) -> Iterator[tuple[float, float]]:
    """For each round, yield the CPU seconds of a call with the optimisation, and without it."""
    for _ in range(rounds):
        times = []
        for work in pair:
            started = time.process_time()
            for _ in range(_TURNS):
                work()
            times.append((time.process_time() - started) / _TURNS)
        yield times[0], times[1]
