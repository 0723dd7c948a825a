"""Request bodies: the models that check and describe them."""

import asyncio
import math
import zlib
from typing import Annotated, Literal, TypeVar

from aiohttp import hdrs, web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from scrapper.handlers.refusals import InvalidBody
from scrapper.handlers.resources import SETTINGS
from scrapper.library.post import MAX_MEGABYTES, Quality, Wish
from scrapper.links import clean_link

__all__ = [
    "MAX_WEBHOOK_LENGTH",
    "MOST_SHORTCODES",
    "MOST_URLS",
    "BulkRequest",
    "JobRequest",
    "ScrapeRequest",
    "WishRequest",
    "parse_body",
    "read_body",
    "read_text",
]

MAX_WEBHOOK_LENGTH = 2048
"""Characters of a webhook's URL."""

MOST_URLS = 100
"""How many URLs one job may have."""

MOST_SHORTCODES = 500
"""How many posts one request may keep, release or delete."""


_POST_URL = (
    "^https://(www\\.)?instagram\\.com/(((([A-Za-z0-9._]{1,30}/)?(p|reel|reels|tv)|share(/p|/reel)?)"
    "/[A-Za-z0-9_-]{5,64}([/?#][!-~]*)?)"
    "|stories/[A-Za-z0-9._]{1,30}/[1-9][0-9]{8,18}/?([?#][!-~]*)?"
    "|s/[A-Za-z0-9_-]{1,100}/?\\?story_media_id=[1-9][0-9]{8,18}(_[0-9]{1,20})?)$"
)


class WishRequest(BaseModel):
    """Which files are wanted."""

    quality: Quality | None = Field(
        None,
        description="`best` is the largest video that there is, joined with its sound; "
        "VIDEO_QUALITY if not given",
    )
    max_mb: Annotated[float, Field(gt=0, le=MAX_MEGABYTES, allow_inf_nan=False)] | None = Field(
        None,
        description="Largest file, in millions of bytes; the largest size that fits is chosen",
    )

    def wish(self, default: Quality) -> Wish:
        """The wish; *default* is the service's own quality."""
        max_bytes = None if self.max_mb is None else max(1, math.floor(self.max_mb * 1_000_000))
        return Wish(self.quality or default, max_bytes)


class ScrapeRequest(WishRequest):
    """A post to download."""

    model_config = ConfigDict(strict=True)

    url: Annotated[
        str,
        Field(
            min_length=1,
            description="The post's URL, or a share link to it; with a login, also the URL of a "
            "story, or of a highlight's item",
            # What links.py accepts, as far as a pattern can express it.
            json_schema_extra={"pattern": _POST_URL},
            examples=["https://www.instagram.com/reel/SHORTCODE/"],
        ),
        AfterValidator(clean_link),
    ]
    refresh: bool = Field(False, description="Download the post again even if it is stored")
    keep: bool = Field(False, description="Never remove the post because of its age")


class JobRequest(WishRequest):
    """Posts to download in the background."""

    model_config = ConfigDict(strict=True)

    urls: list[str] = Field(
        min_length=1,
        max_length=MOST_URLS,
        description="The posts' URLs; an invalid one does not affect the others",
        examples=[["https://www.instagram.com/reel/SHORTCODE/"]],
    )
    keep: bool = Field(False, description="Never remove the posts because of their age")
    webhook: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_WEBHOOK_LENGTH,
        description="The URL to which the job is POSTed when it ends, signed according to "
        "Standard Webhooks; its host must be in WEBHOOK_HOSTS",
        examples=["https://n8n.example.com/webhook/posts"],
    )


class BulkRequest(BaseModel):
    """Stored posts to keep, to release or to delete."""

    model_config = ConfigDict(strict=True)

    shortcodes: list[str] = Field(
        min_length=1,
        max_length=MOST_SHORTCODES,
        description="The posts; one that fails does not affect the others",
        examples=[["SHORTCODE"]],
    )
    action: Literal["keep", "release", "delete"] = Field(
        description="Like PUT and DELETE of /posts/{shortcode}/keep, and DELETE /posts/{shortcode}"
    )


_GZIP = 16 + zlib.MAX_WBITS
_WINDOWS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}
# After a body that is wrong, nobody knows where the next request begins.
_CLOSE = {hdrs.CONNECTION: "close"}
Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: web.Request, model: type[Body]) -> Body:
    """The request's body as a *model*, whatever its ``Content-Type``.

    Raises:
        InvalidBody: the body does not fit the *model*, or is incomplete.
        web.HTTPRequestTimeout: the body did not come within ``CLIENT_TIMEOUT_SECONDS``.
    """
    return parse_body(await read_text(request), model)


def parse_body(body: bytes, model: type[Body]) -> Body:
    """A whole *body* as a *model*.

    Raises:
        InvalidBody: the body does not fit the *model*.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidBody(text=_explain(error)) from None


async def read_text(request: web.Request) -> bytes:
    """The request's body, whole.

    Raises:
        InvalidBody: the body is incomplete.
        web.HTTPRequestTimeout: the body did not come within ``CLIENT_TIMEOUT_SECONDS``.
    """
    try:
        if request.content.is_eof():
            # A timer would cost more than reading what has arrived already.
            return _unpacked(request, await request.read())
        async with asyncio.timeout(request.app[SETTINGS].client_timeout_seconds):
            return _unpacked(request, await request.read())
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="The body did not come in time", headers=_CLOSE) from None
    # The body is not what its headers say, or incomplete.
    except (web.RequestPayloadError, ConnectionError, zlib.error):
        raise InvalidBody(
            text="The body is incomplete, or not encoded as its headers say", headers=_CLOSE
        ) from None


def _unpacked(request: web.Request, body: bytes) -> bytes:
    """The *body* without the compression of its ``Content-Encoding``.

    aiohttp 3.14 would unpack the body as it comes, but never reports an error at its end.

    Raises:
        zlib.error: the body is not packed as its headers say.
        web.HTTPRequestEntityTooLarge: the unpacked body is larger than allowed.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding == "identity":
        return body
    window = _WINDOWS.get(encoding)
    if window is None:
        raise zlib.error("unknown encoding")
    if encoding == "deflate" and body[:1] and body[0] & 0xF != zlib.DEFLATED:
        # Some clients leave zlib's header out.
        window = -zlib.MAX_WBITS
    unpacking, most = zlib.decompressobj(window), request.client_max_size
    unpacked = unpacking.decompress(body, most + 1)
    if len(unpacked) > most:
        raise web.HTTPRequestEntityTooLarge(most, len(unpacked))
    if not unpacking.eof:
        raise zlib.error("incomplete")
    return unpacked


def _explain(error: ValidationError) -> str:
    """The first fault in *error*, without the value that caused it."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if not fault["loc"]:
        return "The body is not a JSON object"
    where = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}"
