"""``/posts`` and ``/posts/{shortcode}``: what is stored."""

import orjson
from aiohttp import web

from scrapper.handlers.resources import LIBRARY
from scrapper.library.store import Cursor, StoredPost
from scrapper.links import is_shortcode

__all__ = ["delete_post", "get_post", "list_posts", "stored_post"]

_DEFAULT_LIMIT = 20
_MOST_POSTS = 100


async def list_posts(request: web.Request) -> web.Response:
    """The stored posts, newest first: ``limit`` of them, after ``cursor``."""
    limit = request.query.get("limit", str(_DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= len(str(_MOST_POSTS))):
        raise _bad_limit()
    if not 1 <= int(limit) <= _MOST_POSTS:
        raise _bad_limit()
    try:
        after = Cursor.parse(request.query["cursor"]) if "cursor" in request.query else None
    except ValueError:
        raise web.HTTPBadRequest(text="cursor: not one that was given out") from None
    page = await request.app[LIBRARY].page(int(limit), after)
    next_cursor = orjson.dumps(None if page.next is None else str(page.next))
    body = b'{"posts":[%b],"next_cursor":%b}' % (
        b",".join(_answer(stored) for stored in page.posts),
        next_cursor,
    )
    return web.Response(body=body, content_type="application/json")


async def get_post(request: web.Request) -> web.Response:
    """A stored post, as ``POST /scrape`` answered it."""
    stored = await stored_post(request)
    return web.Response(body=_answer(stored), content_type="application/json")


async def delete_post(request: web.Request) -> web.Response:
    """Remove a stored post and its files."""
    if not await request.app[LIBRARY].remove(_shortcode(request)):
        raise _not_stored()
    return web.Response(status=204)


async def stored_post(request: web.Request) -> StoredPost:
    """The post that the request's path names.

    Raises:
        web.HTTPBadRequest: it names none.
        web.HTTPNotFound: it is not stored.
    """
    stored = await request.app[LIBRARY].get(_shortcode(request))
    if stored is None:
        raise _not_stored()
    return stored


def _shortcode(request: web.Request) -> str:
    shortcode = request.match_info["shortcode"]
    if not is_shortcode(shortcode):
        raise web.HTTPBadRequest(text="Invalid shortcode")
    return shortcode


def _answer(stored: StoredPost) -> bytes:
    return stored.answer.to_json(original_url=stored.post.original_url, cached=True)


def _bad_limit() -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=f"limit: not a number from 1 to {_MOST_POSTS}")


def _not_stored() -> web.HTTPNotFound:
    return web.HTTPNotFound(text="The post is not stored")
