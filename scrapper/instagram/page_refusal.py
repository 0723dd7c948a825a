"""Why a page of instagram.com is not what was asked for, by its status, redirect and route."""

import re
from http import HTTPStatus

import requests

from scrapper.instagram.verdict import (
    Reason,
    Refused,
    reason_of_redirect,
    reason_of_response,
    retry_after_of,
)

__all__ = ["has_route", "refusal_of_page"]

_ROUTE = re.compile(rb'"canonicalRouteName":\s?"([^"]{1,200})"')
_ERROR_ROUTE = b"PolarisErrorRoute"
_LOGIN_ROUTE = b"LoginHomepageRoute"


def refusal_of_page(response: requests.Response, *, with_session: bool) -> Refused | None:
    """Why the page in *response* is not the one asked for; None if nothing says so."""
    if response.is_redirect:
        return reason_of_redirect(response, with_session=with_session, page=True)
    match response.status_code:
        case HTTPStatus.OK:
            return _by_route(response.content, with_session)
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return Refused(Reason.GONE)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Refused(Reason.RATE_LIMITED, retry_after=retry_after_of(response))
    refused = reason_of_response(response, with_session=with_session) or Refused(Reason.CHANGED)
    if refused.reason is Reason.NEEDS_LOGIN:
        # Weaker than the API's word: a page also refuses an address that asked too much.
        return Refused(Reason.LOGIN_WALL)
    return refused


def has_route(html: bytes) -> bool:
    """Whether the page names its route, as each of Instagram's own does."""
    return _ROUTE.search(html) is not None


def _by_route(html: bytes, with_session: bool) -> Refused | None:
    found = _ROUTE.search(html)
    if found is None:
        return None
    if found[1].endswith(_ERROR_ROUTE):
        return Refused(Reason.GONE)
    if found[1].endswith(_LOGIN_ROUTE):
        return Refused(Reason.SESSION_ENDED if with_session else Reason.LOGIN_WALL)
    return None
