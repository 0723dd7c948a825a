"""Extracts a post's details, and the URLs of its files, from Instagram's media objects.

Only this module depends on the fields of these objects (as captured in October 2026). Any field can
be null, missing or of another type. Therefore, a file counts as missing only if it has no media
URL.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import structlog

from scrapper.instagram.files.dash import Representation, read_manifest
from scrapper.instagram.safe_json import as_dict, as_list, as_text
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.verdict import Reason, Refused
from scrapper.library.post import SMALL_PIXELS, Details, Music, moment

Kind = Literal["video", "image"]

__all__ = [
    "CAROUSEL",
    "MAX_ITEMS",
    "PICTURE",
    "VIDEO",
    "Candidate",
    "Description",
    "Item",
    "Kind",
    "belongs_to",
    "describe",
    "find_in_page",
    "ungated",
]

log = structlog.get_logger(__name__)

MAX_ITEMS = 20
"""The maximum number of items in a carousel on Instagram (2026)."""

PICTURE, VIDEO, CAROUSEL = 1, 2, 8
"""The values of ``media_type``."""

_GATE = "if_not_gated_logged_out"
_MAX_CHILDREN = 50
_MAX_CANDIDATES = 30
_MAX_URL = 4096
_MAX_PIXELS = 100_000
_MAX_CAPTION = 10_000
_MAX_TEXT = 2_000
_MAX_NAMES = 100
_MAX_SECONDS = 24 * 60 * 60
_MAX_COUNT = 2**53
_MAX_UNIX_TIME = 253_402_300_799
# A picture counts as small if its width is below this share of the original width. Instagram
# sometimes scales a picture down by only a few pixels.
_SMALL_SHARE = 0.9
_MAX_LARGER = 2
# The path of the web app's own pictures. One of them takes the place of a file that Instagram
# withholds.
_PLACEHOLDER = "/rsrc.php/"
_CROP = re.compile(r"[?&]stp=(?:[^?&]*_)?c\d")
_SONG_URLS = ("progressive_download_url", "fast_start_progressive_download_url")
# The box that the CDN scaled a picture to; used if a candidate has no size.
_SCALED = re.compile(r"[?&]stp=(?:[^?&]*_)?[ps](\d{2,5})x(\d{2,5})(?![^_&])")
_VIEWS = ("play_count", "view_count", "ig_play_count")
# Keys that only videos have. They identify a video without a type.
_VIDEO_KEYS = ("has_audio", "is_dash_eligible", "number_of_qualities", "video_duration")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One URL of a file, with the file's width and height in pixels if known.

    ``unreliable`` marks a URL that Instagram sent with ``http:``, as it does when it withholds a
    file. ``in_parts`` marks a video from a DASH manifest. If the manifest lists audio, ``sounds``
    has the URLs of audio files, best first, and the video must be joined with one of these files.
    """

    url: str
    width: int | None
    height: int | None
    unreliable: bool = False
    in_parts: bool = False
    sounds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a post: the URLs to download it from, best first.

    ``cover`` has the candidates for a video's cover picture. ``streams`` are the video and audio
    streams in a video's DASH manifest; a video without ``candidates`` has at least one video
    stream. ``duration`` is in seconds, and ``full_width`` is the width of the original in pixels.
    ``small`` is a thumbnail for lists, possibly cropped.
    """

    type: Kind
    candidates: tuple[Candidate, ...]
    cover: tuple[Candidate, ...] = ()
    alt_text: str | None = None
    duration: float | None = None
    has_audio: bool | None = None
    full_width: int | None = None
    small: Candidate | None = None
    streams: tuple[Representation, ...] = ()

    @property
    def is_small(self) -> bool:
        """Whether the item is a picture clearly smaller than the original."""
        if self.type != "image":
            return False
        width, full = self.candidates[0].width, self.full_width
        return width is not None and full is not None and width < _SMALL_SHARE * full

    def with_larger(self, other: "Item") -> "Item":
        """Return this item, with the best URLs of *other* first if *other* is a larger picture."""
        if not self.type == other.type == "image":
            return self
        ours, theirs = self.candidates[0].width, other.candidates[0].width
        if ours and theirs and theirs > ours:
            # Take only a few of the larger picture's URLs, to leave attempts for this item's own.
            return replace(self, candidates=other.candidates[:_MAX_LARGER] + self.candidates)
        return self


@dataclass(frozen=True, slots=True)
class Description:
    """A post as Instagram describes it. An item without a URL is None in ``items``.

    ``taken_at`` is the time of the post in UTC, in RFC 3339 format. If the requested shortcode
    belongs to an item rather than to the post, ``named_item`` is the number of that item, counting
    from 1. Otherwise, ``named_item`` is None. ``sources`` are the IDs of the queries that
    returned the data.
    """

    is_carousel: bool
    items: tuple[Item | None, ...]
    caption: str
    owner: str | None
    taken_at: str | None
    details: Details
    named_item: int | None = None
    sources: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether every item has a URL."""
        return None not in self.items

    @property
    def is_small(self) -> bool:
        """Whether any picture is clearly smaller than the original."""
        return any(item is not None and item.is_small for item in self.items)

    @property
    def summary(self) -> str:
        """The number of files of each kind, as in ``2 images, 1 video, 1 missing``."""
        names = [item.type if item else "missing" for item in self.items]
        counts = ((name, names.count(name)) for name in ("image", "video", "missing"))
        return ", ".join(
            f"{count} {name}{'s' if count > 1 and name != 'missing' else ''}"
            for name, count in counts
            if count
        )

    def filled_from(self, other: "Description") -> "Description":
        """Return a copy with missing items taken from *other*, which describes the same post.

        If only one of the two is a carousel, return its items: the other lacks its slides.
        """
        if self.is_carousel != other.is_carousel:
            carousel, single = (self, other) if self.is_carousel else (other, self)
            return carousel._with_items(single, carousel.items)
        pairs = zip_longest(self.items, other.items)
        return self._with_items(other, (ours or theirs for ours, theirs in pairs))

    def with_larger(self, other: "Description") -> "Description":
        """Return a copy with larger pictures taken from *other*, which describes the same post."""
        pairs = zip_longest(self.items, other.items[: len(self.items)])
        larger = ((ours and theirs and ours.with_larger(theirs)) or ours for ours, theirs in pairs)
        return self._with_items(other, larger)

    def _with_items(self, other: "Description", items: Iterable[Item | None]) -> "Description":
        return replace(self, items=tuple(items), sources=self.sources | other.sources)


