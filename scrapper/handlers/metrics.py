"""``GET /metrics``: the service's figures as Prometheus reads them."""

import asyncio
import shutil
from pathlib import Path

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

from scrapper.handlers.operation import TEXT, Operation, describe
from scrapper.handlers.resources import LIBRARY, METRICS

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
    free = await asyncio.to_thread(_free_bytes, request.app[LIBRARY].root)
    known.free_bytes.set(free)
    encode, content_type = choose_encoder(",".join(request.headers.getall(hdrs.ACCEPT, ())))
    # It reads what the system knows of the process, from files.
    body = await asyncio.to_thread(encode, known.registry)
    response = web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})
    response.enable_compression()
    return response


def _free_bytes(root: Path) -> int:
    """Free bytes on the disk of *root*; none if it is gone."""
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return 0
