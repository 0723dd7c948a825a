"""An Instagram URL becomes a shortcode, or is refused."""

import re
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from scrapper.errors import InvalidURL

__all__ = ["is_shortcode", "shortcode_of"]

_SHORTCODE = re.compile(r"[A-Za-z0-9_-]{5,64}")
_USER_NAME = re.compile(r"[A-Za-z0-9._]{1,30}")
_HOSTS = frozenset({"instagram.com", "www.instagram.com"})
_REMEMBERED_URLS = 1024
_KINDS = frozenset({"p", "reel", "reels", "tv"})


def is_shortcode(text: str) -> bool:
    """Whether *text*, whole, has the form of a shortcode: 5 to 64 of ``A-Z a-z 0-9 _ -``."""
    return _SHORTCODE.fullmatch(text) is not None


@lru_cache(_REMEMBERED_URLS)
def shortcode_of(url: str, *, max_length: int) -> str:
    """Return the shortcode that a post's *url* names.

    Taken are ``https`` URLs of ``instagram.com`` and ``www.instagram.com`` whose path is
    ``/<p|reel|reels|tv>/<shortcode>``, with a user name in front of it or not, and with
    anything after it. The shortcode is matched on the percent-decoded path segment.

    Raises:
        InvalidURL: for every other text, and for one of more than *max_length* characters.
    """
    # urlsplit() drops line breaks and leading blanks (as the WHATWG URL standard has it),
    # which would let one text name two different things to two readers.
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
    segments = [unquote(segment) for segment in parts.path.split("/")[1:]]
    if segments and segments[0] not in _KINDS and _USER_NAME.fullmatch(segments[0]):
        del segments[0]
    match segments:
        case [kind, shortcode, *_] if kind in _KINDS and is_shortcode(shortcode):
            return shortcode
        case _:
            raise InvalidURL
