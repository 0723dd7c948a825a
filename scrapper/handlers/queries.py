"""The query parameters that several routes share."""

from collections.abc import Sequence

from aiohttp import web

from scrapper.handlers.openapi import Parameter
from scrapper.handlers.refusals import InvalidParameter
from scrapper.library.listing import Cursor

__all__ = ["CURSOR", "FLAG", "LIMIT", "choice_in", "cursor_in", "flag_in", "limit_in"]

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100

LIMIT = Parameter(
    "limit",
    "query",
    {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT, "default": _DEFAULT_LIMIT},
    "Maximum number of entries per page",
)
CURSOR = Parameter(
    "cursor",
    "query",
    {"type": "string", "pattern": r"^[0-9]{1,12}\.[0-9]{9}~[A-Za-z0-9_-]{5,64}$"},
    "The `next_cursor` of the previous page",
)
FLAG = {"type": "string", "enum": ["1"]}
"""The schema of a parameter whose only value is ``1``."""


def limit_in(request: web.Request) -> int:
    """Return the ``limit`` of a listing.

    Raises:
        InvalidParameter: the limit is not a number, or is out of range.
    """
    limit = request.query.get("limit", str(_DEFAULT_LIMIT))
    is_number = limit.isascii() and limit.isdecimal() and len(limit) <= len(str(_MAX_LIMIT))
    if not is_number or not 1 <= int(limit) <= _MAX_LIMIT:
        raise InvalidParameter(text=f"limit must be a number from 1 to {_MAX_LIMIT}")
    return int(limit)


def cursor_in(request: web.Request) -> Cursor | None:
    """Return the ``cursor`` of a listing, or None for the first page.

    Raises:
        InvalidParameter: the value is not a cursor.
    """
    try:
        return Cursor.parse(request.query["cursor"]) if "cursor" in request.query else None
    except ValueError:
        raise InvalidParameter(text="cursor must be the next_cursor of an earlier page") from None


def choice_in(request: web.Request, name: str, choices: Sequence[str]) -> str | None:
    """Return the value of the parameter *name*, or None if it is absent.

    Raises:
        InvalidParameter: the value is not one of *choices*.
    """
    value = request.query.get(name)
    if value not in (None, *choices):
        raise InvalidParameter(text=f"{name} must be {' or '.join(choices)}")
    return value


def flag_in(request: web.Request, name: str) -> bool:
    """Return whether the parameter *name* is set.

    Raises:
        InvalidParameter: the value is not ``1``.
    """
    return choice_in(request, name, ["1"]) is not None
