"""What the API's description says of a route, stated beside its handler."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from aiohttp.typedefs import Handler

__all__ = [
    "FILE",
    "TEXT",
    "Content",
    "Operation",
    "Parameter",
    "describe",
    "operation_of",
]

_ATTRIBUTE = "openapi_operation"

Described = TypeVar("Described", bound=Handler)


@dataclass(frozen=True, slots=True)
class Content:
    """A response body that is not JSON: its types, and its schema in OpenAPI 3.1."""

    types: Sequence[str]
    schema: Mapping[str, Any]


FILE = Content(
    ("application/octet-stream", "video/mp4", "image/*", "application/zip"),
    {"type": "string", "format": "binary"},
)
TEXT = Content(("text/plain",), {"type": "string"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route: where it stands, and its schema in OpenAPI 3.1."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Mapping[str, Any]
    description: str = ""
    required: bool = False
    """Path parameters are always required."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    ``response`` is the type that a success has as JSON, another content, or None for no body; with
    ``events`` it is what each server-sent event holds. ``body`` is the type that the request has as
    JSON, and ``file_body`` what it may be instead. ``errors`` are the statuses beside those
    that every operation may have. An operation that is ``free`` needs no key.
    """

    id: str
    summary: str
    tag: str
    response: Any = None
    status: int = 200
    errors: Sequence[int] = ()
    body: Any = None
    body_required: bool = True
    file_body: Content | None = None
    parameters: Sequence[Parameter] = ()
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more: Mapping[int, tuple[str, Any]] = field(default_factory=dict)
    events: bool = False
    free: bool = False


def describe(operation: Operation) -> Callable[[Described], Described]:
    """Attach *operation* to the handler below."""

    def attach(handler: Described) -> Described:
        setattr(handler, _ATTRIBUTE, operation)
        return handler

    return attach


def operation_of(handler: Any) -> Operation | None:
    """The operation of *handler*; None for what the description leaves out, such as pages."""
    operation: Operation | None = getattr(handler, _ATTRIBUTE, None)
    return operation
