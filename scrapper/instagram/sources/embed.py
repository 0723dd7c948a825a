"""Reads the post's embed page, requested as if for a frame on another site.

The request is GET ``/p/CODE/embed/captioned/``. On some days, it works when the request for the
public page does not. The post is JSON inside a JSON string, in the older shape (as captured in
autumn 2026).
"""

import re
from typing import Any

from scrapper.instagram.context import Context
from scrapper.instagram.media import CAROUSEL, belongs_to
from scrapper.instagram.older_shape import to_current_shape
from scrapper.instagram.page_refusal import refusal_of_page, route_of
from scrapper.instagram.safe_json import parse_json
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.verdict import Reason, Refused

__all__ = ["ask", "lacks_files", "node_in"]

_KEY = b'"contextJSON"'
_TEXT = re.compile(_KEY + rb'\s?:\s?("(?:[^"\\]++|\\.)*+")', re.DOTALL)


def ask(context: Context, shortcode: Shortcode) -> dict[str, Any]:
    """Return the media object in the embed page, in the current shape.

    Raises:
        Refused: the page does not contain the post, perhaps because its owner disabled embedding.
            The post may still exist.
        requests.RequestException: no answer arrived.
    """
    response = context.view(f"p/{shortcode.text}/embed/captioned/", embedded=True)
    route = route_of(response.content)
    refused = refusal_of_page(response, with_session=context.is_logged_in, route=route)
    if refused is not None:
        raise Refused(Reason.CLOSED) if refused.reason is Reason.GONE else refused
    node = node_in(response.content)
    media = to_current_shape(node) if node else None
    if media is None or not belongs_to(media, shortcode) or lacks_files(media):
        raise Refused(Reason.CLOSED)
    return media


def node_in(html: bytes) -> dict[str, Any] | None:
    """Return the post's object in the page, in the older shape, or None if there is none.

    Raises:
        Refused: the JSON in the page is malformed.
    """
    found = _TEXT.match(html, html.find(_KEY))
    if found is None:
        return None
    try:
        data = parse_json(str(parse_json(found[1])).encode("utf-8", "replace"))
    except ValueError:
        raise Refused(Reason.CHANGED) from None
    data = data.get("gql_data") if isinstance(data, dict) else None
    for key in ("shortcode_media", "xdt_shortcode_media"):
        node = data.get(key) if isinstance(data, dict) else None
        if isinstance(node, dict):
            return node
    return None


def lacks_files(media: dict[str, Any]) -> bool:
    """Return whether the page leaves out the video of a post, or the slides of a carousel."""
    if media["media_type"] == CAROUSEL:
        return not media["carousel_media"]
    versions = media.get("video_versions")
    has_manifest = bool(media.get("video_dash_manifest"))
    return versions is not None and not (versions[0]["url"] or has_manifest)
