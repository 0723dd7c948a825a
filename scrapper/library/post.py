"""The data model of a post and its media, which all other modules share."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

__all__ = [
    "MAX_MEGABYTES",
    "SMALL_BYTES",
    "SMALL_PIXELS",
    "Details",
    "Fetch",
    "MediaItem",
    "Music",
    "Post",
    "Preference",
    "Progress",
    "Quality",
    "cdn_expiry",
    "is_own_file",
    "moment",
]

Quality = Literal["compatible", "best"]

MAX_MEGABYTES = 1_000_000
"""The largest file size limit that a client can request, in millions of bytes."""

SMALL_BYTES, SMALL_PIXELS = 25_000, 320
"""The limits of a small picture: its size in bytes, and its shorter side in pixels."""

_WEB_FORMATS = (".jpg", ".png", ".webp", ".gif")
_UNSIGNED_LIFETIME = 24 * 60 * 60
_MANIFEST_VERSION = 1
_NUMBER = re.compile(r"_([0-9]{1,2})(?![0-9])")
_EXPIRY = re.compile(r"[?&]oe=([0-9A-Fa-f]{1,16})(?=[&#]|$)")
_NOT_IN_MANIFEST = ("added", "object_urls")
_LATEST_TIME = datetime.max.replace(tzinfo=UTC).timestamp() - 1
_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 60 * 60, 24 * 60 * 60
_MAX_DOUBLINGS = 5


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One file of a post.

    ``size`` is in bytes, ``width`` and ``height`` in pixels, ``duration`` in seconds, ``bit_rate``
    in bits per second; None means unknown. ``cdn_url`` is empty for a file made by a plugin.
    ``codec`` is ffprobe's name for the codec of the video or audio stream.
    """

    type: Literal["video", "image", "audio"]
    filename: str
    cdn_url: str
    size: int
    width: int | None
    height: int | None
    alt_text: str | None = None
    duration: float | None = None
    has_audio: bool | None = None
    codec: str | None = None
    bit_rate: int | None = None

    @property
    def is_light(self) -> bool:
        """Whether the file is a picture of at most 25 KB in a format that all browsers display."""
        is_web_format = self.filename.endswith(_WEB_FORMATS)
        return self.type == "image" and self.size <= SMALL_BYTES and is_web_format

    @property
    def is_small(self) -> bool:
        """Whether the file is light and its shorter side, if known, has at most 320 pixels."""
        sides = [side for side in (self.width, self.height) if side]
        return self.is_light and min(sides, default=0) <= SMALL_PIXELS


@dataclass(frozen=True, slots=True)
class Preference:
    """Which files of a post the client wants.

    ``quality`` is the quality of videos. ``max_bytes`` is the size limit of each file; None means
    no limit.
    """

    quality: Quality = "compatible"
    max_bytes: int | None = None

    @classmethod
    def stored(cls, quality: Any, max_bytes: Any) -> "Preference":
        """Return the preference stored in a manifest or job, or the default if an older release
        wrote it.
        """
        is_limit = isinstance(max_bytes, int) and max_bytes > 0
        return cls("best" if quality == "best" else "compatible", max_bytes if is_limit else None)


