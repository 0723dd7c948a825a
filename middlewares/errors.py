"""JSON responses, with machine-readable codes, for all errors."""

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
) -> Middleware:
    """Turn exceptions into JSON responses: ``{"error": message, "code": code}``.

    ::

        from middlewares.errors import errors
        table = {KeyError: (404, "no_such_thing", "No such thing")}
        app = web.Application(middlewares=[errors(table)])

    *request_id* is the request key under which the request's ID is stored. If it is given, the
    bodies contain the ID.

    *table* maps an exception's type, or the nearest of its base classes, to a status, a code and a
    message. An exception's ``retry_after``, in seconds, becomes the header ``Retry-After``. Its
    ``detail`` is appended to the message, and its ``fields`` are added to the body. aiohttp's own
    HTTP exceptions keep their status, text and headers. Their code is the attribute ``code``, or
    else the name of the status, such as ``not_found`` or ``method_not_allowed``. Every other
    exception becomes a 500 with the code ``internal_error`` and no details, and its traceback is
    logged. If a handler fails after its response has started, it is too late for an error response,
    so aiohttp logs the failure and closes the connection.
    """

    def respond(
        request: web.Request, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> web.Response:
        if request_id is not None and request_id in request:
            body = {**body, "request_id": request[request_id]}
        return web.json_response(body, status=status, headers=headers)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _check_dates(request)
            return await handler(request)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            body = {"error": _text(error), "code": _code(error)}
            return respond(request, error.status, body, _headers_to_keep(error))
        except Exception as error:
            if request.writer.output_size > 0:
                raise
            for base in type(error).__mro__:
                if base in table:
                    status, body = _response_to(error, table[base])
                    return respond(request, status, body, _retry_after(error))
            log.exception("unhandled error")
            body = {"error": "Internal server error", "code": "internal_error"}
            return respond(request, 500, body, {})

    return middleware


def _check_dates(request: web.Request) -> None:
    """Refuse dates after the year 9999, which make aiohttp 3.14 fail.

    Raises:
        web.HTTPBadRequest: a header has such a date.
    """
    # Unrolled because a loop over the names is slower, and most requests lack these headers.
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
    # Python 3.13 renamed some statuses, but their codes must stay the same.
    renamed = {
        HTTPStatus.REQUEST_TIMEOUT: "timeout",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "range_not_satisfiable",
    }
    status = HTTPStatus(error.status)
    return renamed.get(status) or status.phrase.lower().replace(" ", "_").replace("-", "_")


def _text(error: web.HTTPException) -> str:
    default = f"{error.status}: {error.reason}"
    if error.text and error.text != default:
        return error.text
    return HTTPStatus(error.status).phrase


def _response_to(error: Exception, row: tuple[int, str, str]) -> tuple[int, dict[str, Any]]:
    """Return the status and the body for an exception, according to its row of the table."""
    status, code, message = row
    detail = getattr(error, "detail", "")
    fields = getattr(error, "fields", {})
    return status, {"error": f"{message}: {detail}" if detail else message, "code": code, **fields}


def _headers_to_keep(error: web.HTTPException) -> Mapping[str, str]:
    return {
        name: value
        for name, value in error.headers.items()
        if name.lower() not in ("content-type", "content-length")
    }


def _retry_after(error: Exception) -> Mapping[str, str]:
    seconds = getattr(error, "retry_after", None)
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}
