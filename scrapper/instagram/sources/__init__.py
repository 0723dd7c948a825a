"""The ways to a post's description, a module each.

A source takes a context and a shortcode, and returns Instagram's own media object, or raises
:class:`~scrapper.instagram.verdict.Refused`; anything else that Instaloader or requests raise
counts as a refusal, too. A new source is a module here and a line in one of the two lists.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from scrapper.instagram.context import Context
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import api, embed, logged_out_api, media_info, page, root_query

__all__ = ["LOGGED_OUT", "WITH_SESSION", "Source"]


class Source(NamedTuple):
    """A way to a post; its name is in log lines, metrics and ``/ready``.

    ``has_stories`` says whether it also has stories.
    """

    name: str
    ask: Callable[[Context, Shortcode], dict[str, Any]]
    has_stories: bool = False


LOGGED_OUT = (
    Source("api", api.ask),
    Source("root_query", root_query.ask),
    Source("logged_out_api", logged_out_api.ask),
    Source("page", page.ask),
    Source("embed", embed.ask),
)
"""In the order in which they are asked by default: smallest answer first."""

WITH_SESSION = (
    Source("media_info", media_info.ask, has_stories=True),
    Source("api", api.ask),
)
