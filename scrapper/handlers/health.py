"""``GET /health`` and ``GET /ready``: for whoever watches over the service."""

import asyncio
import os
import shutil

from aiohttp import web

from scrapper.handlers.resources import CHECKS, LIBRARY, SCRAPER, SETTINGS

__all__ = ["health", "ready"]


async def health(_request: web.Request) -> web.Response:
    """``OK`` as long as the event loop runs."""
    return web.Response(text="OK")


async def ready(request: web.Request) -> web.Response:
    """Whether a new post could be scraped now: 200 or 503, with a line for each check."""
    root = request.app[LIBRARY].root
    disk = await asyncio.to_thread(shutil.disk_usage, root)
    checks = {
        "media_folder": await asyncio.to_thread(os.access, root, os.W_OK | os.X_OK),
        "disk_space": disk.free >= request.app[SETTINGS].min_free_bytes,
        "capacity": not request.app[SCRAPER].saturated,
        **{name: await holds() for name, holds in request.app[CHECKS].items()},
    }
    return web.json_response(checks, status=200 if all(checks.values()) else 503)
