"""``GET /metrics``: the service's figures as Prometheus reads them."""

import asyncio
import shutil

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from scrapper.handlers.resources import LIBRARY, METRICS

__all__ = ["metrics"]


async def metrics(request: web.Request) -> web.StreamResponse:
    """Every metric, in the text format that ``Accept`` asks for."""
    known = request.app[METRICS]
    disk = await asyncio.to_thread(shutil.disk_usage, request.app[LIBRARY].root)
    known.free_bytes.set(disk.free)
    return await make_aiohttp_handler(known.registry)(request)
