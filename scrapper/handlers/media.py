"""Files of posts: ``/media/{shortcode}/{filename}``, ``/download/{shortcode}``, ``/download``."""

import asyncio
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import structlog
from aiohttp import hdrs, web
from pydantic import ValidationError
from zipstream import ZipStream

from scrapper.handlers.download_names import disposition
from scrapper.handlers.openapi import FILE, Operation, Parameter
from scrapper.handlers.posts import SHORTCODE, stored_post
from scrapper.handlers.queries import FLAG, choice_in, flag_in
from scrapper.handlers.refusals import InvalidParameter, NotStored
from scrapper.handlers.request_bodies import PreferenceRequest, ScrapeRequest
from scrapper.handlers.resources import CONVERSIONS, DOWNLOAD_NAMES, LIBRARY, SETTINGS
from scrapper.handlers.scrape import scraped_post
from scrapper.handlers.versions import Version, versioned_file
from scrapper.instagram.files.kinds import MEDIA_TYPES
from scrapper.library.disk import is_there
from scrapper.library.post import MAX_MEGABYTES, MediaItem, Post, Preference, Quality
from scrapper.links import clean_link, is_shortcode, item_in
from scrapper.tasks import finished

__all__ = ["CONVERSION_NAMES", "RANGES", "download", "download_by_url", "file_response", "media"]

log = structlog.get_logger(__name__)

_MAX_ITEM_DIGITS = 9
# A browser that opens a media file directly shows it in a generated page with inline styles.
_POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'"
)
CONVERSION_NAMES = ("audio", "h264")
"""The query parameters that request a converted item."""

_CHOICE = (
    Parameter(
        "item",
        "query",
        {"type": "integer", "minimum": 1},
        "Number of an item in the carousel, starting at 1",
    ),
    Parameter(
        "archive", "query", {"type": "string", "enum": ["zip"]}, "Return the files as one archive"
    ),
    Parameter("audio", "query", FLAG, "Return only the audio; requires the `audio` plugin"),
    Parameter(
        "h264",
        "query",
        FLAG,
        "Convert to H.264 and AAC, which play everywhere; requires the `audio` plugin",
    ),
)

_MAX_POSTS = 100
_SHORTCODES = f"^[A-Za-z0-9_-]{{5,64}}(,[A-Za-z0-9_-]{{5,64}}){{0,{_MAX_POSTS - 1}}}$"
_NOT_STORED = "X-Not-Stored"

RANGES = {
    206: ("The requested part of the file", FILE),
    304: ("The client already has this version", None),
}
"""Further responses to a request for a file, other than errors."""


@Operation(
    id="getMedia",
    summary="Get a file of a stored post, for inline display",
    tag="posts",
    response=FILE,
    errors=(400, 404, 412, 416),
    parameters=(
        SHORTCODE,
        Parameter("filename", "path", {"type": "string", "minLength": 1}),
    ),
    more=RANGES,
)
async def media(request: web.Request) -> web.StreamResponse:
    stored = await stored_post(request)
    post, filename = stored.post, request.match_info["filename"]
    # The file is looked up by name, never by path, so only the post's own files can be served.
    file = next((file for file in post.files if file.filename == filename), None)
    if file is None:
        raise web.HTTPNotFound(text="The post has no such file")
    content_disposition = disposition("inline", filename)
    return await file_response(request, post, file, stored.stored_at, content_disposition)


@Operation(
    id="download",
    summary="Download a stored post: its main file, a file of your choice, or all files",
    tag="posts",
    response=FILE,
    errors=(400, 404, 412, 416, 422, 502, 507),
    parameters=(SHORTCODE, *_CHOICE),
    more=RANGES,
)
async def download(request: web.Request) -> web.StreamResponse:
    """Return a file of the post as an attachment.

    By default, this is the main file: the first video, or the first picture if there is no video.

    ``item=2`` selects the second item of a carousel. ``archive=zip`` returns an archive of all
    files, or of the selected one. With ``audio=1`` or ``h264=1``, a plugin converts the file.
    """
    choice = _Choice.of(request)
    stored = await stored_post(request)
    return await _attachment(request, stored.post, stored.stored_at, choice)


