"""Parses untrusted JSON within limits.

A few megabytes of JSON can contain a million empty arrays, which take up hundreds of megabytes as
Python objects. It can also contain a 5,000-digit number, which makes :func:`int` raise.
"""

import json
from typing import Any

__all__ = ["MAX_JSON_BYTES", "UnreadableJSON", "as_dict", "as_list", "as_text", "parse_json"]

MAX_JSON_BYTES = 4_000_000
"""The maximum size in bytes of the JSON to parse.

Instagram's JSON is at most 300 kB (as captured in October 2026).
"""

_MAX_VALUES = 300_000
_MAX_DIGITS = 20
_GUARD = b"for (;;);"


class UnreadableJSON(json.JSONDecodeError):
    """The text is not JSON, or exceeds the limits."""

    def __init__(self, why: str) -> None:
        super().__init__(why, "", 0)


def parse_json(text: bytes) -> Any:
    """Parse *text* as UTF-8; invalid bytes become U+FFFD.

    A leading ``for (;;);`` is skipped. Instagram adds it to some answers to keep script tags from
    running them.

    Integers of more than 20 digits, NaN and Infinity become None. The service does not need such
    values, but must be able to read the rest of the text.

    Raises:
        UnreadableJSON: *text* is not JSON, is larger than :data:`MAX_JSON_BYTES`, contains more
            than about 300,000 values, or is nested more deeply than Python's recursion limit
            allows.
    """
    if len(text) > MAX_JSON_BYTES:
        raise UnreadableJSON(f"more than {MAX_JSON_BYTES} bytes")
    if text.count(b",") + text.count(b"[") + text.count(b"{") > _MAX_VALUES:
        raise UnreadableJSON(f"more than {_MAX_VALUES} values")
    try:
        return json.loads(
            text.removeprefix(_GUARD).decode("utf-8", "replace"),
            parse_int=_integer,
            parse_constant=lambda _: None,
        )
    except (ValueError, RecursionError) as error:
        raise UnreadableJSON(type(error).__name__) from error


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def as_dict(value: Any) -> dict[str, Any]:
    """Return *value* if it is an object, or else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return *value* if it is an array, or else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """Return *value* if it is a string, or else an empty one."""
    return value if isinstance(value, str) else ""
