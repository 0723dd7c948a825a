"""``/posts`` and ``/posts/{shortcode}``: the stored posts."""

import asyncio
import re
from collections.abc import Sequence
from typing import cast

import orjson
import structlog
from aiohttp import web

from scrapper.errors import ScrapeError, response_to
from scrapper.handlers.openapi import Operation, Parameter
from scrapper.handlers.queries import CURSOR, LIMIT, choice_in, cursor_in, limit_in
from scrapper.handlers.refusals import InvalidParameter, NotStored
from scrapper.handlers.request_bodies import BulkRequest, read_body
from scrapper.handlers.resources import LIBRARY, SETTINGS
from scrapper.handlers.responses import BulkResponse, ListingResponse, PostOutcome
from scrapper.library.catalogue import Kind, Search, Sort
from scrapper.library.response import PostResponse
from scrapper.library.stored import StoredPost
from scrapper.links import clean_link, is_shortcode, pasted_link
from scrapper.serving.base_path import BASE_PATH

__all__ = [
    "SHORTCODE",
    "bulk_change",
    "delete_post",
    "get_post",
    "keep_post",
    "list_posts",
    "post_json",
    "release_post",
    "stored_post",
]

log = structlog.get_logger(__name__)

SHORTCODE = Parameter("shortcode", "path", {"type": "string", "pattern": "^[A-Za-z0-9_-]{5,64}$"})
"""The path parameter that identifies a stored post."""

_MAX_SEARCH_LENGTH = 200
_CONCURRENT_CHANGES = 4
_KINDS: Sequence[Kind] = ("video", "image", "carousel")
_SORTS: Sequence[Sort] = ("stored", "taken")
_OWNER = {"type": "string", "pattern": "^[A-Za-z0-9._]{1,30}$"}


@Operation(
    id="listPosts",
    summary="List the stored posts, or those that match a search, newest first",
    tag="posts",
    response=ListingResponse,
    errors=(400, 507),
    parameters=(
        LIMIT,
        Parameter(
            "q",
            "query",
            {"type": "string", "maxLength": _MAX_SEARCH_LENGTH},
            "Words from the caption or people's names, the start of a shortcode, or a post's link",
        ),
        Parameter("owner", "query", _OWNER, "User name of the owner"),
        Parameter(
            "kept",
            "query",
            {"type": "boolean"},
            "`true`: only kept posts; `false`: only posts that are not kept",
        ),
        Parameter("type", "query", {"type": "string", "enum": _KINDS}, "Only posts of this type"),
        Parameter(
            "sort",
            "query",
            {"type": "string", "enum": _SORTS, "default": "stored"},
            "`stored`: most recently stored posts first; "
            "`taken`: most recently published posts first",
        ),
        CURSOR,
    ),
)
async def list_posts(request: web.Request) -> web.Response:
    """Return a page of up to ``limit`` stored posts after ``cursor``, newest first.

    ``q``, ``owner``, ``kept`` and ``type`` filter the posts. A ``cursor`` is valid only with the
    ``sort`` for which it was returned.
    """
    limit, after = limit_in(request), cursor_in(request)
    listing = await request.app[LIBRARY].list(limit, after, _search(request))
    next_cursor = orjson.dumps(None if listing.next is None else str(listing.next))
    body = b'{"posts":[%b],"next_cursor":%b}' % (
        b",".join(post_json(request, stored) for stored in listing.posts),
        next_cursor,
    )
    return web.Response(body=body, content_type="application/json")


@Operation(
    id="getPost",
    summary="Get a stored post",
    tag="posts",
    response=PostResponse,
    errors=(400, 404),
    parameters=(SHORTCODE,),
)
async def get_post(request: web.Request) -> web.Response:
    stored = await stored_post(request)
    return web.Response(body=post_json(request, stored), content_type="application/json")


@Operation(
    id="deletePost",
    summary="Remove a stored post and its files",
    tag="posts",
    status=204,
    errors=(400, 404, 507),
    parameters=(SHORTCODE,),
)
async def delete_post(request: web.Request) -> web.Response:
    if not await request.app[LIBRARY].remove(_shortcode(request)):
        raise NotStored
    return web.Response(status=204)


