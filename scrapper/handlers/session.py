"""``/session``: a session cookie for the web page, in place of the API key."""

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from middlewares.api_key import unauthorized
from scrapper.access.sessions import COOKIE, MAX_AGE_SECONDS
from scrapper.handlers.openapi import Operation
from scrapper.handlers.request_bodies import parse_body, read_text
from scrapper.handlers.resources import API_KEYS, SESSIONS
from scrapper.serving.base_path import BASE_PATH

__all__ = ["begin_session", "end_session"]


class SessionRequest(BaseModel):
    """How long the session lasts."""

    model_config = ConfigDict(strict=True)

    keep: Annotated[
        bool, Field(description="Keep the session for 30 days, not just until the browser closes")
    ] = False


@Operation(
    id="beginSession",
    summary="Get a session cookie to use in place of the API key",
    tag="service",
    status=204,
    body=SessionRequest,
    body_required=False,
    errors=(400, 408),
)
async def begin_session(request: web.Request) -> web.Response:
    """Set a session cookie for the key in the request's headers.

    This needs the key itself; a session cookie is not enough. If the service has no keys, no cookie
    is set.
    """
    text = await read_text(request)
    body = parse_body(text, SessionRequest) if text else SessionRequest()
    response = web.Response(status=204)
    keys = request.app[API_KEYS]
    key = keys.carried_by(request)
    if key is None and keys.needed:
        raise unauthorized()
    if key is not None:
        response.set_cookie(
            COOKIE,
            request.app[SESSIONS].begin(key),
            max_age=MAX_AGE_SECONDS if body.keep else None,
            httponly=True,
            samesite="Strict",
            path=request.app[BASE_PATH].prefix_of(request) or "/",
            # A proxy that terminates TLS sends this header. A client that forges it only gets a
            # stricter cookie.
            secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
        )
    return response


@Operation(
    id="endSession",
    summary="End the session of the request's cookie",
    tag="service",
    status=204,
    errors=(507,),
)
async def end_session(request: web.Request) -> web.Response:
    """End the session permanently, and delete the cookie in the browser."""
    await request.app[SESSIONS].end(request)
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path=request.app[BASE_PATH].prefix_of(request) or "/")
    return response
