"""Why a page of instagram.com is not what was asked for, by its status, redirect and route."""

import re
from http import HTTPStatus

import requests

from scrapper.instagram.verdict import Reason, Refused, reason_of_response

__all__ = ["refusal_of_page", "route_of"]

_ROUTE_KEY = b'"canonicalRouteName":'
_ROUTE = re.compile(_ROUTE_KEY + rb'\s?"([^"]{1,200})"')
_ERROR_ROUTE = b"PolarisErrorRoute"
_LOGIN_ROUTE = b"LoginHomepageRoute"


def refusal_of_page(
    response: requests.Response, *, with_session: bool, route: bytes | None
) -> Refused | None:
    """Why the page in *response* is not the one asked for; None if nothing says so.

    *route* is the page's, see :func:`route_of`.
    """
    match response.status_code:
        case HTTPStatus.OK:
            return _by_route(route, with_session)
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return Refused(Reason.GONE)
    refused = reason_of_response(response, with_session=with_session)
    if refused is not None and refused.reason is Reason.NEEDS_LOGIN:
        # Weaker evidence than the API's: a page also refuses an address that asked too much, or
        # sends it to the login form.
        return Refused(Reason.LOGIN_WALL)
    return refused


def route_of(html: bytes) -> bytes | None:
    """The route that a page names, as all pages of Instagram do; None for other pages."""
    # A page may be a megabyte long, and a search for a fixed text is faster than for a pattern.
    at = html.find(_ROUTE_KEY)
    found = _ROUTE.search(html, at) if at >= 0 else None
    return found[1] if found else None


def _by_route(route: bytes | None, with_session: bool) -> Refused | None:
    if route is None:
        return None
    if route.endswith(_ERROR_ROUTE):
        return Refused(Reason.GONE)
    if route.endswith(_LOGIN_ROUTE):
        return Refused(Reason.SESSION_ENDED if with_session else Reason.LOGIN_WALL)
    return None
