"""The web app's queries: their names, document IDs and relay flags.

Instaloader's own query is not listed here, because it is updated with Instaloader.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from scrapper.settings import Settings

__all__ = ["KNOWN_FLAGS", "QUERIES", "Query", "flag_variables"]


class Query(NamedTuple):
    """A query: its name in Instagram's scripts, and the last document known to work."""

    name: str
    doc_id: str
    flags: tuple[str, ...] = ()


QUERIES: Mapping[str, Query] = {
    # Seen in use on 2026-09-23 (logged in) and on 2026-10-07 (logged out).
    "root_query": Query(
        "PolarisPostRootQuery",
        "27830990013244856",
        ("PolarisShortDramaEnabled", "PolarisMultiCaptionCarouselEnabled"),
    ),
    # Captured in October 2026. The ID is the default of INSTAGRAM_DOC_ID.
    "logged_out_api": Query(
        "PolarisLoggedOutDesktopWWWPostRootContentQuery",
        Settings.model_fields["instagram_doc_id"].default,
    ),
}
"""The queries, by the name of the source that sends them."""

KNOWN_FLAGS: Mapping[str, bool] = {"PolarisMultiCaptionCarouselEnabled": True}
"""The values that the web app sends for relay flags; any other flag is false."""


def flag_variables(flags: tuple[str, ...]) -> dict[str, Any]:
    """Return the query variables for relay *flags*."""
    return {
        f"__relay_internal__pv__{flag}relayprovider": KNOWN_FLAGS.get(flag, False) for flag in flags
    }
