"""``GET /download/{shortcode}`` and ``GET /media/{shortcode}/{filename}``: stored files."""

from aiohttp import hdrs, web

from scrapper.handlers.resources import LIBRARY
from scrapper.post import Post
from scrapper.urls import is_shortcode

__all__ = ["download", "media"]

_TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


async def download(request: web.Request) -> web.StreamResponse:
    """The post's main file as an attachment: its first video, else its first picture."""
    post = await _stored_post(request)
    return _file(request, post, post.main.filename, "attachment")


async def media(request: web.Request) -> web.StreamResponse:
    """Any file of the post, inline."""
    post = await _stored_post(request)
    filename = request.match_info["filename"]
    # Looked up by name, never by path: nothing but a post's own media can be reached.
    if not any(item.filename == filename for item in post.media):
        raise web.HTTPNotFound(text="The post has no such file")
    return _file(request, post, filename, "inline")


async def _stored_post(request: web.Request) -> Post:
    shortcode = request.match_info["shortcode"]
    if not is_shortcode(shortcode):
        raise web.HTTPBadRequest(text="Invalid shortcode")
    stored = await request.app[LIBRARY].get(shortcode)
    if stored is None:
        raise web.HTTPNotFound(text="The post is not stored")
    return stored.post


def _file(request: web.Request, post: Post, filename: str, disposition: str) -> web.FileResponse:
    path = request.app[LIBRARY].root / post.shortcode / filename
    headers = {
        hdrs.CONTENT_TYPE: _TYPES.get(path.suffix, "application/octet-stream"),
        hdrs.CONTENT_DISPOSITION: f'{disposition}; filename="{filename}"',
    }
    return web.FileResponse(path, headers=headers)
