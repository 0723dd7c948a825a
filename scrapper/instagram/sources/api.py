"""Sends Instaloader's own query, which has the smallest answer.

The query is POSTed to ``/graphql/query`` with a session, and to ``/api/graphql`` without one.
Without a session, the query is often refused. Instaloader defines the query and its document, so a
newer Instaloader may send a newer query.
"""

from typing import Any

from scrapper.instagram.context import Context
from scrapper.instagram.media import belongs_to
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.verdict import Reason, Refused

__all__ = ["ask", "media_in"]

_KEY = "xdt_api__v1__media__shortcode__web_info"


def ask(context: Context, shortcode: Shortcode) -> dict[str, Any]:
    """Return the object under ``data.xdt_api__v1__media__shortcode__web_info.items[0]``.

    Raises:
        Refused: the answer contains no media object for this post.
        Exception: whatever Instaloader and requests raise.
    """
    return media_in(context.query_by_instaloader(shortcode.code), shortcode)


def media_in(answer: Any, shortcode: Shortcode) -> dict[str, Any]:
    """Return the media object in *answer*.

    *answer* must have the same format as an answer to Instaloader's query.

    Raises:
        Refused: the answer contains no media object for this post.
    """
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or _KEY not in data:
        raise Refused(Reason.CHANGED)
    info = data[_KEY]
    if info is None:
        raise Refused(Reason.CHANGED if answer.get("errors") else Reason.NULL)
    items = info.get("items") if isinstance(info, dict) else None
    if not isinstance(items, list):
        raise Refused(Reason.CHANGED)
    if not items:
        raise Refused(Reason.EMPTY)
    if not belongs_to(items[0], shortcode):
        raise Refused(Reason.CHANGED)
    media: dict[str, Any] = items[0]
    return media
