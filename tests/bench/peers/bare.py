"""The least work for HTTP: a bare aiohttp handler that returns a file's bytes, or the file.

``python -m tests.bench.peers.bare PORT FILE [--read] [--log] [--limit] [--bind] [--time]
[--check]``. Each option adds the least that the service could do with one of its libraries:

- ``--read`` reads the body, and passes five middlewares that do nothing
- ``--log`` writes a line for each request with structlog, set up for speed as its docs advise
- ``--limit`` takes a token from throttled-py's limiter
- ``--bind`` binds an ID to structlog's context
- ``--time`` times the request with prometheus-client
- ``--check`` checks the body with pydantic
- ``--duties`` does what else the service has to do, by hand and in one middleware: a key known by
  its digest, a guard against other sites' pages, IDs, the rate limit's and browsers' headers,
  secrets kept out of the log, lines and counts after the last byte, a post looked up by its URL
"""

import hashlib
import math
import random
import sys
import time
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram
from pydantic import BaseModel
from throttled import per_duration
from throttled.asyncio import MemoryStore, RateLimiterType, Throttled

from scrapper.response_headers import HEADERS

_HAS_DUTIES = "--duties" in sys.argv
_KEYS = {hashlib.sha256(b"key").hexdigest(): "default"}
_OWN_SITE = ("same-origin", "none")
_MOST_BYTES = 4096


@web.middleware
async def _nothing(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request)


@web.middleware
async def _log(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    _logger.info("request", method=request.method, path=request.path, status=response.status)
    return response


@web.middleware
async def _bind(request: web.Request, handler: Handler) -> web.StreamResponse:
    structlog.contextvars.bind_contextvars(request_id="x" * 32)
    return await handler(request)


@web.middleware
async def _time(request: web.Request, handler: Handler) -> web.StreamResponse:
    started = time.perf_counter()
    response = await handler(request)
    _durations.observe(time.perf_counter() - started)
    return response


@web.middleware
async def _limit(request: web.Request, handler: Handler) -> web.StreamResponse:
    result = await _limiter.limit(request.remote or "")
    if result.limited:
        raise web.HTTPTooManyRequests
    response = await handler(request)
    if _HAS_DUTIES:
        state = result.state
        response.headers["RateLimit-Limit"] = str(state.limit)
        response.headers["RateLimit-Remaining"] = str(state.remaining)
        response.headers["RateLimit-Reset"] = str(math.ceil(state.reset_after))
    return response


@web.middleware
async def _duties(request: web.Request, handler: Handler) -> web.StreamResponse:
    started = time.perf_counter()
    headers = request.headers
    request_id = headers.get("X-Request-ID") or f"{random.getrandbits(128):032x}"
    structlog.contextvars.bind_contextvars(request_id=request_id)
    key = headers.get("X-API-Key", "").encode()
    if _KEYS.get(hashlib.sha256(key).hexdigest()) is None:
        raise web.HTTPUnauthorized
    if headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE or "Origin" in headers:
        raise web.HTTPForbidden
    if (request.content_length or 0) > _MOST_BYTES:
        raise web.HTTPRequestEntityTooLarge(_MOST_BYTES, request.content_length or 0)
    response = await handler(request)
    response.headers["X-Request-ID"] = request_id
    response.headers.update(HEADERS)
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()
    seconds = time.perf_counter() - started
    size = getattr(response, "content_length", 0)
    _sizes.inc(size)
    _durations.observe(seconds)
    _logger.info(
        "request",
        method=request.method,
        path=request.path,
        status=response.status,
        duration_ms=round(seconds * 1000, 3),
        bytes=size,
        client=request.remote,
    )
    return response


def _scrub(line: bytes) -> bytes:
    return line.replace(b"key-of-sixteen-characters", b"[secret]")


@lru_cache
def _shortcode(url: str) -> str:
    return urlsplit(url).path.split("/")[2]


structlog.configure(
    processors=[
        *([structlog.contextvars.merge_contextvars] if "--bind" in sys.argv else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
        *([lambda _logger, _name, line: _scrub(line)] if _HAS_DUTIES else []),
    ],
    logger_factory=structlog.BytesLoggerFactory(),
)
_logger = structlog.get_logger().bind()
_durations = Histogram("seconds", "x", ["method"]).labels("POST")
_sizes = Counter("bytes", "x", ["route"]).labels("/scrape")
_limiter = Throttled(
    using=RateLimiterType.GCRA.value,
    quota=per_duration(timedelta(seconds=60), 10**9, 10**9),
    store=MemoryStore(),
).limiter


class _Body(BaseModel):
    url: str


def main() -> None:
    port, path, options = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    body = b"" if path.stat().st_size > 1_000_000 else path.read_bytes()
    stored = {"reel-stored": (body, time.monotonic())}

    async def scrape(request: web.Request) -> web.Response:
        if "--read" in options:
            text = await request.read()
            if "--check" in options:
                url = _Body.model_validate_json(text).url
                if _HAS_DUTIES:
                    found, seen_at = stored[_shortcode(url)]
                    if time.monotonic() > seen_at:
                        text = b"%b,%b" % (found[:-1], b'"cached":true}')
                        return web.Response(body=text, content_type="application/json")
        return web.Response(body=body, content_type="application/json")

    async def file(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    middlewares = [_nothing] * 5 if "--read" in options else []
    if _HAS_DUTIES:
        middlewares = [_duties]
    else:
        middlewares += [_bind] if "--bind" in options else []
        middlewares += [_time] if "--time" in options else []
        middlewares += [_log] if "--log" in options else []
    middlewares += [_limit] if "--limit" in options else []
    app = web.Application(middlewares=middlewares)
    app.router.add_post("/scrape", scrape)
    app.router.add_get("/file", file)
    web.run_app(app, host="127.0.0.1", port=port, backlog=1024, access_log=None, print=None)


if __name__ == "__main__":
    main()
