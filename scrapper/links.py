"""Parses Instagram URLs: links to posts, share links, and links to something else."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from scrapper.errors import (
    AudioLink,
    HighlightLink,
    InvalidURL,
    ProfileLink,
    StoryLink,
    UnsupportedLink,
)

__all__ = [
    "SHORTCODE_ALPHABET",
    "Link",
    "ShareLink",
    "clean_link",
    "is_shortcode",
    "item_in",
    "names_story",
    "pasted_link",
    "read_link",
]

SHORTCODE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""The digits of a shortcode, which is a number in base 64."""

_SHORTCODE = re.compile(r"[A-Za-z0-9_-]{5,64}")
_USER_NAME = re.compile(r"[A-Za-z0-9._]{1,30}")
_HOSTS = frozenset({"instagram.com", "www.instagram.com"})
_CACHED_URLS = 1024
_OPTIONAL_SCHEME = re.compile(r"^(http://)?(?=(www\.)?instagram\.com/)", re.IGNORECASE)
_MEDIA_ID = re.compile(r"[0-9]{1,20}")
_ITEM = re.compile(r"0{0,5}[1-9][0-9]{0,3}")
_KINDS = frozenset({"p", "reel", "reels", "tv"})
_AUDIO = (["reels", "audio"], ["music", "audio"])
_RESERVED = _KINDS | {"about", "accounts", "api", "developer", "direct", "explore", "graphql"}
_RESERVED |= {"legal", "music", "press", "s", "share", "stories", "web"}


class ShareLink(NamedTuple):
    """A link that Instagram's share button creates. It redirects to the post's URL.

    ``path`` has no leading slash. The token in it looks like a shortcode but is not one.
    """

    path: str


Link = str | ShareLink
"""A shortcode, or a share link."""


def is_shortcode(text: str) -> bool:
    """Return whether *text* has the form of a shortcode: 5 to 64 of ``A-Z a-z 0-9 _ -``."""
    return _SHORTCODE.fullmatch(text) is not None


@lru_cache(_CACHED_URLS)
def read_link(url: str, *, max_length: int) -> Link:
    """Return the shortcode in *url*, or a :class:`ShareLink` if *url* is a share link to a post.

    *url* must be an ``https`` URL of ``instagram.com`` or ``www.instagram.com``. Its path must
    begin with ``/<p|reel|reels|tv>/<shortcode>``, optionally after a user name, or with
    ``/share/[p|reel/]<token>``. The shortcode and the token are matched after percent-decoding. A
    link to one story or to one item of a highlight is also accepted: the shortcode is the media ID
    of the story or item in base 64. Whitespace and invisible characters around the URL are
    ignored.

    Raises:
        UnsupportedLink: the URL leads to something else on Instagram.
        InvalidURL: *url* does not have this form, or is longer than *max_length* characters.
    """
    url = clean_link(url)
    # urlsplit() drops line breaks and leading spaces, as the WHATWG URL standard requires. Other
    # programs keep them and could parse the same text as a different URL.
    if len(url) > max_length or not url.isprintable() or " " in url:
        raise InvalidURL
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidURL from error
    if (
        parts.scheme != "https"
        or parts.hostname not in _HOSTS
        or "@" in parts.netloc
        or port not in (None, 443)
    ):
        raise InvalidURL
    segments = _segments(parts)
    if segments[:2] in _AUDIO:
        raise AudioLink
    story = _story(segments, parts.query)
    return _shared(segments) or _post(segments) or story or _refuse(segments)


def names_story(url: str) -> bool:
    """Return whether *url* leads to a story or a highlight item.

    *url* must be one that :func:`read_link` accepts.
    """
    parts = urlsplit(clean_link(url))
    segments = _segments(parts)
    return _post(segments) is None and _story(segments, parts.query) is not None


def pasted_link(text: str, *, max_length: int) -> Link | None:
    """Return the link in *text* from a search box, or None if *text* is not a link to a post.

    The ``https://`` may be missing, because browsers hide it in the address bar.
    """
    try:
        return read_link(_OPTIONAL_SCHEME.sub("https://", clean_link(text)), max_length=max_length)
    except (InvalidURL, UnsupportedLink):
        return None


def clean_link(text: str) -> str:
    """Strip whitespace and invisible characters from both ends of *text*.

    Copied links often begin or end with zero-width characters, direction marks or byte order marks.
    """
    start, end = 0, len(text)
    while start < end and _is_invisible(text[start]):
        start += 1
    while start < end and _is_invisible(text[end - 1]):
        end -= 1
    return text[start:end]


def item_in(url: str) -> int | None:
    """Return the item number in the ``img_index`` parameter of *url*; None if there is none."""
    values = parse_qs(urlsplit(clean_link(url)).query)
    found = _ITEM.fullmatch(values.get("img_index", [""])[0])
    return int(found[0]) if found else None


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cf"


def _segments(parts: SplitResult) -> list[str]:
    return [unquote(segment) for segment in parts.path.split("/")[1:]]


def _shared(segments: Sequence[str]) -> ShareLink | None:
    match segments:
        case ["share", "p" | "reel" as kind, token, *_] if is_shortcode(token):
            return ShareLink(f"share/{kind}/{token}/")
        case ["share", token, *_] if is_shortcode(token):
            return ShareLink(f"share/{token}/")
        case _:
            return None


def _post(segments: Sequence[str]) -> str | None:
    if segments and segments[0] not in _KINDS and _USER_NAME.fullmatch(segments[0]):
        segments = segments[1:]
    match segments:
        case [kind, shortcode, *_] if kind in _KINDS and is_shortcode(shortcode):
            return shortcode
        case _:
            return None


def _story(segments: Sequence[str], query: str) -> str | None:
    number = ""
    match [segment for segment in segments if segment]:
        case ["stories", user, last] if user != "highlights" and _USER_NAME.fullmatch(user):
            number = last
        case ["s", _]:
            # The owner's ID may follow the item's ID.
            number = parse_qs(query).get("story_media_id", [""])[0].partition("_")[0]
    return _shortcode_of(int(number)) if _MEDIA_ID.fullmatch(number) else None


def _shortcode_of(number: int) -> str | None:
    code = ""
    while number:
        number, digit = divmod(number, len(SHORTCODE_ALPHABET))
        code = SHORTCODE_ALPHABET[digit] + code
    return code if is_shortcode(code) else None


def _refuse(segments: Sequence[str]) -> Link:
    """Raise the error for an Instagram link that does not lead to a post."""
    match [segment for segment in segments if segment]:
        case ["stories", "highlights", _, *_] | ["s", _]:
            raise HighlightLink
        case ["stories", _] | ["stories", _, _]:
            raise StoryLink
        case [name] | [name, "reels" | "tagged" | "feed"] if (
            name not in _RESERVED and _USER_NAME.fullmatch(name)
        ):
            raise ProfileLink
        case _:
            raise InvalidURL
