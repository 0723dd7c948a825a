"""The post's public page, as a browser opens it.

GET ``/p/CODE/``, then ``/reel/CODE/``. The page is 0.7 to 1 MB large, with some hundred scripts;
the one that holds the post is found by its bytes, and only that one is parsed.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import requests

from scrapper.instagram.context import Context
from scrapper.instagram.media import find_in_page
from scrapper.instagram.page_refusal import refusal_of_page, route_of
from scrapper.instagram.safe_json import parse_json
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.verdict import Reason, Refused, location_of

__all__ = ["ask", "json_scripts_of"]

_SCRIPT, _SCRIPT_END = b"<script", b"</script>"
_JSON_TYPE = b"application/json"
_LONGEST_TAG = 500
_MAX_SCRIPTS = 8
# The script that holds the post, or says that it is gated, has one of these.
_MARKS = (b"if_not_gated_logged_out", b"image_versions2", b"video_versions", b"carousel_media")
_SAME_POST = re.compile(r"/(?:[A-Za-z0-9._]{1,30}/)?(?:p|reel|reels|tv)/([A-Za-z0-9_-]+)/?")
# After these reasons, the other path may still have the post.
_ANOTHER_PATH_MAY_HELP = frozenset({Reason.LOGIN_WALL, Reason.CHANGED, Reason.FAILED})


def ask(context: Context, shortcode: Shortcode) -> dict[str, Any]:
    """The media object that the page embeds.

    Raises:
        Refused: the page has none.
        requests.RequestException: no answer came.
    """
    try:
        return _ask(context, f"p/{shortcode.text}/", shortcode)
    except Refused as refused:
        if refused.reason not in _ANOTHER_PATH_MAY_HELP:
            raise
        context.report("page", refused.reason)
    return _ask(context, f"reel/{shortcode.text}/", shortcode)


def _ask(context: Context, path: str, shortcode: Shortcode) -> dict[str, Any]:
    response = context.view(path)
    if response.is_redirect and (target := _same_post(response, shortcode)):
        response = context.view(target)
    route = route_of(response.content)
    refused = refusal_of_page(response, with_session=context.is_logged_in, route=route)
    # A page that has the post counts, whatever its route says.
    is_there = response.status_code == HTTPStatus.OK
    media = _read(response.content, shortcode, route) if is_there else None
    if media is None:
        # A post's route without a post: Instagram sends such pages to clients that ask too much.
        raise refused or Refused(Reason.THROTTLED)
    return media


def _same_post(response: requests.Response, shortcode: Shortcode) -> str | None:
    """The path of another page of the same post that a redirect leads to, or None."""
    target = location_of(response)
    found = target and _SAME_POST.fullmatch(target.path)
    if not target or target.hostname not in (None, "www.instagram.com", "instagram.com"):
        return None
    if not found:
        return None
    return target.path.lstrip("/") if found[1] in (shortcode.text, shortcode.code) else None


def _read(html: bytes, shortcode: Shortcode, route: bytes | None) -> dict[str, Any] | None:
    """The media object in the page; None if it holds no post at all.

    Raises:
        Refused: the post is gated, or the page holds something that is not understood.
    """
    unread = route is None
    for script in json_scripts_of(html, shortcode):
        with suppress(ValueError):
            media = find_in_page(parse_json(script), shortcode)
            if media is not None:
                return media
        unread = True
    if unread:
        raise Refused(Reason.CHANGED)
    return None


def json_scripts_of(html: bytes, shortcode: Shortcode) -> Iterator[bytes]:
    """The JSON scripts that may hold the post, a few at most."""
    code, given, end, mention = shortcode.code.encode(), 0, 0, -1
    while given < _MAX_SCRIPTS:
        if mention < end:
            mention = html.find(code, end)
            if mention < 0:
                return
            # Most scripts end before the post is mentioned: they need no look.
            end = max(end, html.rfind(_SCRIPT_END, end, mention))
        start = html.find(_SCRIPT, end)
        if start < 0:
            return
        opened = html.find(b">", start, start + _LONGEST_TAG)
        if opened < 0:
            end = start + len(_SCRIPT)
            continue
        end = html.find(_SCRIPT_END, opened)
        if end < 0:
            return
        if _JSON_TYPE not in html[start:opened]:
            continue
        if html.find(code, opened, end) >= 0 and any(
            html.find(mark, opened, end) >= 0 for mark in _MARKS
        ):
            given += 1
            yield html[opened + 1 : end]
