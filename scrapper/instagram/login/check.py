"""Checks with one request whether a session is alive, and which account it belongs to."""

import re

from scrapper.instagram.context import Context
from scrapper.instagram.page_refusal import refusal_of_page, route_of
from scrapper.instagram.tokens import find_tokens
from scrapper.instagram.verdict import Reason, Refused

__all__ = ["check_session"]

_MAX_OBJECT_BYTES = 20_000
_DTSG = b'"DTSGInitialData"'
_USERNAME = re.compile(rb'"username":\s?"([A-Za-z0-9._]{1,30})"')


def check_session(context: Context) -> str:
    """Return the account's user name from the start page, or "" if the page does not contain it.

    This takes one request. If the start page is a login form, or redirects to one, Instagram has
    ended the session.

    Raises:
        Refused: the session has ended, its account must be confirmed, Instagram cannot be queried
            now, or the page is not Instagram's.
        Exception: any exception that requests raises.
    """
    response = context.view("")
    refused = refusal_of_page(response, with_session=True, route=route_of(response.content))
    if refused is not None:
        raise refused
    response.raise_for_status()
    name = _username(response.content, context.cookies.get("ds_user_id", ""))
    if not (name or _DTSG in response.content or find_tokens(response.content)):
        raise Refused(Reason.CHANGED)
    return name


def _username(html: bytes, user_id: str) -> str:
    """Return the ``username`` from the JSON object that contains *user_id*, or "" if not found."""
    if not user_id.isascii() or not user_id.isdecimal():
        return ""
    # Some scripts in the page contain JSON inside a JSON string.
    plain = html.replace(b'\\"', b'"')
    for found in re.finditer(rb'"(?:id|pk|pk_id)":\s?"?%b"?[,}]' % user_id.encode(), plain):
        start = plain.rfind(b"{", max(0, found.start() - _MAX_OBJECT_BYTES), found.start())
        end = plain.find(b"}", found.end() - 1, found.end() + _MAX_OBJECT_BYTES)
        named = _USERNAME.search(plain, start, end) if -1 not in (start, end) else None
        if named:
            return named[1].decode()
    return ""
