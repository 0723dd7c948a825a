"""``/media/{shortcode}/{filename}``, ``/download/{shortcode}`` and ``/download?url=``: files."""

import asyncio
import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from zipstream import ZipStream

from scrapper.handlers.openapi import FILE, Operation, Parameter
from scrapper.handlers.posts import SHORTCODE, stored_files
from scrapper.handlers.refusals import InvalidParameter, NotStored
from scrapper.handlers.request_bodies import ScrapeRequest
from scrapper.handlers.resources import CONVERSIONS, LIBRARY
from scrapper.handlers.scrape import scraped_post
from scrapper.library.post import MediaItem, Post
from scrapper.tasks import finished

__all__ = ["CONVERSION_NAMES", "download", "download_by_url", "media"]

_ITEM_DIGITS = 9
# A browser wraps a file that is opened alone in a document of its own, with inline styles.
_POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'"
)
_TYPES = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".heic": "image/heic",
}


CONVERSION_NAMES = ("audio", "h264")
"""The query's parameters that ask for another file of an item."""

_FLAG = {"type": "string", "enum": ["1"]}
_CHOICE = (
    Parameter("item", "query", {"type": "integer", "minimum": 1}, "Which item of a carousel"),
    Parameter("archive", "query", {"type": "string", "enum": ["zip"]}, "As one archive"),
    Parameter("audio", "query", _FLAG, "The sound alone; needs the plugin `audio`"),
    Parameter(
        "h264", "query", _FLAG, "As H.264 and AAC, which plays anywhere; needs the plugin `audio`"
    ),
)

# aiohttp sends these itself.
_RANGES = {
    206: ("A part of the file", FILE),
    304: ("The client has it", None),
    412: ("The file is not the version that the client expects", None),
    416: ("The file has no such part", None),
}


@Operation(
    id="getMedia",
    summary="A file of a stored post, inline",
    tag="posts",
    response=FILE,
    errors=(400, 404),
    parameters=(
        SHORTCODE,
        Parameter("filename", "path", {"type": "string", "minLength": 1}),
    ),
    more=_RANGES,
)
async def media(request: web.Request) -> web.StreamResponse:
    post = await stored_files(request)
    filename = request.match_info["filename"]
    # By name, never by path: only a post's own files can be reached.
    if not any(file.filename == filename for file in post.files):
        raise web.HTTPNotFound(text="The post has no such file")
    return _file(request, post, filename, "inline")


@Operation(
    id="download",
    summary="The main file of a stored post, one of its files, or all, as an attachment",
    tag="posts",
    response=FILE,
    errors=(400, 404),
    parameters=(SHORTCODE, *_CHOICE),
    more=_RANGES,
)
async def download(request: web.Request) -> web.StreamResponse:
    """A file of the post as an attachment: its first video, else its first picture.

    ``item=2`` chooses the second file of a carousel. ``archive=zip`` puts all of them, or the
    chosen one, into an archive. ``audio=1`` and ``h264=1`` have a plugin make another file of it.
    """
    choice = _Choice.of(request)
    return await _attachment(request, await stored_files(request), choice)


@Operation(
    id="downloadByUrl",
    summary="Download a post, and return its main file, one of its files, or all",
    tag="posts",
    response=FILE,
    errors=(400, 403, 404, 422, 502, 503, 507),
    parameters=(
        Parameter(
            "url",
            "query",
            ScrapeRequest.model_json_schema()["properties"]["url"],
            "The post's URL, or a share link to it",
            required=True,
        ),
        *_CHOICE,
    ),
    more=_RANGES,
)
async def download_by_url(request: web.Request) -> web.StreamResponse:
    """Download the post that ``url`` names, and answer like ``GET /download/{shortcode}``."""
    choice = _Choice.of(request)
    url = request.query.get("url", "")
    if not url:
        raise InvalidParameter(text="Say which post: /download?url=https://www.instagram.com/...")
    scraped = await scraped_post(request, url)
    return await _attachment(request, scraped.stored.post, choice)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which of a post's files are wanted, and whether as an archive or converted."""

    item: int | None
    archive: bool
    conversion: str | None

    @classmethod
    def of(cls, request: web.Request) -> "_Choice":
        archive = request.query.get("archive")
        if archive not in (None, "zip"):
            raise InvalidParameter(text="archive must be zip")
        conversions = [name for name in CONVERSION_NAMES if name in request.query]
        for name in conversions:
            if request.query[name] != "1":
                raise InvalidParameter(text=f"{name} must be 1")
        return cls(_item_number(request), archive is not None, next(iter(conversions), None))


