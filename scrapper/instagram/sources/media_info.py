"""Queries the media info API with a session.

This finds private and age-gated posts, stories, and highlight items. The request is GET
``/api/v1/media/MEDIA_ID/info/`` on www.instagram.com, because i.instagram.com answers 404 even to
requests with valid cookies.
"""

from typing import Any

from scrapper.instagram.context import Context
from scrapper.instagram.media import belongs_to
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.verdict import Reason, Refused

__all__ = ["ask"]

_HEADERS = {"X-IG-App-ID": "936619743392459", "Accept": "*/*"}


def ask(context: Context, shortcode: Shortcode) -> dict[str, Any]:
    """Return the media object under ``items[0]``.

    Raises:
        Refused: the answer contains no media object for this post.
        Exception: whatever requests raises.
    """
    answer = context.get_api(f"api/v1/media/{shortcode.media_id}/info/", _HEADERS)
    items = answer.get("items") if isinstance(answer, dict) else None
    if items == []:
        raise Refused(Reason.EMPTY)
    if not isinstance(items, list) or not belongs_to(items[0], shortcode):
        raise Refused(Reason.CHANGED)
    media: dict[str, Any] = items[0]
    return media
