"""Every failure becomes a JSON response with a machine-readable code."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["errors"]

log = logging.getLogger(__name__)


def errors(
    table: Mapping[type[Exception], tuple[int, str, str]],
    *,
    request_id: web.RequestKey[str] | None = None,
    more_headers: web.RequestKey[dict[str, str]] | None = None,
) -> Middleware:
    """Answer exceptions with JSON: ``{"error": message, "code": code}``.

    ::

        from middlewares.errors import errors
        table = {KeyError: (404, "no_such_thing", "No such thing")}
        app = web.Application(middlewares=[errors(table)])

    *request_id* is the key under which the request keeps its ID; the body then has the ID, too.
    Under *more_headers*, inner middlewares find a dictionary for headers that errors are to have.

    *table* gives the status, the code and the message of an exception by its type, or by the
    nearest of its bases. An exception's ``retry_after``, in seconds, becomes the header
    ``Retry-After``, its ``detail`` the end of the message, and its ``fields`` part of the body.
    aiohttp's own HTTP exceptions keep status, text and headers; their code is the
    exception's attribute ``code``, else the status's name: ``not_found``, ``method_not_allowed``.
    Everything else is a 500, ``internal_error``, without details; its traceback is logged. If a
    handler fails after its response has begun, aiohttp logs that and breaks the connection: nothing
    else can reach the client.
    """

    def respond(
        request: web.Request, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> web.Response:
        if request_id is not None and request_id in request:
            body = {**body, "request_id": request[request_id]}
        return web.json_response(body, status=status, headers=headers)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        more = _place(request, more_headers)
        try:
            _check_dates(request)
            return await handler(request)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            body = {"error": _text(error), "code": _code(error)}
            return respond(request, error.status, body, {**more, **_kept(error)})
        except Exception as error:
            if request.writer.output_size > 0:
                raise
            for base in type(error).__mro__:
                if base in table:
                    status, body = _described(error, table[base])
                    return respond(request, status, body, {**more, **_retry_after(error)})
            log.exception("unhandled error")
            body = {"error": "Internal server error", "code": "internal_error"}
            return respond(request, 500, body, more)

    return middleware


def _place(request: web.Request, key: web.RequestKey[dict[str, str]] | None) -> dict[str, str]:
    """A dictionary that inner middlewares find under *key*."""
    place: dict[str, str] = {}
    if key is not None:
        request[key] = place
    return place


def _check_dates(request: web.Request) -> None:
    """Check that aiohttp 3.14, which fails on years past 9999, can read the request's dates."""
    # Most requests have no dates, and a loop over the three names would take longer.
    headers = request.headers
    if not (
        hdrs.IF_MODIFIED_SINCE in headers
        or hdrs.IF_UNMODIFIED_SINCE in headers
        or hdrs.IF_RANGE in headers
    ):
        return
    try:
        _ = request.if_modified_since, request.if_unmodified_since, request.if_range
    except OverflowError:
        raise web.HTTPBadRequest(text="A date in the headers is out of range") from None


def _code(error: web.HTTPException) -> str:
    named: str | None = getattr(error, "code", None)
    if named is not None:
        return named
    # Python 3.13 renamed some statuses; the codes of these two are fixed.
    renamed = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large"}
    renamed[HTTPStatus.REQUEST_TIMEOUT] = "timeout"
    status = HTTPStatus(error.status)
    return renamed.get(status) or status.phrase.lower().replace(" ", "_").replace("-", "_")


def _text(error: web.HTTPException) -> str:
    default = f"{error.status}: {error.reason}"
    if error.text and error.text != default:
        return error.text
    return HTTPStatus(error.status).phrase


def _described(error: Exception, row: tuple[int, str, str]) -> tuple[int, dict[str, Any]]:
    """The status and the body of an exception, by its row of the table."""
    status, code, message = row
    detail = getattr(error, "detail", "")
    fields = getattr(error, "fields", {})
    return status, {"error": f"{message}: {detail}" if detail else message, "code": code, **fields}


def _kept(error: web.HTTPException) -> Mapping[str, str]:
    return {
        name: value
        for name, value in error.headers.items()
        if name.lower() not in ("content-type", "content-length")
    }


def _retry_after(error: Exception) -> Mapping[str, str]:
    seconds = getattr(error, "retry_after", None)
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}