def belongs_to(media: Any, shortcode: Shortcode) -> bool:
    """Return whether *media*, the answer to a query for the post, may be that post.

    If *media* has no usable ``code``, it counts as the post, because nothing suggests otherwise.
    """
    if not isinstance(media, dict):
        return False
    code = media.get("code")
    return not isinstance(code, str) or _includes(media, shortcode)


def ungated(wrapper: Any, shortcode: Shortcode) -> dict[str, Any]:
    """Return the media object that *wrapper* has for logged-out visitors.

    Raises:
        Refused: the post is gated, or the wrapper does not contain it.
    """
    if not isinstance(wrapper, dict) or _GATE not in wrapper:
        raise Refused(Reason.CHANGED)
    media = wrapper[_GATE]
    if media is None:
        raise Refused(Reason.GATED)
    if not belongs_to(media, shortcode):
        raise Refused(Reason.CHANGED)
    return dict(media)


def find_in_page(data: Any, shortcode: Shortcode) -> dict[str, Any] | None:
    """Return the post's media object from *data*, the JSON of a script in the post's page.

    A page also contains other posts by the owner, and stubs of the post without media. Return None
    if *data* contains only stubs of the post.

    Raises:
        Refused: the post is gated, or *data* does not contain it in a known form.
    """
    reasons, without_media = set(), []
    for value in _objects_in(data):
        media = value
        if _GATE in value and belongs_to(value, shortcode):
            try:
                media = ungated(value, shortcode)
            except Refused as refused:
                reasons.add(refused.reason)
                continue
        elif not _includes(value, shortcode):
            continue
        if _has_media(media):
            return media
        without_media.append(media)
    if Reason.GATED in reasons:
        raise Refused(Reason.GATED)
    if reasons or not without_media or not all(map(_is_stub, without_media)):
        raise Refused(Reason.CHANGED)
    return None


