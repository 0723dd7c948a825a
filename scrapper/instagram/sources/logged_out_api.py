"""Sends the logged-out web app's query. The post's public page contains the same answer.

The request is POST ``/api/graphql`` with the variable ``media_id`` (as captured in October 2026).
The document ID is ``INSTAGRAM_DOC_ID`` if set. Otherwise, it is the built-in ID or its replacement.
"""

from typing import Any

from scrapper.instagram.context import Context
from scrapper.instagram.media import ungated
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.verdict import Reason, Refused

__all__ = ["ask"]

_KEY = "xig_polaris_media"


def ask(context: Context, shortcode: Shortcode) -> dict[str, Any]:
    """Return the media object under ``data.xig_polaris_media.if_not_gated_logged_out``.

    Raises:
        Refused: the answer contains no media object for this post.
        Exception: whatever Instaloader and requests raise.
    """
    answer = context.query_web("logged_out_api", {"media_id": str(shortcode.media_id)})
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or _KEY not in data:
        raise Refused(Reason.CHANGED)
    if data[_KEY] is None:
        raise Refused(Reason.CHANGED if answer.get("errors") else Reason.NULL)
    return ungated(data[_KEY], shortcode)
