"""Sends the web app's own version of Instaloader's query, with a different document.

The request is POST ``/api/graphql`` with ``PolarisPostRootQuery``, the variable ``shortcode`` and
relay flags.
"""

from typing import Any

from scrapper.instagram.context import Context
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources.api import media_in

__all__ = ["ask"]


def ask(context: Context, shortcode: Shortcode) -> dict[str, Any]:
    """Return the object under ``data.xdt_api__v1__media__shortcode__web_info.items[0]``.

    Raises:
        Refused: the answer contains no media object for this post.
        Exception: whatever Instaloader and requests raise.
    """
    return media_in(context.query_web("root_query", {"shortcode": shortcode.code}), shortcode)
