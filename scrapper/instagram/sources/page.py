"""Reads the post's public page, requested as a browser would.

The request is GET ``/p/CODE/``, and ``/reel/CODE/`` if that fails. A page is 0.7 to 1 MB long and
has about a hundred scripts. A byte search finds the scripts that may contain the post, so that only
a few are parsed.
"""

import re
from collections.abc import Iterator
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
_MAX_TAG_BYTES = 500
_MAX_SCRIPTS = 8
# A script that contains the post, or marks it as gated, contains one of these.
_MARKS = (b"if_not_gated_logged_out", b"image_versions2", b"video_versions", b"carousel_media")
_SAME_POST = re.compile(r"/(?:[A-Za-z0-9._]{1,30}/)?(?:p|reel|reels|tv)/([A-Za-z0-9_-]+)/?")
# If the first path is refused for one of these reasons, the other may still have the post.
_TRY_OTHER_PATH = frozenset({Reason.LOGIN_WALL, Reason.CHANGED, Reason.FAILED})


def ask(context: Context, shortcode: Shortcode) -> dict[str, Any]:
    """Return the media object embedded in the page.

    Raises:
        Refused: neither path has the post.
        requests.RequestException: no answer arrived.
    """
    try:
        return _ask(context, f"p/{shortcode.text}/", shortcode)
    except Refused as refused:
        if refused.reason not in _TRY_OTHER_PATH:
            raise
        context.report("page", refused.reason)
    return _ask(context, f"reel/{shortcode.text}/", shortcode)


def _ask(context: Context, path: str, shortcode: Shortcode) -> dict[str, Any]:
    response = context.view(path)
    if response.is_redirect and (target := _same_post(response, shortcode)):
        response = context.view(target)
    route = route_of(response.content)
    refused = refusal_of_page(response, with_session=context.is_logged_in, route=route)
    # If the page contains the post, the route does not matter.
    is_ok = response.status_code == HTTPStatus.OK
    media = _read(response.content, shortcode, route) if is_ok else None
    if media is None:
        # After too many requests, Instagram sends pages that have a post's route but no media.
        raise refused or Refused(Reason.THROTTLED)
    return media


def _same_post(response: requests.Response, shortcode: Shortcode) -> str | None:
    """Return the path of a redirect to another page of the same post; None for other redirects."""
    target = location_of(response)
    found = target and _SAME_POST.fullmatch(target.path)
    if not target or target.hostname not in (None, "www.instagram.com", "instagram.com"):
        return None
    if not found:
        return None
    return target.path.lstrip("/") if found[1] in (shortcode.text, shortcode.code) else None


def _read(html: bytes, shortcode: Shortcode, route: bytes | None) -> dict[str, Any] | None:
    """Return the media object in the page, or None if the page contains at most stubs of the post.

    Raises:
        Refused: the post is gated, or the page cannot be interpreted.
    """
    reasons = {Reason.CHANGED} if route is None else set()
    for script in json_scripts_of(html, shortcode):
        try:
            media = find_in_page(parse_json(script), shortcode)
        except ValueError:
            reasons.add(Reason.CHANGED)
        except Refused as refused:
            # Another script may have the post.
            reasons.add(refused.reason)
        else:
            if media is not None:
                return media
    if reasons:
        raise Refused(Reason.GATED if Reason.GATED in reasons else Reason.CHANGED)
    return None


def json_scripts_of(html: bytes, shortcode: Shortcode) -> Iterator[bytes]:
    """Yield the JSON scripts that may contain the post, at most eight."""
    code, count, end, mention = shortcode.code.encode(), 0, 0, -1
    while count < _MAX_SCRIPTS:
        if mention < end:
            mention = html.find(code, end)
            if mention < 0:
                return
            # Skip all scripts that end before the next mention of the post; most do.
            end = max(end, html.rfind(_SCRIPT_END, end, mention))
        start = html.find(_SCRIPT, end)
        if start < 0:
            return
        opened = html.find(b">", start, start + _MAX_TAG_BYTES)
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
            count += 1
            yield html[opened + 1 : end]
