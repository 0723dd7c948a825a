"""``GET /metrics``: the service's figures as Prometheus reads them."""

import asyncio

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

from scrapper.handlers.operation import TEXT, Operation, describe
from scrapper.handlers.resources import LIBRARY, METRICS
from scrapper.library.disk import free_bytes

__all__ = ["metrics"]


@describe(
    Operation(
        id="getMetrics",
        summary="The service's figures, for Prometheus",
        tag="service",
        response=TEXT,
    )
)
async def metrics(request: web.Request) -> web.StreamResponse:
    """Every metric, in the text format that ``Accept`` asks for."""
    known = request.app[METRICS]
    free = await asyncio.to_thread(free_bytes, request.app[LIBRARY].root)
    known.free_bytes.set(free or 0)
    encode, content_type = choose_encoder(",".join(request.headers.getall(hdrs.ACCEPT, ())))
    # It reads what the system knows of the process, from files.
    body = await asyncio.to_thread(encode, known.registry)
    response = web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})
    response.enable_compression()
    return response
