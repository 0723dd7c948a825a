"""``GET /health`` and ``GET /ready``, for orchestrators and monitoring."""

import asyncio
import os
import shutil
from typing import Any

from aiohttp import web

from scrapper.handlers.operation import Content, Operation, describe
from scrapper.handlers.resources import CHECKS, INSTAGRAM, LIBRARY, SCRAPER, SETTINGS
from scrapper.handlers.responses import ReadyResponse
from scrapper.instagram.client import Instagram

__all__ = ["health", "ready"]


@describe(
    Operation(
        id="getHealth",
        summary="Whether the service runs",
        tag="service",
        response=Content(("text/plain",), {"type": "string", "const": "OK"}),
        free=True,
    )
)
async def health(_request: web.Request) -> web.Response:
    """``OK`` as long as the event loop runs."""
    return web.Response(text="OK")


@describe(
    Operation(
        id="getReady",
        summary="Whether a new post could be scraped now",
        tag="service",
        response=ReadyResponse,
        more={503: ("A new post could not be scraped", ReadyResponse)},
        free=True,
    )
)
async def ready(request: web.Request) -> web.Response:
    """Whether a new post could be scraped now: 200 or 503, with a key for each check.

    ``instagram`` and ``login`` are no checks. The first says for each login state which source is
    asked first and how many queries are allowed; the second is the state of the session.
    """
    root = request.app[LIBRARY].root
    disk = await asyncio.to_thread(shutil.disk_usage, root)
    checks = {
        "media_folder": await asyncio.to_thread(os.access, root, os.W_OK | os.X_OK),
        "disk_space": disk.free >= request.app[SETTINGS].min_free_bytes,
        "capacity": not request.app[SCRAPER].saturated,
        **{name: await holds() for name, holds in request.app[CHECKS].items()},
    }
    learned = await asyncio.to_thread(_learned, request.app[INSTAGRAM])
    login = request.app[INSTAGRAM].login.state.state
    body = {**checks, "instagram": learned, "login": login}
    return web.json_response(body, status=200 if all(checks.values()) else 503)


def _learned(instagram: Instagram) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "sources": standing.source_names,
            "allowed": standing.pace.allowed_now(),
            "ceiling": standing.pace.ceiling,
        }
        for name, standing in instagram.standings.items()
    }
