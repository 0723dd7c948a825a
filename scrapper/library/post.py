"""A post and its media: the data that all other modules work with."""

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
    "Progress",
    "Quality",
    "Wish",
    "cdn_expiry",
    "is_own_file",
    "moment",
]

Quality = Literal["compatible", "best"]

MAX_MEGABYTES = 1_000_000
"""The largest bound for a file's size that can be asked for, in millions of bytes."""

SMALL_BYTES, SMALL_PIXELS = 25_000, 320
"""The limits of a small picture: its bytes, and the pixels of its shorter side."""

_SHOWN = (".jpg", ".png", ".webp", ".gif")
_UNSIGNED_LIFETIME = 24 * 60 * 60
_MANIFEST_VERSION = 1
_NUMBER = re.compile(r"_([0-9]{1,2})(?![0-9])")
_EXPIRY = re.compile(r"[?&]oe=([0-9A-Fa-f]{1,16})(?=[&#]|$)")
_ADDED = ("added", "object_urls")
_LATEST = datetime.max.replace(tzinfo=UTC).timestamp() - 1
_FIRST_PAUSE, _MAX_PAUSE = 60 * 60, 24 * 60 * 60
_MAX_DOUBLINGS = 5


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One file of a post.

    ``size`` is in bytes, ``width`` and ``height`` in pixels, ``duration`` in seconds; None if
    Instagram does not say. ``cdn_url`` is empty for a file that a plugin made. ``codec`` is that of
    the video or sound itself, by ffprobe's name; ``bit_rate`` is in bits per second.
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
        """Whether the file is a picture of at most 25 KB, of a kind that every browser shows."""
        is_shown = self.filename.endswith(_SHOWN)
        return self.type == "image" and self.size <= SMALL_BYTES and is_shown

    @property
    def is_small(self) -> bool:
        """Whether the file is light, with at most 320 pixels on its shorter side, if known."""
        sides = [side for side in (self.width, self.height) if side]
        return self.is_light and min(sides, default=0) <= SMALL_PIXELS


@dataclass(frozen=True, slots=True)
class Wish:
    """Which files of a post are wanted: the *quality* of videos, and *max_bytes* for each file."""

    quality: Quality = "compatible"
    max_bytes: int | None = None

    @classmethod
    def stored(cls, quality: Any, max_bytes: Any) -> "Wish":
        """The wish as stored in a manifest or a job; the default if an older one has none."""
        known = isinstance(max_bytes, int) and max_bytes > 0
        return cls("best" if quality == "best" else "compatible", max_bytes if known else None)


