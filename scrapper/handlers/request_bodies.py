"""Reads and validates request bodies, and describes them for OpenAPI."""

import asyncio
import math
import zlib
from typing import Annotated, Literal, TypeVar

from aiohttp import hdrs, web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from scrapper.handlers.refusals import InvalidBody
from scrapper.handlers.resources import SETTINGS
from scrapper.library.post import MAX_MEGABYTES, Preference, Quality
from scrapper.links import clean_link

__all__ = [
    "MAX_SHORTCODES",
    "MAX_URLS",
    "MAX_WEBHOOK_LENGTH",
    "BulkRequest",
    "JobRequest",
    "PreferenceRequest",
    "ScrapeRequest",
    "parse_body",
    "read_body",
    "read_text",
]

MAX_WEBHOOK_LENGTH = 2048
"""The maximum length of a webhook's URL, in characters."""

MAX_URLS = 100
"""The maximum number of URLs in a job."""

MAX_SHORTCODES = 500
"""The maximum number of posts that one request can keep, release or delete."""


_POST_URL = (
    "^https://(www\\.)?instagram\\.com/(((([A-Za-z0-9._]{1,30}/)?(p|reel|reels|tv)|share(/p|/reel)?)"
    "/[A-Za-z0-9_-]{5,64}([/?#][!-~]*)?)"
    "|stories/[A-Za-z0-9._]{1,30}/[1-9][0-9]{8,18}/?([?#][!-~]*)?"
    "|s/[A-Za-z0-9_-]{1,100}/?\\?story_media_id=[1-9][0-9]{8,18}(_[0-9]{1,20})?)$"
)


class PreferenceRequest(BaseModel):
    """The requested quality and size of files."""

    quality: Quality | None = Field(
        None,
        description="`best` is the largest available video, joined with its audio; "
        "the default is VIDEO_QUALITY",
    )
    max_mb: Annotated[float, Field(gt=0, le=MAX_MEGABYTES, allow_inf_nan=False)] | None = Field(
        None,
        description="Maximum file size in millions of bytes; the largest file that fits is chosen",
    )

    def preference(self, default: Quality) -> Preference:
        """Return the preference, with *default* as the quality if the client requested none."""
        max_bytes = None if self.max_mb is None else max(1, math.floor(self.max_mb * 1_000_000))
        return Preference(self.quality or default, max_bytes)


class ScrapeRequest(PreferenceRequest):
    """A post to download."""

    model_config = ConfigDict(strict=True)

    url: Annotated[
        str,
        Field(
            min_length=1,
            description="The post's URL or share link; with a login, also the URL of a story or a "
            "highlight item",
            # An approximation of what links.py accepts.
            json_schema_extra={"pattern": _POST_URL},
            examples=["https://www.instagram.com/reel/SHORTCODE/"],
        ),
        AfterValidator(clean_link),
    ]
    refresh: bool = Field(False, description="Download the post again even if it is stored")
    keep: bool = Field(False, description="Never remove the post because of its age")


class JobRequest(PreferenceRequest):
    """Posts to download in the background."""

    model_config = ConfigDict(strict=True)

    urls: list[str] = Field(
        min_length=1,
        max_length=MAX_URLS,
        description="The posts' URLs; an invalid URL does not affect the others",
        examples=[["https://www.instagram.com/reel/SHORTCODE/"]],
    )
    keep: bool = Field(False, description="Never remove the posts because of their age")
    webhook: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_WEBHOOK_LENGTH,
        description="URL to which the job is POSTed when it ends, signed according to Standard "
        "Webhooks; its host must be in WEBHOOK_HOSTS",
        examples=["https://n8n.example.com/webhook/posts"],
    )


