"""The JSON of a post, as clients receive it.

The OpenAPI description is generated from these field names, types and descriptions.
"""

import secrets
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import ConfigDict, Field

from scrapper.library.post import Details, MediaItem, Post, moment

__all__ = ["MediaFile", "PostResponse", "RenderedPost", "picture_version"]

_OBJECT_URL = "URL of the copy that the s3 plugin made"
_CLOSED = ConfigDict(extra="forbid")
# A placeholder for the request's URL. It is random, so that no caption can contain it.
_URL_MARK = secrets.token_hex(16)
_END = b'"expires_at":%b,"kept":%b,"cached":%b,"stale":%b}'
_BOOLEANS = (b"false", b"true")


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A stored file."""

    __pydantic_config__ = _CLOSED

    type: Literal["video", "image", "audio"]
    path: Annotated[str, Field(description="Path of the file on the server's disk")]
    url: Annotated[str, Field(description="Path of the file in this API")]
    cdn_url: Annotated[
        str | None,
        Field(
            description="Instagram's signed URL, valid for a few days; "
            "null for a file made by a plugin"
        ),
    ]
    object_url: Annotated[str | None, Field(description=_OBJECT_URL)]
    size: Annotated[int, Field(ge=1, description="Bytes")]
    width: Annotated[int | None, Field(description="Pixels")]
    height: Annotated[int | None, Field(description="Pixels")]
    alt_text: str | None
    duration: Annotated[float | None, Field(description="Seconds")]
    has_audio: bool | None
    codec: Annotated[
        str | None, Field(description="Codec of the video or audio, such as h264, vp9, av1 or aac")
    ]
    bit_rate: Annotated[int | None, Field(description="Bits per second")]


@dataclass(frozen=True, slots=True)
class PostResponse:
    """A stored post."""

    __pydantic_config__ = _CLOSED

    shortcode: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{5,64}$")]
    video: Annotated[str | None, Field(description="Path of the first video on the server's disk")]
    description: Annotated[str, Field(description="The caption; empty if the post has none")]
    cdn_url: Annotated[str, Field(description="Instagram's URL of the main file")]
    object_url: Annotated[str | None, Field(description=_OBJECT_URL)]
    original_url: Annotated[str, Field(description="The URL that was requested")]
    media: Annotated[
        list[MediaFile],
        Field(
            min_length=1,
            description="The post's files in Instagram's order, then those made by plugins",
        ),
    ]
    thumbnail: Annotated[MediaFile | None, Field(description="Cover of the first video")]
    thumbnail_url: Annotated[
        str | None,
        Field(
            description="Path, in this API, of a small picture of the post for lists. The path "
            "changes when the picture does. Null if there is no small picture"
        ),
    ]
    owner: str | None
    taken_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    missing: Annotated[
        tuple[int, ...],
        Field(description="Numbers of the carousel's items that could not be downloaded"),
    ]
    details: Details
    stored_at: Annotated[
        str,
        Field(
            description="When the service last downloaded and stored the post",
            json_schema_extra={"format": "date-time"},
        ),
    ]
    expires_at: Annotated[
        str | None,
        Field(
            description="The time after which a sweep may remove the post; null means never",
            json_schema_extra={"format": "date-time"},
        ),
    ]
    kept: Annotated[bool, Field(description="Whether the post is exempt from removal by age")]
    cached: Annotated[bool, Field(description="Whether the post came from disk")]
    stale: Annotated[
        bool,
        Field(
            description="Whether the post came from disk even though it was due for a new "
            "download, because a signed URL had expired or items were missing"
        ),
    ]


@dataclass(frozen=True, slots=True)
class RenderedPost:
    """The parts of a :class:`PostResponse`'s JSON that do not depend on the request."""

    before_url: bytes
    after_url: bytes

    @property
    def size(self) -> int:
        """The approximate memory use of the JSON and its post, in bytes."""
        return 3 * (len(self.before_url) + len(self.after_url))

    @classmethod
    def of(cls, post: Post, root: Path, stored_at: float = 0.0) -> "RenderedPost":
        """Render *post*, whose files are in *root*/shortcode; *stored_at* is a Unix time."""
        folder = f"{root}/{post.shortcode}"
        main = post.main

        def file(item: MediaItem) -> MediaFile:
            path, url = f"{folder}/{item.filename}", f"/media/{post.shortcode}/{item.filename}"
            return MediaFile(
                path=path,
                url=url,
                cdn_url=item.cdn_url or None,
                object_url=post.object_urls.get(item.filename),
                **{name: getattr(item, name) for name in _SHARED},
            )

        response = PostResponse(
            shortcode=post.shortcode,
            video=f"{folder}/{main.filename}" if main.type == "video" else None,
            description=post.description,
            cdn_url=main.cdn_url,
            object_url=post.object_urls.get(main.filename),
            original_url=_URL_MARK,
            media=[file(item) for item in post.items],
            thumbnail=file(post.thumbnail) if post.thumbnail else None,
            thumbnail_url=_thumbnail_url(post, stored_at),
            owner=post.owner,
            taken_at=post.taken_at,
            missing=post.missing,
            details=post.details,
            stored_at=moment(stored_at),
            expires_at=None,
            kept=False,
            cached=False,
            stale=False,
        )
        before, after = orjson.dumps(response).split(b'"%b"' % _URL_MARK.encode())
        return cls(before, after.removesuffix(_END % (b"null", b"false", b"false", b"false")))

    def to_json(
        self,
        *,
        original_url: str,
        kept: bool,
        cached: bool,
        stale: bool = False,
        expires_at: float | None = None,
        prefix: str = "",
    ) -> bytes:
        """Return the whole response as UTF-8 JSON.

        *expires_at* is a Unix time. *prefix* is prepended to the files' URLs.
        """
        expires = b"null" if expires_at is None else b'"%b"' % moment(expires_at).encode()
        end = _END % (expires, _BOOLEANS[kept], _BOOLEANS[cached], _BOOLEANS[stale])
        after = self.after_url
        if prefix:
            # A caption cannot match, because its quotes are escaped.
            for key, path in ((b"url", b"/media/"), (b"thumbnail_url", b"/posts/")):
                start = b'"%b":"' % key
                after = after.replace(start + path, start + prefix.encode() + path)
        return b"%b%b%b%b" % (self.before_url, orjson.dumps(original_url), after, end)


def picture_version(picture: MediaItem, stored_at: float) -> str:
    """Return the version of *picture* in a post that was stored at the Unix time *stored_at*."""
    return f"{stored_at * 1e6:.0f}-{picture.size}"


def _thumbnail_url(post: Post, stored_at: float) -> str | None:
    picture = post.listed_picture
    if picture is None:
        return None
    return f"/posts/{post.shortcode}/thumbnail?v={picture_version(picture, stored_at)}"


_SHARED = {field.name for field in fields(MediaFile)} & {
    field.name for field in fields(MediaItem)
} - {"cdn_url"}