@Operation(
    id="downloadByUrl",
    summary="Download the post at a link: its main file, a file of your choice, or all files",
    tag="posts",
    response=FILE,
    errors=(400, 403, 404, 412, 416, 422, 502, 507),
    parameters=(
        # Generated clients would rename a parameter called `url`.
        Parameter(
            "link",
            "query",
            ScrapeRequest.model_json_schema()["properties"]["url"],
            "The post's URL or share link; `url` is another name for this parameter",
        ),
        Parameter(
            "shortcodes",
            "query",
            {"type": "string", "pattern": _SHORTCODES},
            "Instead of a link: the shortcodes of up to 100 stored posts, separated by commas; "
            "requires `archive=zip`",
        ),
        Parameter("quality", "query", {"type": "string", "enum": list(get_args(Quality))}),
        Parameter(
            "max_mb",
            "query",
            {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_MEGABYTES},
            "Maximum file size in millions of bytes; the largest file that fits is chosen",
        ),
        *_CHOICE,
    ),
    headers={
        _NOT_STORED: {
            "description": "Shortcodes of the requested posts that are not stored, separated by "
            "commas",
            "schema": {"type": "string"},
        }
    },
    more=RANGES,
)
async def download_by_url(request: web.Request) -> web.StreamResponse:
    """Respond like ``/download/{shortcode}``, for the post at ``url`` or ``link``.

    The post is downloaded first if it is not stored. ``item`` defaults to the ``img_index`` in the
    URL. ``quality`` and ``max_mb`` mean the same as in ``POST /scrape``. With ``shortcodes`` and
    ``archive=zip``, the response is an archive of stored posts, with a folder for each.
    """
    if "shortcodes" in request.query:
        return await _archive_of_posts(request, _shortcodes(request))
    choice = _Choice.of(request)
    url = clean_link(request.query.get("url") or request.query.get("link", ""))
    if not url:
        raise InvalidParameter(
            text="url is missing; use /download?url=https://www.instagram.com/..."
        )
    stored = (await scraped_post(request, url, _preference_of(request))).stored
    if choice.item is None:
        choice = replace(choice, item=item_in(url))
    return await _attachment(request, stored.post, stored.stored_at, choice)