async def _attachment(request: web.Request, post: Post, choice: _Choice) -> web.StreamResponse:
    chosen: Sequence[MediaItem] = (post.main,)
    if choice.item is not None:
        if choice.item > len(post.items):
            raise web.HTTPNotFound(text="The post has no such item")
        chosen = (post.items[choice.item - 1],)
    elif choice.archive and choice.conversion is None:
        chosen = post.items
    if choice.conversion is not None:
        convert = request.app[CONVERSIONS].get(choice.conversion)
        if convert is None:
            raise web.HTTPNotFound(text=f"{choice.conversion} needs PLUGINS=scrapper.plugins.audio")
        chosen = (await convert(post, chosen[0]),)
    if choice.archive:
        return await _archive(request, post, chosen)
    return _file(request, post, chosen[0].filename, "attachment")


def _item_number(request: web.Request) -> int | None:
    item = request.query.get("item")
    if item is None:
        return None
    if not (item.isascii() and item.isdecimal() and item.strip("0")):
        raise InvalidParameter(text="item must be a number, 1 or more")
    # Python refuses to convert very long numbers, and no post has that many files.
    return int(item) if len(item) <= _ITEM_DIGITS else sys.maxsize


def _file(request: web.Request, post: Post, filename: str, disposition: str) -> web.StreamResponse:
    path = _folder(request, post) / filename
    headers = {
        hdrs.CONTENT_TYPE: _TYPES.get(path.suffix, "application/octet-stream"),
        hdrs.CONTENT_DISPOSITION: f'{disposition}; filename="{filename}"',
        "Content-Security-Policy": _POLICY,
        # After a refresh, other files have the same names.
        hdrs.CACHE_CONTROL: "private, no-cache",
    }
    return _MediaResponse(path, headers=headers)


class _MediaResponse(web.FileResponse):
    """A file, and how many of its bytes were sent: ``bytes_sent``."""

    bytes_sent = 0

    async def _sendfile(
        self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int
    ) -> AbstractStreamWriter:
        try:
            return await super()._sendfile(request, fobj, offset, count)
        finally:
            # asyncio's sendfile leaves the position there, if the client went away, too.
            self.bytes_sent = max(0, os.lseek(fobj.fileno(), 0, os.SEEK_CUR) - offset)


def _folder(request: web.Request, post: Post) -> Path:
    return request.app[LIBRARY].root / post.shortcode


async def _archive(
    request: web.Request, post: Post, items: Iterable[MediaItem]
) -> web.StreamResponse:
    """A ZIP archive, made while it is sent, without compression."""
    archive: Any = ZipStream(sized=True)  # type: ignore[no-untyped-call]
    for item in items:
        path = _folder(request, post) / item.filename
        try:
            await asyncio.to_thread(archive.add_path, path, item.filename)
        except FileNotFoundError:
            # A sweep may remove the post meanwhile, or the disk go away, which is another error.
            await asyncio.to_thread(request.app[LIBRARY].check)
            raise NotStored from None
    response = web.StreamResponse()
    response.content_type = "application/zip"
    response.content_length = len(archive)
    response.headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="{post.shortcode}.zip"'
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        # The client went away.
        with suppress(ConnectionError):
            await _send(response, iter(archive))
    return response


async def _send(response: web.StreamResponse, pieces: Generator[bytes]) -> None:
    """Send all *pieces*, which threads make; close what they opened, whatever ends it."""
    try:
        while piece := await finished(asyncio.to_thread(next, pieces, b"")):
            await response.write(piece)
    finally:
        await finished(asyncio.to_thread(pieces.close))