@Operation(
    id="keepPost",
    summary="Keep the post: never remove it because of its age",
    tag="posts",
    status=204,
    errors=(400, 404, 507),
    parameters=(SHORTCODE,),
)
async def keep_post(request: web.Request) -> web.Response:
    return await _keep(request, kept=True)


@Operation(
    id="releasePost",
    summary="Release the post: allow its removal once it is old",
    tag="posts",
    status=204,
    errors=(400, 404, 507),
    parameters=(SHORTCODE,),
)
async def release_post(request: web.Request) -> web.Response:
    return await _keep(request, kept=False)


@Operation(
    id="bulkChange",
    summary="Keep, release or delete up to 500 stored posts",
    tag="posts",
    response=BulkResponse,
    body=BulkRequest,
    errors=(400, 408),
)
async def bulk_change(request: web.Request) -> web.Response:
    """Apply the action to each post as the post's own route would, and return the outcomes."""
    body, library = await read_body(request, BulkRequest), request.app[LIBRARY]
    semaphore = asyncio.Semaphore(_CONCURRENT_CHANGES)

    async def change(shortcode: str) -> PostOutcome:
        if not is_shortcode(shortcode):
            return PostOutcome(shortcode, 400, InvalidParameter.code)
        async with semaphore:
            try:
                if body.action == "delete":
                    was_stored = await library.remove(shortcode)
                else:
                    was_stored = await library.mark(shortcode, kept=body.action == "keep")
            except (ScrapeError, OSError) as error:
                status, code, _ = response_to(error)
                log.warning("post not changed", shortcode=shortcode, cause=repr(error))
                return PostOutcome(shortcode, status, code)
        return PostOutcome(shortcode, *((204, None) if was_stored else (404, NotStored.code)))

    shortcodes = list(dict.fromkeys(body.shortcodes))
    outcomes = await asyncio.gather(*map(change, shortcodes))
    if body.action != "delete":
        await library.record_marks()
    by_shortcode = {outcome.shortcode: outcome for outcome in outcomes}
    response = BulkResponse([by_shortcode[shortcode] for shortcode in body.shortcodes])
    return web.Response(body=orjson.dumps(response), content_type="application/json")


async def _keep(request: web.Request, *, kept: bool) -> web.Response:
    if not await request.app[LIBRARY].keep(_shortcode(request), kept=kept):
        raise NotStored
    return web.Response(status=204)


async def stored_post(request: web.Request) -> StoredPost:
    """Return the stored post whose shortcode is in the request's path.

    Raises:
        InvalidParameter: the path has no valid shortcode.
        NotStored: the post is not stored.
    """
    stored = await request.app[LIBRARY].get(_shortcode(request))
    if stored is None:
        raise NotStored
    return stored


def _search(request: web.Request) -> Search:
    query = request.query
    text, owner = query.get("q", ""), query.get("owner")
    kept = choice_in(request, "kept", ["true", "false"])
    text = clean_link(text)
    # A link may be longer than other search texts.
    max_length = request.app[SETTINGS].max_url_length
    if len(text) > _MAX_SEARCH_LENGTH and not pasted_link(text, max_length=max_length):
        raise InvalidParameter(text=f"q must have at most {_MAX_SEARCH_LENGTH} characters")
    if owner is not None and not re.fullmatch(_OWNER["pattern"], owner):
        raise InvalidParameter(text="owner must be a user name")
    return Search(
        text,
        owner or "",
        None if kept is None else kept == "true",
        cast(Kind | None, choice_in(request, "type", _KINDS)) or "",
        cast(Sort | None, choice_in(request, "sort", _SORTS)) or "stored",
    )


def _shortcode(request: web.Request) -> str:
    shortcode = request.match_info["shortcode"]
    if not is_shortcode(shortcode):
        raise InvalidParameter(text="Invalid shortcode")
    return shortcode


def post_json(
    request: web.Request, stored: StoredPost, url: str | None = None, *, cached: bool = True
) -> bytes:
    """Return the post's JSON for *request*. *url* is the URL that the client sent, if any."""
    return stored.to_json(
        url,
        cached=cached,
        max_age=request.app[SETTINGS].max_media_age_seconds,
        prefix=request.app[BASE_PATH].prefix_of(request),
    )