class BulkRequest(BaseModel):
    """Stored posts to keep, release or delete."""

    model_config = ConfigDict(strict=True)

    shortcodes: list[str] = Field(
        min_length=1,
        max_length=MAX_SHORTCODES,
        description="Shortcodes of the posts; a failure for one does not affect the others",
        examples=[["SHORTCODE"]],
    )
    action: Literal["keep", "release", "delete"] = Field(
        description="`keep` does the same as PUT /posts/{shortcode}/keep, `release` the same as "
        "DELETE /posts/{shortcode}/keep, and `delete` the same as DELETE /posts/{shortcode}"
    )


_GZIP = 16 + zlib.MAX_WBITS
# A body of many empty members would block the event loop.
_MAX_MEMBERS = 100
_WINDOWS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}
# After an invalid body, the start of the connection's next request is unknown.
_CLOSE = {hdrs.CONNECTION: "close"}
Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: web.Request, model: type[Body]) -> Body:
    """Read the request's body and validate it as *model*, whatever its ``Content-Type``.

    Raises:
        InvalidBody: the body does not match *model*, or is incomplete.
        web.HTTPRequestEntityTooLarge: the body is too large.
        web.HTTPRequestTimeout: the body did not arrive within ``CLIENT_TIMEOUT_SECONDS``.
    """
    return parse_body(await read_text(request), model)


def parse_body(body: bytes, model: type[Body]) -> Body:
    """Validate a complete *body* as *model*.

    Raises:
        InvalidBody: the body does not match *model*.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidBody(text=_explain(error)) from None


async def read_text(request: web.Request) -> bytes:
    """Read the complete body of the request, and decompress it.

    Raises:
        InvalidBody: the body is incomplete, or its encoding does not match its headers.
        web.HTTPRequestEntityTooLarge: the body is too large.
        web.HTTPRequestTimeout: the body did not arrive within ``CLIENT_TIMEOUT_SECONDS``.
    """
    try:
        if request.content.is_eof():
            # The whole body has arrived, and a timer would cost more than the read.
            return _decompressed(request, await request.read())
        async with asyncio.timeout(request.app[SETTINGS].client_timeout_seconds):
            return _decompressed(request, await request.read())
    except TimeoutError:
        raise web.HTTPRequestTimeout(
            text="The body did not arrive in time", headers=_CLOSE
        ) from None
    except (web.RequestPayloadError, ConnectionError, zlib.error):
        raise InvalidBody(
            text="The body is incomplete, or its encoding does not match its headers",
            headers=_CLOSE,
        ) from None


def _decompressed(request: web.Request, body: bytes) -> bytes:
    """Decompress *body* according to its ``Content-Encoding``.

    aiohttp 3.14 could decompress the body while reading it, but would not report truncated data.
    Only gzip allows several compressed parts in a row (RFC 1952, 2.2), here at most 100.

    Raises:
        zlib.error: the body is truncated, or its encoding does not match its headers.
        web.HTTPRequestEntityTooLarge: the decompressed body is too large.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding == "identity":
        return body
    window = _WINDOWS.get(encoding)
    if window is None:
        raise zlib.error("unknown encoding")
    if encoding == "deflate" and body[:1] and body[0] & 0xF != zlib.DEFLATED:
        # Some clients omit the zlib header.
        window = -zlib.MAX_WBITS
    decompressed, max_size = b"", request.client_max_size
    for _ in range(_MAX_MEMBERS if window == _GZIP else 1):
        decompressor = zlib.decompressobj(window)
        decompressed += decompressor.decompress(body, max_size + 1 - len(decompressed))
        if len(decompressed) > max_size:
            raise web.HTTPRequestEntityTooLarge(max_size, len(decompressed))
        if not decompressor.eof:
            raise zlib.error("incomplete")
        body = decompressor.unused_data
        if not body:
            return decompressed
    raise zlib.error("bytes after the end")


def _explain(error: ValidationError) -> str:
    """Describe the first problem in *error*, without the value that caused it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if not first["loc"]:
        return "The body is not a JSON object"
    field = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in first["loc"])
    return f"{field}: {first['msg']}"
