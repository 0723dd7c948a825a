"""``GET /media/{shortcode}/{filename}`` and ``GET /download/{shortcode}``: stored files."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web
from zipstream import ZipStream

from scrapper.handlers.posts import stored_post
from scrapper.handlers.resources import LIBRARY
from scrapper.post import Post

__all__ = ["download", "media"]

_TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


async def media(request: web.Request) -> web.StreamResponse:
    """Any file of the post, inline."""
    post = (await stored_post(request)).post
    filename = request.match_info["filename"]
    # Looked up by name, never by path: nothing but a post's own files can be reached.
    if not any(file.filename == filename for file in post.files):
        raise web.HTTPNotFound(text="The post has no such file")
    return _file(request, post, filename, "inline")


async def download(request: web.Request) -> web.StreamResponse:
    """A file of the post as an attachment: its first video, else its first picture.

    With ``item=2`` the second file of a carousel; with ``archive=zip`` all of them in one.
    """
    item, archive = request.query.get("item"), request.query.get("archive")
    if archive not in (None, "zip") or (archive and item is not None):
        raise web.HTTPBadRequest(text="archive: only zip is known, and without item")
    if item is not None and not (item.isascii() and item.isdecimal()):
        raise web.HTTPBadRequest(text="item: not a number")
    post = (await stored_post(request)).post
    if archive:
        return await _archive(request, post)
    if item is None:
        return _file(request, post, post.main.filename, "attachment")
    # The number may be of any length, and Python refuses to convert very long ones.
    number = int(item) if len(item) < 9 else 0  # noqa: PLR2004
    if not 1 <= number <= len(post.media):
        raise web.HTTPNotFound(text=f"The post has no item {item[:9]}")
    return _file(request, post, post.media[number - 1].filename, "attachment")


def _file(request: web.Request, post: Post, filename: str, disposition: str) -> web.FileResponse:
    path = _folder(request, post) / filename
    headers = {
        hdrs.CONTENT_TYPE: _TYPES.get(path.suffix, "application/octet-stream"),
        hdrs.CONTENT_DISPOSITION: f'{disposition}; filename="{filename}"',
    }
    return web.FileResponse(path, headers=headers)


def _folder(request: web.Request, post: Post) -> Path:
    return request.app[LIBRARY].root / post.shortcode


async def _archive(request: web.Request, post: Post) -> web.StreamResponse:
    """The post's media as a ZIP archive, made while it is sent; media cannot be compressed."""
    archive: Any = ZipStream(sized=True)  # type: ignore[no-untyped-call]
    for item in post.media:
        path = _folder(request, post) / item.filename
        await asyncio.to_thread(archive.add_path, path, item.filename)
    response = web.StreamResponse()
    response.content_type = "application/zip"
    response.content_length = len(archive)
    response.headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="{post.shortcode}.zip"'
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        pieces = iter(archive)
        while piece := await asyncio.to_thread(next, pieces, b""):
            await response.write(piece)
    return response
