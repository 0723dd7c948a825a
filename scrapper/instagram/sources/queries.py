"""The web app's queries: their names, the ids of their documents, and their relay flags.

Instaloader's own query is not here: a newer Instaloader brings a newer one.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from scrapper.settings import Settings

__all__ = ["KNOWN_FLAGS", "QUERIES", "Query", "flag_variables"]


class Query(NamedTuple):
    """A query as Instagram's scripts name it, and the document that was last seen to work."""

    name: str
    doc_id: str
    flags: tuple[str, ...] = ()


QUERIES: Mapping[str, Query] = {
    # Seen live on 2026-09-23 logged in, and on 2026-10-07 logged out.
    "root_query": Query(
        "PolarisPostRootQuery",
        "27830990013244856",
        ("PolarisShortDramaEnabled", "PolarisMultiCaptionCarouselEnabled"),
    ),
    # Capture api_logged_out_200, October 2026. The id is a setting's default.
    "logged_out_api": Query(
        "PolarisLoggedOutDesktopWWWPostRootContentQuery",
        Settings.model_fields["instagram_doc_id"].default,
    ),
}
"""By the name of the source that sends them."""

KNOWN_FLAGS: Mapping[str, bool] = {"PolarisMultiCaptionCarouselEnabled": True}
"""The values that the web app sends for flags; all others, unknown ones included, are false."""


def flag_variables(flags: tuple[str, ...]) -> dict[str, Any]:
    """The variables by which a query carries its relay *flags*."""
    return {
        f"__relay_internal__pv__{flag}relayprovider": KNOWN_FLAGS.get(flag, False) for flag in flags
    }
