"""The ways of finding a post, one module per source.

A source takes a context and a shortcode. It returns Instagram's media object or raises
:class:`~scrapper.instagram.verdict.Refused`. Any other exception from Instaloader or requests
counts as a refusal, too. To add a source, add a module here and an entry to ``LOGGED_OUT`` or
``WITH_SESSION``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from scrapper.instagram.context import Context
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import api, embed, logged_out_api, media_info, page, root_query

__all__ = ["LOGGED_OUT", "WITH_SESSION", "Source"]


class Source(NamedTuple):
    """A way of finding a post.

    ``name`` appears in log lines, metrics and ``/ready``. ``has_stories`` is true if the source can
    also find stories.
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
"""The sources in their usual order; the source with the smallest answer comes first."""

WITH_SESSION = (
    Source("media_info", media_info.ask, has_stories=True),
    Source("api", api.ask),
)
