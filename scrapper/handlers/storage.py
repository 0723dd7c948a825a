"""``GET /storage``: how much is stored, and how much space is left."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

import orjson
from aiohttp import web
from pydantic import ConfigDict, Field

from scrapper.errors import MediaFolderGone
from scrapper.handlers.openapi import Operation
from scrapper.handlers.resources import LIBRARY, SETTINGS
from scrapper.library.disk import free_bytes

__all__ = ["storage"]


@dataclass(frozen=True, slots=True)
class StorageResponse:
    """How much is stored, how much space is left, and the age at which posts are removed."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    posts: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0, description="Size of the posts' files in bytes")]
    free_bytes: Annotated[int, Field(ge=0, description="Free space on the disk in bytes")]
    max_age_days: Annotated[
        float,
        Field(
            ge=0,
            description="Age in days at which posts are removed unless kept; 0 means never",
        ),
    ]


@Operation(
    id="getStorage",
    summary="Get the number and size of the stored posts, and the free space",
    tag="service",
    response=StorageResponse,
)
async def storage(request: web.Request) -> web.Response:
    library = request.app[LIBRARY]
    usage = await library.usage_now()
    free = await asyncio.to_thread(free_bytes, library.root)
    if free is None:
        raise MediaFolderGone
    days = request.app[SETTINGS].max_media_age_days
    body = orjson.dumps(StorageResponse(usage.posts, usage.bytes, free, days))
    return web.Response(body=body, content_type="application/json")