def _shortcodes(request: web.Request) -> Sequence[str]:
    """Return the shortcodes in the query.

    Raises:
        InvalidParameter: a shortcode is invalid, there are too many, or ``shortcodes`` cannot be
            combined with the other parameters.
    """
    if not request.query.keys().isdisjoint(("url", "link", "item", *CONVERSION_NAMES)):
        raise InvalidParameter(text="shortcodes can be combined only with archive=zip")
    if request.query.get("archive") != "zip":
        raise InvalidParameter(text="shortcodes requires archive=zip")
    found = list(dict.fromkeys(request.query["shortcodes"].split(",")))
    if len(found) > _MAX_POSTS or not all(map(is_shortcode, found)):
        raise InvalidParameter(
            text=f"shortcodes must be up to {_MAX_POSTS} shortcodes, separated by commas"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which of a post's files to return, and whether to convert or archive them."""

    item: int | None
    archive: bool
    conversion: str | None

    @classmethod
    def of(cls, request: web.Request) -> "_Choice":
        archive = choice_in(request, "archive", ["zip"])
        conversions = [name for name in CONVERSION_NAMES if flag_in(request, name)]
        return cls(_item_number(request), archive is not None, next(iter(conversions), None))


async def _attachment(
    request: web.Request, post: Post, stored_at: float, choice: _Choice
) -> web.StreamResponse:
    chosen: Sequence[MediaItem] = (post.named,)
    if choice.item is None and choice.archive and choice.conversion is None:
        chosen = post.items
    elif (choice.item or post.named_item) in post.missing:
        raise web.HTTPNotFound(text="The item is missing: Instagram did not deliver it")
    elif choice.item is not None:
        item = post.item(choice.item)
        if item is None:
            raise web.HTTPNotFound(text="The post has no such item")
        chosen = (item,)
    if choice.conversion is not None:
        convert = request.app[CONVERSIONS].get(choice.conversion)
        if convert is None:
            raise web.HTTPNotFound(text=f"{choice.conversion} needs PLUGINS=audio")
        chosen = (await convert(post, chosen[0]),)
    if choice.archive:
        return await _archive(request, post, chosen)
    name = disposition("attachment", request.app[DOWNLOAD_NAMES].of(post, chosen[0]))
    return await file_response(request, post, chosen[0], stored_at, name)


def _preference_of(request: web.Request) -> Preference:
    given = {name: request.query[name] for name in ("quality", "max_mb") if name in request.query}
    try:
        return PreferenceRequest.model_validate(given).preference(
            request.app[SETTINGS].video_quality
        )
    except ValidationError:
        qualities = " or ".join(get_args(Quality))
        raise InvalidParameter(
            text=f"quality must be {qualities}, and max_mb a number of megabytes greater than 0"
        ) from None


def _item_number(request: web.Request) -> int | None:
    item = request.query.get("item")
    if item is None:
        return None
    if not (item.isascii() and item.isdecimal() and item.strip("0")):
        raise InvalidParameter(text="item must be a whole number, 1 or greater")
    # Python refuses to convert very long numbers, and no post has that many files.
    return int(item) if len(item) <= _MAX_ITEM_DIGITS else sys.maxsize


async def file_response(
    request: web.Request,
    post: Post,
    item: MediaItem,
    stored_at: float,
    content_disposition: str,
    *,
    # A refresh replaces files under the same names, so clients must revalidate them.
    cache: str = "private, no-cache",
) -> web.StreamResponse:
    """Return a response with the file of *item*.

    *stored_at* is a Unix time in seconds, and *cache* is the value of ``Cache-Control``.

    Raises:
        MediaFolderGone: the media folder is missing.
        web.HTTPNotFound: the file is missing, or was replaced.
        web.HTTPPreconditionFailed: the request requires another version of the file.
        web.HTTPRequestRangeNotSatisfiable: the range is invalid, or begins after the end.
    """
    path = _folder(request, post) / item.filename
    if not await asyncio.to_thread(is_there, path, item.size):
        await asyncio.to_thread(request.app[LIBRARY].check)
        raise web.HTTPNotFound(text="The file is gone")
    headers = {
        hdrs.CONTENT_TYPE: MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        hdrs.CONTENT_DISPOSITION: content_disposition,
        "Content-Security-Policy": _POLICY,
        hdrs.CACHE_CONTROL: cache,
    }
    version = Version(f"{stored_at:.6f}-{item.size:x}", int(stored_at), item.size)
    return versioned_file(request, path, version, headers)


def _folder(request: web.Request, post: Post) -> Path:
    return request.app[LIBRARY].root / post.shortcode


async def _archive(
    request: web.Request, post: Post, items: Sequence[MediaItem]
) -> web.StreamResponse:
    """Respond with a ZIP archive of some files of a post."""
    names = request.app[DOWNLOAD_NAMES]
    archive = _Archive(request.app[LIBRARY].root)
    if not await asyncio.to_thread(archive.add, post, items, names.of_all(post, items)):
        # If the media folder is missing, check() raises. If not, a sweep may have removed the post.
        await asyncio.to_thread(request.app[LIBRARY].check)
        raise NotStored
    return await archive.send(request, names.of_archive(post))


async def _archive_of_posts(request: web.Request, shortcodes: Sequence[str]) -> web.StreamResponse:
    """Respond with a ZIP archive of the requested posts that are stored, with a folder for each."""
    library, names = request.app[LIBRARY], request.app[DOWNLOAD_NAMES]
    found = [stored.post for stored in await library.get_all(shortcodes) if stored]
    folders = names.of_folders(found)
    archive = _Archive(library.root)

    def add() -> set[str]:
        """Add the posts whose files are all present; return their shortcodes."""
        return {
            post.shortcode
            for post, folder in zip(found, folders, strict=True)
            if archive.add(
                post, post.items, [f"{folder}/{name}" for name in names.of_all(post, post.items)]
            )
        }

    added = await asyncio.to_thread(add)
    if not added:
        await asyncio.to_thread(library.check)
        raise NotStored
    missing = [shortcode for shortcode in shortcodes if shortcode not in added]
    headers = {_NOT_STORED: ", ".join(missing)} if missing else {}
    return await archive.send(request, f"{len(added)} posts.zip", headers)


class _Archive:
    """An uncompressed ZIP archive of posts under *root*, created while it is being sent."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._zip: Any = ZipStream(sized=True)  # type: ignore[no-untyped-call]

    def add(self, post: Post, items: Sequence[MediaItem], names: Sequence[str]) -> bool:
        """Add *items* of the post under *names*; return False if a file is missing. Blocking."""
        paths = [self._root / post.shortcode / item.filename for item in items]
        if not all(is_there(path, item.size) for path, item in zip(paths, items, strict=True)):
            return False
        try:
            for path, name in zip(paths, names, strict=True):
                self._zip.add_path(path, name)
        except FileNotFoundError:
            return False
        return True

    async def send(
        self, request: web.Request, name: str, headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        """Send the whole archive as the response to *request*."""
        response = web.StreamResponse(headers=headers)
        response.content_type = "application/zip"
        response.content_length = len(self._zip)
        response.headers[hdrs.CONTENT_DISPOSITION] = disposition("attachment", name)
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            # The client disconnected.
            with suppress(ConnectionError):
                await _send(request, response, iter(self._zip))
        return response


async def _send(
    request: web.Request, response: web.StreamResponse, pieces: Generator[bytes]
) -> None:
    """Generate all *pieces* in threads and send them, then close the generator and its files.

    If a file is removed or replaced while it is being sent, the connection is aborted so that the
    client notices that its archive is incomplete.
    """
    try:
        while piece := await finished(asyncio.to_thread(next, pieces, b"")):
            await response.write(piece)
    except ConnectionError:
        raise
    # zipstream raises a RuntimeError if the size of a file has changed.
    except (OSError, RuntimeError) as error:
        log.warning("archive aborted: a file changed", cause=repr(error))
        if request.transport is not None:
            request.transport.abort()
    finally:
        await finished(asyncio.to_thread(pieces.close))