@dataclass(frozen=True, slots=True)
class Music:
    """The sound of a post: a song, or the owner's own. ``url`` is Instagram's URL of it.

    ``title`` is empty if only the URL is known.
    """

    title: str
    artist: str | None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """Instagram's details of a post besides its media; None if unknown or hidden."""

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
    """A downloaded post; ``media`` holds at least one item, in Instagram's order.

    ``original_url`` is the URL that was first asked for, ``taken_at`` the time of the post in UTC,
    RFC 3339. ``thumbnail`` is the cover picture of a post whose main file is a video; it is not one
    of the ``media``. ``missing`` are the numbers, from 1, of a carousel's items that could not be
    downloaded. ``outdated`` are those whose file is of an earlier download, because the last one
    could not get them. ``setbacks`` says how many downloads in a row, before the last one, were
    incomplete. ``named_item`` is the number of the item that the shortcode names, if it is not the
    post's own. ``quality`` and ``max_bytes`` are what was asked for, the latter only if larger
    files were passed over because of it.

    ``small`` is a smaller copy of the post's picture, for lists; it is not one of the ``media``
    either, and a post whose picture is small has none.

    ``added`` are files that plugins made, and ``object_urls`` the addresses of copies, by the
    file's name. The manifest holds neither.
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
        """The post's media, in Instagram's order, then what plugins added."""
        return (*self.media, *self.added)

    @property
    def files(self) -> tuple[MediaItem, ...]:
        """All files of the post: its items, its thumbnail, and its small picture."""
        return (*self.items, *filter(None, (self.thumbnail, self.small)))

    @property
    def lead(self) -> MediaItem:
        """The item that represents the post in a list: the one that its shortcode names, or the
        first; never one that a plugin added.
        """
        return self._named_or(self.media[0])

    @property
    def picture(self) -> MediaItem | None:
        """The picture that represents the post: its lead, or else the cover of its first video."""
        return self.lead if self.lead.type == "image" else self.thumbnail

    @property
    def listed_picture(self) -> MediaItem | None:
        """The picture for lists: the small picture, or another one of at most 25 KB."""
        pictures = filter(None, (self.small, self.picture, self.thumbnail))
        return next((one for one in pictures if one.is_light), None)

    @property
    def main(self) -> MediaItem:
        """The first video, or the first item of a post without one."""
        return next((item for item in self.media if item.type == "video"), self.media[0])

    @property
    def kind(self) -> Literal["video", "image", "carousel"]:
        """What the post is: a carousel, or what its one item is."""
        if len(self.media) + len(self.missing) > 1:
            return "carousel"
        return "video" if self.main.type == "video" else "image"

    @property
    def named(self) -> MediaItem:
        """The item that the shortcode names, or else the main one."""
        return self._named_or(self.main)

    def _named_or(self, otherwise: MediaItem) -> MediaItem:
        named = (item for item in self.media if self.number_of(item) == self.named_item)
        return next(named, otherwise)

    def fresh_until(self, fetched_at: float) -> float:
        """Unix time until which the post, downloaded at *fetched_at*, stays fresh.

        That is when the first of its signed CDN URLs expires; one without an expiry counts
        for a day. A post that lacks something is fresh for an hour, and for twice as long each
        time that it still does, up to a day: Instagram may give the rest then.
        """
        recent = self._recent
        if not all(item.cdn_url for item in recent):
            # Files of release 0.2.0 have no URL.
            return 0.0
        ends = [cdn_expiry(item.cdn_url) or fetched_at + _UNSIGNED_LIFETIME for item in recent]
        if self.missing or self.outdated:
            pause = _FIRST_PAUSE * 2 ** min(self.setbacks, _MAX_DOUBLINGS)
            ends.append(fetched_at + min(pause, _MAX_PAUSE))
        return min(ends)

    def satisfies(self, wish: Wish) -> bool:
        """Whether the post need not be fetched again for the sake of *wish*.

        Pictures satisfy any quality, and the best satisfies all if it is H.264. Files that had to
        be kept from an earlier download are ignored.
        """
        if not self.fits(wish.max_bytes):
            return False
        if self.max_bytes is not None and self.max_bytes < (wish.max_bytes or sys.maxsize):
            return False
        videos = [item for item in self._recent if item.type == "video"]
        if not videos or wish.quality == self.quality:
            return True
        return self.quality == "best" and all(item.codec in (None, "h264") for item in videos)

    def fits(self, max_bytes: int | None) -> bool:
        """Whether each file of the last download is at most *max_bytes* large; None: any size."""
        return max_bytes is None or all(item.size <= max_bytes for item in self._recent)

    def within(self, max_bytes: int | None) -> "Post":
        """The post without those files of an earlier download that are larger than *max_bytes*.

        They stay stored for requests without such a bound.
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
        """``taken_at`` as unix time."""
        try:
            return datetime.fromisoformat(self.taken_at or "").timestamp()
        except (TypeError, ValueError, OverflowError):
            return None

    def item(self, number: int) -> MediaItem | None:
        """The item with that *number*, from 1; None if it is missing, or does not exist.

        Missing ones keep their numbers, and what plugins added comes after the last one.
        """
        index = number - 1 - sum(lost < number for lost in self.missing)
        return None if number in self.missing else next(iter(self.items[index : index + 1]), None)

    def number_of(self, item: MediaItem) -> int:
        """The number, from 1, of the carousel's item that a file belongs to; else 1."""
        found = _NUMBER.match(item.filename.removeprefix(self.shortcode))
        return int(found[1]) if found else 1

    def filled_from(self, old: "Post") -> "Post":
        """The post with the files of *old*, an earlier download, that it lacks.

        If the numbers of items differ, an item was removed meanwhile, so nothing is taken.
        """
        lacks = bool(self.missing or self.outdated)
        again = bool(old.missing or old.outdated)
        post = replace(self, setbacks=old.setbacks + 1 if lacks and again else 0)
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
        """The post as JSON data, for :meth:`from_manifest` to read."""
        values = {name: value for name, value in asdict(self).items() if name not in _ADDED}
        return {"version": _MANIFEST_VERSION, **values}

    @classmethod
    def from_manifest(cls, data: Any) -> "Post":
        """Read what :meth:`to_manifest` wrote.

        Raises:
            ValueError: *data* is something else.
        """
        try:
            wish = Wish.stored(data.get("quality"), data.get("max_bytes"))
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
                quality=wish.quality,
                max_bytes=wish.max_bytes,
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
    """The progress of a download in bytes; written by the thread that downloads.

    ``total`` grows with each file whose length the CDN gives, and is None before the first.
    """

    done: int = 0
    total: int | None = None

    def expect(self, size: int) -> None:
        """Add a file of *size* bytes to the total."""
        self.total = (self.total or 0) + size


@dataclass(frozen=True, slots=True)
class Fetch:
    """A post to download: its *url* as the client sent it, and the monotonic *deadline*."""

    shortcode: str
    url: str
    deadline: float
    progress: Progress = field(default_factory=Progress)
    wish: Wish = Wish()

    @property
    def seconds_left(self) -> float:
        """The seconds until the deadline; negative once it passed."""
        return self.deadline - time.monotonic()


def is_own_file(filename: str, shortcode: str) -> bool:
    """Whether a file of the post, in its folder, may have this *filename*."""
    return filename.startswith(shortcode) and "/" not in filename


def moment(seconds: float) -> str:
    """A unix time in RFC 3339, in UTC; times beyond its range become the last in it."""
    return f"{datetime.fromtimestamp(min(seconds, _LATEST), UTC):%Y-%m-%dT%H:%M:%SZ}"


def cdn_expiry(url: str) -> int | None:
    """Unix time at which a signed CDN URL expires: its query's ``oe``, in hex; else None."""
    found = _EXPIRY.search(url)
    return int(found[1], 16) if found else None
