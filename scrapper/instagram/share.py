"""Resolves share links to the URLs that they lead to."""

import html
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

from scrapper.errors import InvalidURL, UnsupportedLink
from scrapper.instagram.context import WWW, Context
from scrapper.instagram.page_refusal import refusal_of_page, route_of
from scrapper.instagram.verdict import Reason, Refused, location_of
from scrapper.links import ShareLink, read_link

__all__ = ["MAX_TARGET", "open_share_link"]

MAX_TARGET = 4096
"""The maximum length in characters of the URL that a share link leads to."""

_TAG = re.compile(rb"<(?:link|meta)\b[^<>]{0,2000}>", re.IGNORECASE)
_HEAD_BYTES = 500_000
_MAX_TAGS = 200
_NAMES_PAGE = re.compile(rb"""=\s?["']?(?:canonical|og:url)\b""", re.IGNORECASE)
_URL = re.compile(rb"""\b(?:href|content)\s?=\s?["']?([^"'<>\s]{1,1000})""", re.IGNORECASE)


def open_share_link(context: Context, path: str) -> str:
    """Return the URL that the share link at *path* leads to, even if it is not a post's URL.

    This sends one or two requests. Instagram redirects to that URL, or to a login form that would
    continue to that URL, or answers with the page itself. Before that, Instagram may redirect to a
    variant of the share link, for example to add or remove the trailing slash.

    Raises:
        Refused: the link leads only to a login form, or nowhere.
        requests.RequestException: no answer arrived.
    """
    response, target = _open(context, path)
    if target is not None and isinstance(_parse(target), ShareLink):
        path = urlsplit(target)._replace(scheme="", netloc="").geturl().lstrip("/")
        response, target = _open(context, path)
    if target is not None:
        return target
    refused = refusal_of_page(
        response, with_session=context.is_logged_in, route=route_of(response.content)
    )
    raise refused or Refused(Reason.CHANGED)


def _open(context: Context, path: str) -> tuple[requests.Response, str | None]:
    """Return two values: the answer, and the URL that it leads to (None after a refusal)."""
    response = context.view(path)
    urls = list(_urls_in(response, path))
    if target := next(filter(_parse, urls), None):
        return response, target
    refused = refusal_of_page(response, with_session=False, route=route_of(response.content))
    leads_elsewhere = refused is None or (response.is_redirect and refused.reason is Reason.CHANGED)
    return response, urls[0] if urls and leads_elsewhere else None


def _urls_in(response: requests.Response, path: str) -> Iterator[str]:
    """Yield the URLs that an answer leads to.

    A share link in the page's tags is left out, because it is the page's own URL.
    """
    if response.is_redirect:
        target = location_of(response)
        if target is not None:
            yield _absolute(target.geturl(), path)
            # The URL of a login form contains the URL to continue to.
            yield from (_absolute(url) for url in parse_qs(target.query).get("next", ())[:1])
        return
    tags = _TAG.finditer(response.content, 0, _HEAD_BYTES)
    for _, tag in zip(range(_MAX_TAGS), tags, strict=False):
        url = _URL.search(tag[0]) if _NAMES_PAGE.search(tag[0]) else None
        found = _absolute(html.unescape(url[1].decode("utf-8", "replace"))) if url else ""
        if found and not isinstance(_parse(found), ShareLink):
            yield found


def _absolute(url: str, path: str = "") -> str:
    """Resolve *url* against the page *path*, and change http to https."""
    try:
        absolute = urljoin(WWW + path, url)
    except ValueError:
        return url
    return re.sub("^http:", "https:", absolute)


def _parse(url: str) -> str | ShareLink | None:
    """Return the shortcode or the share link in *url*, or None for any other URL."""
    try:
        return read_link(url, max_length=MAX_TARGET)
    except (InvalidURL, UnsupportedLink):
        return None
