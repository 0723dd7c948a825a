"""``GET /posts/{shortcode}/thumbnail``: a small picture of a post, for lists."""

from aiohttp import web

from scrapper.handlers.download_names import disposition
from scrapper.handlers.media import RANGES, file_response
from scrapper.handlers.openapi import FILE, Operation, Parameter
from scrapper.handlers.posts import SHORTCODE, stored_post
from scrapper.library.response import picture_version

__all__ = ["thumbnail"]

_CACHE_FOR_A_YEAR = "private, max-age=31536000, immutable"


@Operation(
    id="getThumbnail",
    summary="Get a small picture of a stored post",
    tag="posts",
    response=FILE,
    errors=(400, 404, 412, 416),
    parameters=(
        SHORTCODE,
        Parameter("v", "query", {"type": "string"}, "The picture's version, as in `thumbnail_url`"),
    ),
    more=RANGES,
)
async def thumbnail(request: web.Request) -> web.StreamResponse:
    """Return a picture of at most 25 KB, which may be cached for a year if ``v`` is current."""
    stored = await stored_post(request)
    picture = stored.post.listed_picture
    if picture is None:
        raise web.HTTPNotFound(text="The post has no small picture")
    is_current = request.query.get("v") == picture_version(picture, stored.stored_at)
    return await file_response(
        request,
        stored.post,
        picture,
        stored.stored_at,
        disposition("inline", picture.filename),
        **({"cache": _CACHE_FOR_A_YEAR} if is_current else {}),
    )
