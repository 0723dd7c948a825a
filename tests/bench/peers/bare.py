"""The least work for HTTP: a bare aiohttp handler that returns a file's bytes, or the file.

``python -m tests.bench.peers.bare PORT FILE [--read] [--log] [--limit] [--bind] [--time]
[--check]``. Each option adds the least that the service could do:

- ``--read`` reads the body, and passes five middlewares that do nothing
- ``--log`` writes a line for each request with structlog, set up for speed as its docs advise
- ``--limit`` takes a token from a bucket in a dictionary
- ``--bind`` binds an ID to structlog's context
- ``--time`` times the request with prometheus-client
- ``--check`` checks the body with pydantic
"""

import sys
import time
from pathlib import Path

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Histogram

from tests.bench.peers.parts import Body, run, tokens_left


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
    if tokens_left(request.remote or "") < 0:
        raise web.HTTPTooManyRequests
    return await handler(request)


structlog.configure(
    processors=[
        *([structlog.contextvars.merge_contextvars] if "--bind" in sys.argv else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
    ],
    logger_factory=structlog.BytesLoggerFactory(),
)
_logger = structlog.get_logger().bind()
_durations = Histogram("seconds", "x", ["method"]).labels("POST")


def main() -> None:
    port, path, options = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    body = b"" if path.stat().st_size > 1_000_000 else path.read_bytes()

    async def scrape(request: web.Request) -> web.Response:
        if "--read" in options:
            text = await request.read()
            if "--check" in options:
                Body.model_validate_json(text)
        return web.Response(body=body, content_type="application/json")

    async def file(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="OK")

    middlewares = [_nothing] * 5 if "--read" in options else []
    middlewares += [_bind] if "--bind" in options else []
    middlewares += [_time] if "--time" in options else []
    middlewares += [_log] if "--log" in options else []
    middlewares += [_limit] if "--limit" in options else []
    app = web.Application(middlewares=middlewares)
    app.router.add_post("/scrape", scrape)
    app.router.add_get("/file", file)
    app.router.add_get("/health", health)
    run(app, port)


if __name__ == "__main__":
    main()
