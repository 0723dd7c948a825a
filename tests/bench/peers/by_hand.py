"""The main duties of the service for a stored post, written by hand in one middleware.

``python -m tests.bench.peers.by_hand PORT FILE`` answers ``POST /scrape`` with the bytes of FILE.
With the service's libraries, one function checks the key by its digest, keeps out other sites'
pages, bounds the body, makes the ID, adds the headers of the rate limit and for browsers, counts,
and logs a line without secrets after the last byte.

It leaves out what the service does besides: looking at the disk ten times a second, errors as
JSON, checks of dates, of IDs and of the URL, deadlines, a bound on connections, a client's network
for IPv6, other sites' URLs in log lines, and lines that are written in a thread.
"""

import hashlib
import math
import random
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.typing import EventDict, WrappedLogger

from scrapper.serving.response_headers import HEADERS
from tests.bench.peers.parts import SIZE, Body, run, tokens_left

_KEY = b"key"
_NAMES = {hashlib.sha256(_KEY).hexdigest(): "default"}
_OWN_SITE = ("same-origin", "none")
_MOST_BYTES = 4096


@web.middleware
async def _duties(request: web.Request, handler: Handler) -> web.StreamResponse:
    started = time.perf_counter()
    headers = request.headers
    request_id = headers.get("X-Request-ID") or f"{random.getrandbits(128):032x}"
    if headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE or "Origin" in headers:
        raise web.HTTPForbidden
    size = request.content_length or 0
    if size > _MOST_BYTES:
        raise web.HTTPRequestEntityTooLarge(_MOST_BYTES, size)
    left = tokens_left(request.remote or "")
    if left < 0:
        raise web.HTTPTooManyRequests
    name = _NAMES.get(hashlib.sha256(headers.get("X-API-Key", "").encode()).hexdigest())
    if name is None:
        raise web.HTTPUnauthorized
    bind_contextvars(request_id=request_id, key=name)
    response = await handler(request)
    response.headers["X-Request-ID"] = request_id
    response.headers["RateLimit-Limit"] = str(SIZE)
    response.headers["RateLimit-Remaining"] = str(int(left))
    response.headers["RateLimit-Reset"] = str(math.ceil((SIZE - left) * 60 / SIZE))
    response.headers.update(HEADERS)
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()
    seconds, length = time.perf_counter() - started, getattr(response, "content_length", 0)
    _sizes.inc(length)
    _durations.observe(seconds)
    _logger.info(
        "request",
        method=request.method,
        path=request.path,
        status=response.status,
        duration_ms=round(seconds * 1000, 3),
        bytes=length,
        client=request.remote,
    )
    return response


def _render(_logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    event["level"], event["timestamp"] = method, datetime.now(UTC)
    return orjson.dumps(event, None, orjson.OPT_UTC_Z).replace(_KEY, b"[secret]")


@lru_cache
def _shortcode(url: str) -> str:
    return urlsplit(url).path.split("/")[2]


structlog.configure(
    processors=[merge_contextvars, _render],
    logger_factory=structlog.BytesLoggerFactory(),
)
_logger = structlog.get_logger().bind()
_durations = Histogram("seconds", "x", ["method", "route"]).labels("POST", "/scrape")
_sizes = Counter("bytes", "x", ["route"]).labels("/scrape")


def main() -> None:
    port, before_end = int(sys.argv[1]), Path(sys.argv[2]).read_bytes()[:-1]
    stored = {"reel-stored": before_end}

    async def scrape(request: web.Request) -> web.Response:
        url = Body.model_validate_json(await request.read()).url
        body = b"%b}" % stored[_shortcode(url)]
        return web.Response(body=body, content_type="application/json")

    app = web.Application(middlewares=[_duties])
    app.router.add_post("/scrape", scrape)
    run(app, port)


if __name__ == "__main__":
    main()
