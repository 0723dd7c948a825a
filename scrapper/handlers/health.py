"""``GET /health``, ``GET /ready`` and ``GET /metrics``, for orchestrators and monitoring."""

import asyncio
import os
import re
from typing import Any

import aiofiles.os
from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

from scrapper.errors import MediaFolderGone
from scrapper.handlers import resources
from scrapper.handlers.openapi import TEXT, Content, Operation
from scrapper.handlers.responses import ReadyResponse
from scrapper.instagram.client import Instagram
from scrapper.library.disk import free_bytes
from scrapper.library.root import MediaRoot

__all__ = ["health", "metrics", "ready"]

_INVALID_VERSION = re.compile(r"\bversion=(?!\s*\d{1,9}(\.\d{1,9})*\s*(;|$))", re.ASCII)
_NEVER = re.compile(r"q\s*=\s*0(\.0*)?")


@Operation(
    id="getHealth",
    summary="Check whether the service is running",
    tag="service",
    response=Content(("text/plain",), {"type": "string", "const": "OK"}),
    free=True,
)
async def health(_request: web.Request) -> web.Response:
    """Return ``OK`` while the event loop runs."""
    return web.Response(text="OK")


@Operation(
    id="getReady",
    summary="Check whether a new post could be scraped now",
    tag="service",
    response=ReadyResponse,
    more={503: ("A new post cannot be scraped now", ReadyResponse)},
    free=True,
)
async def ready(request: web.Request) -> web.Response:
    """Return 200 if a new post could be scraped now, or else 503, with the result of each check.

    ``instagram`` and ``login`` do not affect the status. ``instagram`` shows the order in which the
    sources are tried and how many queries are allowed, separately for queries with and without a
    login. It also shows the query documents that the service found to replace retired ones.
    ``login`` is the state of the Instagram login.
    """
    root = request.app[resources.MEDIA_ROOT]
    min_free = request.app[resources.SETTINGS].min_free_bytes
    free = await asyncio.to_thread(free_bytes, root.path)
    checks = {
        "media_folder": await _is_usable(root),
        "disk_space": free is not None and free >= min_free,
        "capacity": not request.app[resources.SCRAPER].saturated,
        **{name: await check() for name, check in request.app[resources.CHECKS].items()},
    }
    instagram = await asyncio.to_thread(_describe, request.app[resources.INSTAGRAM])
    login = request.app[resources.INSTAGRAM].login.state.state
    body = {**checks, "instagram": instagram, "login": login}
    return web.json_response(body, status=200 if all(checks.values()) else 503)


@Operation(
    id="getMetrics",
    summary="Get the service's metrics for Prometheus",
    tag="service",
    response=TEXT,
)
async def metrics(request: web.Request) -> web.StreamResponse:
    all_metrics = request.app[resources.METRICS]
    free = await asyncio.to_thread(free_bytes, request.app[resources.LIBRARY].root)
    all_metrics.free_bytes.set(free or 0)
    await all_metrics.count()
    encode, content_type = choose_encoder(_valid_types(request))
    # In a thread, because the registry reads files under /proc.
    body = await asyncio.to_thread(encode, all_metrics.registry)
    response = web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})
    if _accepts_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _valid_types(request: web.Request) -> str:
    """Return the media types in ``Accept``, without those whose version is not a number.

    prometheus_client 0.26 fails on such a version, and on a version in quotes.
    """
    types = ",".join(request.headers.getall(hdrs.ACCEPT, ())).replace('"', "").split(",")
    return ",".join(type_ for type_ in types if not _INVALID_VERSION.search(type_))


def _accepts_gzip(request: web.Request) -> bool:
    """Return whether ``Accept-Encoding`` lists gzip, and not with a weight of 0.

    aiohttp 3.14 ignores weights.
    """
    accepted = ",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())).lower()
    codings = (coding.partition(";") for coding in accepted.split(","))
    return any(
        name.strip() == "gzip" and not _NEVER.fullmatch(weight.strip())
        for name, _, weight in codings
    )


async def _is_usable(root: MediaRoot) -> bool:
    try:
        await asyncio.to_thread(root.check)
    except MediaFolderGone:
        return False
    return bool(await aiofiles.os.access(root.path, os.W_OK | os.X_OK))


def _describe(instagram: Instagram) -> dict[str, dict[str, Any]]:
    found = {source: document.doc_id for source, document in instagram.documents.found().items()}
    described: dict[str, dict[str, Any]] = {
        name: {
            "sources": group.source_names,
            "allowed": group.pace.allowed_now(),
            "ceiling": group.pace.ceiling,
        }
        for name, group in instagram.source_groups.items()
    }
    if found:
        described["logged_out"]["queries"] = found
    return described