def describe(media: dict[str, Any], shortcode: Shortcode) -> Description:
    """Return a description of the post *shortcode* from *media*, its media object.

    Raises:
        Refused: the object is of an unknown type, has more than 50 items, or has no URL at all.
    """
    kind = media.get("media_type")
    if type(kind) is int and kind not in (PICTURE, VIDEO, CAROUSEL):
        log.warning("unknown media type", media_type=kind)
        raise Refused(Reason.CHANGED)
    children = as_list(media.get("carousel_media"))
    announced = _count(media.get("carousel_media_count")) or 0
    # Without its type and its slides, a carousel would look like the picture of its cover.
    is_carousel = kind == CAROUSEL or bool(children) or (type(kind) is not int and announced > 1)
    if len(children) > _MAX_CHILDREN:
        log.warning("carousel too large", items=len(children))
        raise Refused(Reason.CHANGED)
    items = [_item(child) for child in children] if is_carousel else [_item(media)]
    if is_carousel:
        items += [None] * (min(announced, MAX_ITEMS) - len(items))
    if not any(items):
        withheld = any(map(_is_withheld, children or [media]))
        raise Refused(Reason.GATED if withheld else Reason.CHANGED)
    user = as_dict(media.get("user")) or as_dict(media.get("owner"))
    return Description(
        is_carousel=is_carousel,
        items=tuple(items),
        caption=_caption(media),
        owner=_text(user.get("username")),
        taken_at=_moment(media.get("taken_at")),
        details=_details(media, user, children),
        named_item=None if _has_code(media, shortcode) else _slide(children, shortcode),
    )


def _includes(media: dict[str, Any], shortcode: Shortcode) -> bool:
    """Return whether *media* is the post, or a carousel that has a slide with this shortcode."""
    slides = as_list(media.get("carousel_media"))
    return _has_code(media, shortcode) or _slide(slides, shortcode) is not None


def _has_code(media: dict[str, Any], shortcode: Shortcode) -> bool:
    if media.get("code") in (shortcode.code, shortcode.text):
        return True
    media_id = shortcode.media_id
    return media.get("pk") in (media_id, str(media_id))


def _slide(slides: Sequence[Any], shortcode: Shortcode) -> int | None:
    """Return the number, from 1, of the slide with this shortcode, or None if there is none."""
    numbered = enumerate(map(as_dict, slides), start=1)
    return next((number for number, slide in numbered if _has_code(slide, shortcode)), None)


def _is_withheld(media: Any) -> bool:
    """Return whether a URL of the file was replaced by a placeholder."""
    media = as_dict(media)
    versions = (*as_list(media.get("video_versions")), *as_list(_pictures(media)))
    return any(_PLACEHOLDER in as_text(as_dict(version).get("url")) for version in versions)


def _has_media(media: dict[str, Any]) -> bool:
    versions = (media.get("video_versions"), media.get("carousel_media"), _pictures(media))
    return any(as_list(version) for version in versions) or bool(media.get("video_dash_manifest"))


def _is_stub(media: dict[str, Any]) -> bool:
    """Return whether *media* is a stub, rather than a post whose media are in an unknown form.

    In the captures of October 2026, stubs have no time of publication either.
    """
    pictures = media.get("image_versions2")
    pictures = as_dict(pictures).get("candidates", pictures)
    keys = ("video_versions", "carousel_media", "video_dash_manifest")
    return not (pictures or any(media.get(key) for key in keys) or media.get("taken_at"))