@dataclass(frozen=True, slots=True)
class Music:
    """The audio of a post: a song, or the owner's original audio.

    ``url`` is Instagram's URL of the audio. ``title`` is empty if only the URL is known.
    """

    title: str
    artist: str | None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What Instagram provides about a post besides its media; None means unknown or hidden."""

    owner_name: str | None = None
    owner_id: str | None = None
    coauthors: tuple[str, ...] = ()
    likes: int | None = None
    comments: int | None = None
    views: int | None = None
    location: str | None = None
    tagged: tuple[str, ...] = ()
    music: Music | None = None
    product_type: str | None = None

    @classmethod
    def from_manifest(cls, data: Any) -> "Details":
        """Read the details from a manifest; older manifests have none."""
        if data is None:
            return cls()
        music = data["music"]
        lists = {key: tuple(data[key]) for key in ("coauthors", "tagged")}
        return cls(**{**data, **lists, "music": Music(**music) if music else None})


@dataclass(frozen=True, slots=True)
class Post:
    """A downloaded post; ``media`` has at least one item, in Instagram's order.

    ``original_url`` is the URL of the request that downloaded the post. ``taken_at`` is the time of
    the post as RFC 3339 in UTC. ``thumbnail`` is the cover picture of a post whose main file is a
    video, and is not part of ``media``. ``small`` is a smaller copy of the post's picture, for
    lists. It is not part of ``media`` either, and is None if the picture itself is small.

    ``missing`` contains the numbers, from 1, of the carousel items that could not be downloaded.
    ``outdated`` contains the numbers of the items whose files are from an earlier download, because
    the latest download did not get them. ``setbacks`` is the number of consecutive incomplete
    downloads before the latest one. If the shortcode is not the post's own but that of a carousel
    item, ``named_item`` is the item's number. ``quality`` and ``max_bytes`` are the requested
    values, except that ``max_bytes`` is None if no file was skipped because of it.

    ``added`` lists files made by plugins, and ``object_urls`` maps filenames to the URLs of their
    copies. The manifest contains neither.
    """

    shortcode: str
    description: str
    owner: str | None
    taken_at: str | None
    original_url: str
    media: tuple[MediaItem, ...]
    thumbnail: MediaItem | None = None
    missing: tuple[int, ...] = ()
    details: Details = Details()
    outdated: tuple[int, ...] = ()
    setbacks: int = 0
    named_item: int | None = None
    small: MediaItem | None = None
    quality: Quality = "compatible"
    max_bytes: int | None = None
    added: tuple[MediaItem, ...] = ()
    object_urls: Mapping[str, str] = field(default_factory=dict)

    @property
    def items(self) -> tuple[MediaItem, ...]:
        """The post's media in Instagram's order, then the files added by plugins."""
        return (*self.media, *self.added)

    @property
    def files(self) -> tuple[MediaItem, ...]:
        """All files of the post: its items, its thumbnail, and its small picture."""
        return (*self.items, *filter(None, (self.thumbnail, self.small)))

    @property
    def lead(self) -> MediaItem:
        """The item that represents the post in lists.

        It is the item that the shortcode identifies, or else the first one. An item added by a
        plugin never represents the post.
        """
        return self._named_or(self.media[0])

    @property
    def picture(self) -> MediaItem | None:
        """The picture that represents the post in lists.

        It is the lead item if that is a picture, or else the cover, if there is one.
        """
        return self.lead if self.lead.type == "image" else self.thumbnail

    @property
    def listed_picture(self) -> MediaItem | None:
        """The picture for lists; None if the post has no picture of at most 25 KB.

        The small picture takes precedence over the others.
        """
        pictures = filter(None, (self.small, self.picture, self.thumbnail))
        return next((picture for picture in pictures if picture.is_light), None)

    @property
    def main(self) -> MediaItem:
        """The first video, or the first item if there is no video."""
        return next((item for item in self.media if item.type == "video"), self.media[0])

    @property
    def kind(self) -> Literal["video", "image", "carousel"]:
        """The type of the post: a carousel, or the type of its only item."""
        if len(self.media) + len(self.missing) > 1:
            return "carousel"
        return "video" if self.main.type == "video" else "image"

    @property
    def named(self) -> MediaItem:
        """The item that the shortcode identifies, or else the main item."""
        return self._named_or(self.main)

    def _named_or(self, default: MediaItem) -> MediaItem:
        named = (item for item in self.media if self.number_of(item) == self.named_item)
        return next(named, default)

    def fresh_until(self, fetched_at: float) -> float:
        """Return the time until which the post, downloaded at *fetched_at*, stays fresh.

        Both are Unix times. A post is fresh until the first of its signed CDN URLs expires. A URL
        without an expiry time is assumed to expire after a day. An incomplete post is fresh for at
        most an hour, because the missing items may be available later. Each further incomplete
        download doubles this limit, up to a day.
        """
        recent = self._recent
        if not all(item.cdn_url for item in recent):
            # Files of release 0.2.0 have no URL.
            return 0.0
        ends = [cdn_expiry(item.cdn_url) or fetched_at + _UNSIGNED_LIFETIME for item in recent]
        if self.missing or self.outdated:
            delay = _FIRST_RETRY_SECONDS * 2 ** min(self.setbacks, _MAX_DOUBLINGS)
            ends.append(fetched_at + min(delay, _MAX_RETRY_SECONDS))
        return min(ends)

    def satisfies(self, preference: Preference) -> bool:
        """Return whether the stored files satisfy *preference*, so that no new download is needed.

        Pictures satisfy any quality. Videos of the quality ``best`` satisfy ``compatible`` if they
        are H.264. Files kept from an earlier download are ignored.
        """
        if not self.fits(preference.max_bytes):
            return False
        if self.max_bytes is not None and self.max_bytes < (preference.max_bytes or sys.maxsize):
            return False
        videos = [item for item in self._recent if item.type == "video"]
        if not videos or preference.quality == self.quality:
            return True
        return self.quality == "best" and all(item.codec in (None, "h264") for item in videos)

    def fits(self, max_bytes: int | None) -> bool:
        """Return whether each file of the last download has at most *max_bytes* bytes.

        If *max_bytes* is None, there is no limit.
        """
        return max_bytes is None or all(item.size <= max_bytes for item in self._recent)

    def within(self, max_bytes: int | None) -> "Post":
        """Return the post without files of an earlier download that are larger than *max_bytes*.

        The files stay on the disk for requests that allow their size.
        """
        old = [item for item in self.media if self.number_of(item) in self.outdated]
        large = [item for item in old if item.size > (max_bytes or sys.maxsize)]
        if not large or len(large) == len(self.media):
            return self
        numbers = {self.number_of(item) for item in large}
        return replace(
            self,
            media=tuple(item for item in self.media if item not in large),
            missing=tuple(sorted({*self.missing, *numbers})),
            outdated=tuple(number for number in self.outdated if number not in numbers),
        )

    @property
    def _recent(self) -> Sequence[MediaItem]:
        """The files of the last download."""
        return [item for item in self.media if self.number_of(item) not in self.outdated]

    @property
    def taken_time(self) -> float | None:
        """``taken_at`` as a Unix time; None if unknown."""
        try:
            return datetime.fromisoformat(self.taken_at or "").timestamp()
        except (TypeError, ValueError, OverflowError):
            return None

    def item(self, number: int) -> MediaItem | None:
        """Return an item by its number, from 1; None if the item is missing or does not exist.

        Missing items keep their numbers. Items added by plugins come after all others.
        """
        index = number - 1 - sum(lost < number for lost in self.missing)
        return None if number in self.missing else next(iter(self.items[index : index + 1]), None)

    def number_of(self, item: MediaItem) -> int:
        """Return the number, from 1, of the file's carousel item; 1 if the filename has none."""
        found = _NUMBER.match(item.filename.removeprefix(self.shortcode))
        return int(found[1]) if found else 1

    def filled_from(self, old: "Post") -> "Post":
        """Return the post, with missing files taken from *old*, an earlier download.

        If the two posts have different numbers of items, the post was edited on Instagram between
        the downloads. In that case, no file is taken from *old*.
        """
        is_incomplete = bool(self.missing or self.outdated)
        was_incomplete = bool(old.missing or old.outdated)
        setbacks = old.setbacks + 1 if is_incomplete and was_incomplete else 0
        post = replace(self, setbacks=setbacks)
        if len(old.media) + len(old.missing) != len(self.media) + len(self.missing):
            return post
        kept = [item for item in old.media if old.number_of(item) in self.missing]
        numbers = {old.number_of(item) for item in kept}
        media = tuple(sorted((*self.media, *kept), key=self.number_of))
        has_video = any(item.type == "video" for item in media)
        return replace(
            post,
            media=media,
            thumbnail=self.thumbnail or (old.thumbnail if has_video else None),
            missing=tuple(number for number in self.missing if number not in numbers),
            outdated=tuple(sorted(numbers)),
        )

    def to_manifest(self) -> dict[str, Any]:
        """Return the post as JSON data, which :meth:`from_manifest` reads."""
        values = {
            name: value for name, value in asdict(self).items() if name not in _NOT_IN_MANIFEST
        }
        return {"version": _MANIFEST_VERSION, **values}

    @classmethod
    def from_manifest(cls, data: Any) -> "Post":
        """Parse the output of :meth:`to_manifest`.

        Raises:
            ValueError: *data* is not a manifest.
        """
        try:
            preference = Preference.stored(data.get("quality"), data.get("max_bytes"))
            if data["version"] != _MANIFEST_VERSION:
                raise ValueError(f"unknown manifest version {data['version']!r}")
            thumbnail, small = data.get("thumbnail"), data.get("small")
            post = cls(
                shortcode=data["shortcode"],
                description=data["description"],
                owner=data["owner"],
                taken_at=data["taken_at"],
                original_url=data["original_url"],
                media=tuple(MediaItem(**item) for item in data["media"]),
                thumbnail=MediaItem(**thumbnail) if thumbnail else None,
                missing=tuple(data.get("missing", ())),
                details=Details.from_manifest(data.get("details")),
                outdated=tuple(data.get("outdated", ())),
                setbacks=int(data.get("setbacks", 0)),
                named_item=data.get("named_item"),
                small=MediaItem(**small) if small else None,
                quality=preference.quality,
                max_bytes=preference.max_bytes,
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("not a manifest") from error
        if not post.media or not all(
            is_own_file(file.filename, post.shortcode) for file in post.files
        ):
            raise ValueError("no media, or media of another post")
        return post


@dataclass(slots=True)
class Progress:
    """The progress of a download in bytes, updated by the thread that downloads.

    ``total`` is the sum of the file sizes known so far; None if no size is known yet.
    """

    done: int = 0
    total: int | None = None

    def expect(self, size: int) -> None:
        """Add a file of *size* bytes to the total."""
        self.total = (self.total or 0) + size


@dataclass(frozen=True, slots=True)
class Fetch:
    """A post to download; ``url`` is what the client sent, and ``deadline`` is a monotonic time."""

    shortcode: str
    url: str
    deadline: float
    progress: Progress = field(default_factory=Progress)
    preference: Preference = Preference()

    @property
    def seconds_left(self) -> float:
        """The seconds until the deadline; negative once it has passed."""
        return self.deadline - time.monotonic()


def is_own_file(filename: str, shortcode: str) -> bool:
    """Return whether *filename* is a valid name for a file in the post's folder."""
    return filename.startswith(shortcode) and "/" not in filename


def moment(seconds: float) -> str:
    """Format a Unix time as RFC 3339 in UTC; a time after the year 9999 becomes the end of 9999."""
    return f"{datetime.fromtimestamp(min(seconds, _LATEST_TIME), UTC):%Y-%m-%dT%H:%M:%SZ}"


def cdn_expiry(url: str) -> int | None:
    """Return the Unix time at which a signed CDN URL expires; None if it has no expiry time.

    The expiry time is the hexadecimal parameter ``oe`` in the URL's query.
    """
    found = _EXPIRY.search(url)
    return int(found[1], 16) if found else None
