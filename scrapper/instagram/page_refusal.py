"""Determines why Instagram did not return the page that was requested.

The reason follows from the status, the target of a redirect, or the page's route.
"""

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
    """Return why *response* is not the requested page, or None if it seems to be that page.

    *route* is the page's route; see :func:`route_of`.
    """
    match response.status_code:
        case HTTPStatus.OK:
            return _by_route(route, with_session)
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return Refused(Reason.GONE)
    refused = reason_of_response(response, with_session=with_session)
    if refused is not None and refused.reason is Reason.NEEDS_LOGIN:
        # For a page, this proves little: Instagram also refuses pages after too many requests.
        return Refused(Reason.LOGIN_WALL)
    return refused


def route_of(html: bytes) -> bytes | None:
    """Return a page's route (the web app's name for the kind of page), or None if it has none."""
    # A page may be a megabyte long, and finding a fixed string is faster than a regex.
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