def _objects_in(data: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in JSON *data*, outer objects first, without recursion."""
    stack = [data]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))


def _item(media: Any) -> Item | None:
    media = as_dict(media)
    videos, pictures = _candidates(media.get("video_versions")), _candidates(_pictures(media))
    if not (videos or _is_video(media)):
        candidates = _sized(pictures, media)
        width = _pixels(media.get("original_width"))
        item = Item(
            "image",
            candidates,
            alt_text=_alt_text(media),
            full_width=width,
            small=_small(_pictures(media)),
        )
        return item if candidates else None
    streams = tuple(_streams(media))
    if not (videos or any(stream.type == "video" for stream in streams)):
        # There may be a cover, but saving it instead of the video would hide the failure.
        return None
    has_audio = media.get("has_audio")
    return Item(
        "video",
        # Don't assume the original's size: the file may be smaller than a stream in the manifest.
        tuple(videos),
        cover=_sized(pictures, media),
        alt_text=_alt_text(media),
        duration=_seconds(media.get("video_duration")),
        has_audio=has_audio if isinstance(has_audio, bool) else None,
        streams=streams,
        small=_small(_pictures(media)),
    )


def _streams(media: dict[str, Any]) -> Iterator[Representation]:
    """Yield the usable streams in the DASH manifest, or nothing if the manifest is unreadable."""
    text = media.get("video_dash_manifest")
    if not isinstance(text, str) or not text.strip():
        return
    try:
        found = read_manifest(text)
    except ValueError as error:
        log.warning("manifest not read", cause=str(error))
        return
    for stream in found:
        url, unreliable = _checked_url(stream.url)
        if url and not unreliable:
            yield stream


def _is_video(media: dict[str, Any]) -> bool:
    kind = media.get("media_type")
    if kind in (PICTURE, VIDEO) and not isinstance(kind, bool):
        return bool(kind == VIDEO)
    type_name = as_text(media.get("__typename"))
    return "Video" in type_name or any(key in media for key in _VIDEO_KEYS)


def _pictures(media: dict[str, Any]) -> Any:
    return as_dict(media.get("image_versions2")).get("candidates")


def _small(versions: Any) -> Candidate | None:
    """Return the best thumbnail among *versions*: the largest of at most 320 by 320 pixels.

    If no version is that small, as with tall pictures, return the smallest version whose shorter
    side is at most 320 pixels, or None if there is none.
    """
    sizes = {one: _size(one) for one in _candidates(versions, crops=True)}
    fitting = {one: size for one, size in sizes.items() if size and min(size) <= SMALL_PIXELS}

    def rank(one: Candidate) -> int:
        longer = max(fitting[one])
        return longer if longer <= SMALL_PIXELS else -longer

    return max(fitting, key=rank, default=None)


def _size(candidate: Candidate) -> tuple[int, int] | None:
    """Return the width and height of *candidate*, or None if they are unknown.

    If the candidate has no size, use the one in its URL, which is the size of the picture after the
    CDN scaled it.
    """
    if candidate.width and candidate.height:
        return candidate.width, candidate.height
    scaled = _SCALED.search(candidate.url)
    return (int(scaled[1]), int(scaled[2])) if scaled else None


def _candidates(versions: Any, *, crops: bool = False) -> list[Candidate]:
    """Return the usable candidates among *versions*, best first.

    Placeholders are left out, and so are cropped pictures unless *crops* is true. If all candidates
    have a size, they are sorted by size. Otherwise, they keep Instagram's order. In a carousel,
    versions have no sizes, and the first version is the uncropped picture.
    """
    found: dict[str, Candidate] = {}
    for version in map(as_dict, as_list(versions)[:_MAX_CANDIDATES]):
        url, unreliable = _checked_url(version.get("url"))
        if url and (crops or not _CROP.search(url)):
            width, height = _pixels(version.get("width")), _pixels(version.get("height"))
            found.setdefault(url, Candidate(url, width, height, unreliable=unreliable))
    candidates = list(found.values())
    if all(candidate.width and candidate.height for candidate in candidates):
        candidates.sort(key=lambda one: (one.width or 0) * (one.height or 0), reverse=True)
    return sorted(candidates, key=lambda one: one.unreliable)


def _checked_url(url: Any) -> tuple[str | None, bool]:
    """Return two values: *url* with ``https:`` (None if unusable), and whether it had ``http:``."""
    if not isinstance(url, str) or len(url) > _MAX_URL or not url.isprintable():
        return None, False
    secure = re.sub("^http://", "https://", url)
    usable = secure.startswith("https://") and _PLACEHOLDER not in secure
    return secure if usable else None, secure != url


def _sized(candidates: Sequence[Candidate], media: dict[str, Any]) -> tuple[Candidate, ...]:
    """Return *candidates*, giving the first one the original's size if it has none."""
    if not candidates or (candidates[0].width and candidates[0].height):
        return tuple(candidates)
    width, height = _pixels(media.get("original_width")), _pixels(media.get("original_height"))
    return (replace(candidates[0], width=width, height=height), *candidates[1:])


def _details(media: dict[str, Any], user: dict[str, Any], children: Sequence[Any]) -> Details:
    hidden = media.get("like_and_view_counts_disabled") is True
    views = next(filter(None, (_count(media.get(key)) for key in _VIEWS)), None)
    return Details(
        owner_name=_text(user.get("full_name")),
        owner_id=_id(user.get("pk")) or _id(user.get("id")),
        coauthors=_names(as_list(media.get("coauthor_producers"))),
        likes=None if hidden else _count(media.get("like_count")),
        comments=_count(media.get("comment_count")),
        views=None if hidden else views,
        location=_text(as_dict(media.get("location")).get("name")),
        tagged=_names(tag.get("user") for one in (media, *children) for tag in _tags(one)),
        music=_music(media),
        product_type=_text(media.get("product_type")),
    )


def _tags(media: Any) -> Iterator[dict[str, Any]]:
    tags = as_dict(as_dict(media).get("usertags")).get("in")
    return map(as_dict, as_list(tags)[:_MAX_NAMES])


def _names(users: Any) -> tuple[str, ...]:
    names = (_text(as_dict(user).get("username")) for user in users)
    return tuple(dict.fromkeys(name for name in names if name))[:_MAX_NAMES]


def _music(media: dict[str, Any]) -> Music | None:
    """Return the post's song or original sound, preferably one with a URL."""
    found = []
    for key in ("clips_metadata", "music_metadata"):
        about = as_dict(media.get(key))
        song = as_dict(as_dict(about.get("music_info")).get("music_asset_info"))
        sound = as_dict(about.get("original_sound_info"))
        owner = as_dict(sound.get("ig_artist")).get("username")
        found += [
            _sound(song, song.get("title"), song.get("display_artist")),
            _sound(sound, sound.get("original_audio_title"), owner),
        ]
    known = [one for one in found if one.url or one.title]
    return next((one for one in known if one.url), next(iter(known), None))


def _sound(sound: dict[str, Any], title: Any, artist: Any) -> Music:
    urls = (_checked_url(sound.get(key)) for key in _SONG_URLS)
    url = next((url for url, unreliable in urls if url and not unreliable), None)
    return Music(_text(title) or "", _text(artist), url)


def _caption(media: dict[str, Any]) -> str:
    caption = media.get("caption")
    text = caption.get("text") if isinstance(caption, dict) else caption
    if not isinstance(text, str):
        return ""
    if len(text) > _MAX_CAPTION:
        log.warning("caption truncated", characters=len(text))
    return _encodable(text[:_MAX_CAPTION])


def _alt_text(media: dict[str, Any]) -> str | None:
    return _text(media.get("accessibility_caption"))


def _moment(value: Any) -> str | None:
    digits = isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value)
    seconds = int(value) if digits else value
    if not _is_number(seconds) or not 0 <= seconds <= _MAX_UNIX_TIME:
        return None
    return moment(seconds)


def _seconds(value: Any) -> float | None:
    return float(value) if _is_number(value) and 0 < value <= _MAX_SECONDS else None


def _pixels(value: Any) -> int | None:
    return int(value) if _is_number(value) and 1 <= value <= _MAX_PIXELS else None


def _count(value: Any) -> int | None:
    return int(value) if _is_number(value) and 0 <= value <= _MAX_COUNT else None


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _id(value: Any) -> str | None:
    return _text(str(value) if _is_number(value) else value)


def _text(value: Any) -> str | None:
    """Return *value*, truncated to 2,000 characters, or None if it is blank or not a string."""
    if not isinstance(value, str) or not value.strip():
        return None
    return _encodable(value[:_MAX_TEXT])


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON allows but UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
