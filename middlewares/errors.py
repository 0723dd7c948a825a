"""Every failure becomes a JSON answer."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["errors"]

log = logging.getLogger(__name__)


def errors(
    table: Mapping[type[Exception], tuple[int, str]],
    *,
    request_id: web.RequestKey[str] | None = None,
) -> Middleware:
    """Answer exceptions with JSON: ``{"error": text}``.

    ::

        from middlewares.errors import errors
        app = web.Application(middlewares=[errors({KeyError: (404, "No such thing")})])

    With *request_id*, the key under which the request keeps its ID, that is told too.

    *table* gives the status and the text of an exception by its type, or by the nearest of its
    bases. An exception's ``retry_after``, in seconds, becomes the header ``Retry-After``.
    aiohttp's own HTTP exceptions keep status, text and headers. Everything else is a 500 that
    tells the client nothing; its traceback is logged. What fails once an answer has begun is
    left to aiohttp, which logs it and breaks the connection: nothing else tells the client.
    """

    def answer(
        request: web.Request, status: int, text: str, headers: Mapping[str, str]
    ) -> web.Response:
        body = {"error": text}
        if request_id is not None and request_id in request:
            body["request_id"] = request[request_id]
        return web.json_response(body, status=status, headers=headers)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            return answer(request, error.status, _text(error), _kept(error))
        except Exception as error:
            if request.writer.output_size > 0:
                raise
            for base in type(error).__mro__:
                if base in table:
                    status, text = table[base]
                    return answer(request, status, text, _retry_after(error))
            log.exception("unhandled error")
            return answer(request, 500, "Internal server error", {})

    return middleware


def _text(error: web.HTTPException) -> str:
    default = f"{error.status}: {error.reason}"
    if error.text and error.text != default:
        return error.text
    return HTTPStatus(error.status).phrase


def _kept(error: web.HTTPException) -> Mapping[str, str]:
    return {
        name: value
        for name, value in error.headers.items()
        if name.lower() not in ("content-type", "content-length")
    }


def _retry_after(error: Exception) -> Mapping[str, str]:
    seconds = getattr(error, "retry_after", None)
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}
