"""``/login``: view, replace or remove the Instagram login; requires the API key."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from scrapper.handlers.openapi import Content, Operation
from scrapper.handlers.refusals import InvalidBody, KeyRequired
from scrapper.handlers.request_bodies import read_text
from scrapper.handlers.resources import API_KEYS, INSTAGRAM, SETTINGS
from scrapper.instagram.login.cookie_texts import SESSION_ID, parse_cookies
from scrapper.instagram.login.file import State
from scrapper.instagram.login.session import LoginState

__all__ = ["LoginResponse", "delete_login", "get_login", "login_json", "put_login"]


@dataclass(frozen=True, slots=True)
class LoginResponse:
    """The state of the Instagram login."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    state: Annotated[
        State,
        Field(
            description="`expired`: Instagram ended the session; `challenged`: Instagram wants "
            "the account confirmed in a browser"
        ),
    ]
    username: str | None
    since: Annotated[datetime | None, Field(description="When this state began")]


class LoginRequest(BaseModel):
    """A session, given as the value of Instagram's ``sessionid`` cookie."""

    # The compiled pattern takes over a megabyte of memory, so it is compiled at the first login.
    model_config = ConfigDict(strict=True, defer_build=True)

    sessionid: Annotated[
        str, Field(pattern=SESSION_ID, examples=["1234567890%3AaBcDeFgHiJkLmN%3A12"])
    ]


_COOKIES = Content(
    ("application/octet-stream",),
    {
        "type": "string",
        "format": "binary",
        "description": "A cookies.txt file, JSON exported by a browser extension, a `Cookie` "
        "header, or the value of the `sessionid` cookie",
    },
)


@Operation(
    id="getLogin",
    summary="Get the state of the Instagram login",
    tag="login",
    response=LoginResponse,
    errors=(403,),
)
async def get_login(request: web.Request) -> web.Response:
    """Return the state of the login, but never its cookies."""
    _check_key(request)
    login = request.app[INSTAGRAM].login
    # session() reloads the files if another process has changed them.
    await asyncio.to_thread(login.session)
    return _respond(login.state)


@Operation(
    id="putLogin",
    summary="Replace the Instagram login with a browser's cookies",
    tag="login",
    body=LoginRequest,
    file_body=_COOKIES,
    response=LoginResponse,
    errors=(400, 403, 408, 502, 507),
)
async def put_login(request: web.Request) -> web.Response:
    """Use the cookies in the body, if a request to Instagram shows that their session is valid."""
    _check_key(request)
    try:
        cookies = parse_cookies(await read_text(request))
    except ValueError as error:
        raise InvalidBody(text=str(error)) from None
    deadline = time.monotonic() + request.app[SETTINGS].scrape_timeout_seconds
    return _respond(await asyncio.to_thread(request.app[INSTAGRAM].log_in, cookies, deadline))


@Operation(
    id="deleteLogin",
    summary="Remove the Instagram login",
    tag="login",
    status=204,
    errors=(403, 507),
)
async def delete_login(request: web.Request) -> web.Response:
    _check_key(request)
    await asyncio.to_thread(request.app[INSTAGRAM].login.forget)
    return web.Response(status=204)


def _check_key(request: web.Request) -> None:
    """Check that the service has a key.

    The ``api_key`` middleware has already checked the request's key. If the service had no key,
    anyone on the network could remove the login or replace it with their own.

    Raises:
        KeyRequired: the service has no key.
    """
    if not request.app[API_KEYS].needed:
        raise KeyRequired


def login_json(state: LoginState) -> bytes:
    """Convert the login's state to JSON."""
    since = None if state.since is None else datetime.fromtimestamp(int(state.since), UTC)
    body = LoginResponse(state.state, state.username, since)
    return orjson.dumps(body, option=orjson.OPT_UTC_Z)


def _respond(state: LoginState) -> web.Response:
    return web.Response(body=login_json(state), content_type="application/json")
