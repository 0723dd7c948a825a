"""Parses Instagram's cookies from text in any of the common formats.

The formats are: a cookies.txt (Netscape format), even if a web form turned its tabs into spaces;
the JSON that a browser extension exports; a ``Cookie`` header from the developer tools; and the
value of ``sessionid`` alone. The text is UTF-8, or UTF-16 as written by PowerShell.
"""

import codecs
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from scrapper.instagram.safe_json import parse_json

__all__ = ["SECRET_COOKIES", "SESSION_ID", "parse_cookies", "valid_cookies", "with_session"]

SECRET_COOKIES = ("sessionid", "csrftoken")
"""The cookies that give access to the account."""

SESSION_ID = r"^[0-9]{1,20}(:|%3[Aa])[!#-+.-:<-\[\]-~-]{1,2000}$"
"""The pattern of the value of ``sessionid``: the account's ID, followed by other parts."""

_EXPECTED = (
    "Copy one of these from a browser that is logged in to instagram.com: the text "
    "of a cookies.txt, the JSON that a cookie extension exports, the Cookie header of a "
    "request to instagram.com (developer tools, Network), or the value of the sessionid cookie "
    "(developer tools, Storage or Application)"
)
# The log redacts secrets. A shorter secret could be an ordinary word, which would be redacted, too.
_MIN_SECRET_CHARACTERS = 8
_DOMAIN = "instagram.com"
_HTTP_ONLY = "#HttpOnly_"
_FIELDS = 7
_FLAGS = ("TRUE", "FALSE")
_MAX_COOKIES = 100
# RFC 6265, section 4.1.1, plus the double quotes and commas that browsers accept.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[!-:<-\[\]-~]{1,4096}")
_HEADER = re.compile(r"^.{0,100}?\bcookie:\s*", re.IGNORECASE)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


class _Cookie(NamedTuple):
    name: Any
    value: Any
    domain: Any = _DOMAIN
    expires: Any = 0

    @property
    def is_for_instagram(self) -> bool:
        host = str(self.domain).removeprefix("https://").strip("./").lower()
        return host == _DOMAIN or host.endswith(f".{_DOMAIN}")

    @property
    def is_expired(self) -> bool:
        """Whether the cookie has expired. An expiry of 0 means that it has no expiry date."""
        try:
            return 0 < float(self.expires) < time.time()
        except (TypeError, ValueError):
            return False


def parse_cookies(content: bytes) -> dict[str, str]:
    """Return Instagram's cookies in *content*, by name, without expired ones.

    Raises:
        ValueError: *content* has no valid ``sessionid``; the message describes what to copy.
    """
    text = _text_of(content).strip()
    if text.startswith(("{", "[")):
        cookies = list(_in_json(text))
    elif re.fullmatch(SESSION_ID, text):
        cookies = [_Cookie("sessionid", text)]
    else:
        lines = text.splitlines()
        cookies = [*_in_lines(lines)] or [*_in_header(lines)]
    ours = [it for it in cookies if isinstance(it.name, str) and it.is_for_instagram]
    current = {cookie.name: cookie.value for cookie in ours if not cookie.is_expired}
    if "sessionid" not in current and any(cookie.name == "sessionid" for cookie in ours):
        raise ValueError(f"The sessionid cookie has expired. {_EXPECTED}")
    return with_session(current)


def valid_cookies(cookies: Mapping[Any, Any]) -> dict[str, str]:
    """Return the *cookies* that are valid in a header, at most 100 of them.

    Secret cookies that are too short are left out.
    """
    valid = {
        name: value
        for name, value in cookies.items()
        if isinstance(name, str)
        and isinstance(value, str)
        and _NAME.fullmatch(name)
        and _VALUE.fullmatch(value)
        and not _is_too_short(name, value)
    }
    # The secret cookies come first, so that the limit never drops them.
    names = sorted(valid, key=lambda name: name not in SECRET_COOKIES)
    return {name: valid[name] for name in names[:_MAX_COOKIES]}


def with_session(cookies: Mapping[Any, Any]) -> dict[str, str]:
    """Return the valid *cookies*, and derive a missing ``ds_user_id`` from ``sessionid``.

    Instagram needs both of these cookies.

    Raises:
        ValueError: there is no valid ``sessionid``, or a secret has fewer than 8 characters.
    """
    for name in SECRET_COOKIES:
        value = cookies.get(name)
        if isinstance(value, str) and value and _is_too_short(name, value):
            raise ValueError(
                f"The {name} cookie has fewer than {_MIN_SECRET_CHARACTERS} characters. {_EXPECTED}"
            )
    valid = valid_cookies(cookies)
    session = valid.get("sessionid")
    if session is None:
        raise ValueError(f"No sessionid cookie for instagram.com was found. {_EXPECTED}")
    if re.fullmatch(SESSION_ID, session):
        valid.setdefault("ds_user_id", unquote(session).partition(":")[0])
    return valid


def _is_too_short(name: str, value: str) -> bool:
    return name in SECRET_COOKIES and len(unquote(value)) < _MIN_SECRET_CHARACTERS


def _text_of(content: bytes) -> str:
    encodings = (name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark))
    encoding = next(encodings, "utf-8")
    if b"\0" in content[:2]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"The content is not text. {_EXPECTED}") from None


def _in_json(text: str) -> Iterator[_Cookie]:
    try:
        data = parse_json(text.encode())
    except ValueError:
        raise ValueError(f"The JSON is incomplete or invalid. {_EXPECTED}") from None
    exported = data.get("cookies") if isinstance(data, dict) else data
    if isinstance(exported, list):
        for one in exported:
            if isinstance(one, dict):
                yield _Cookie(
                    _first(one, "name", "Name raw"),
                    _first(one, "value", "Content raw"),
                    _first(one, "domain", "host", "Host raw") or _DOMAIN,
                    _first(one, "expirationDate", "expires", "Expires raw"),
                )
    else:
        values = exported if isinstance(exported, dict) else data
        for name, value in values.items():
            # The JSON may have been typed by hand, so check that the value is complete.
            if name != "sessionid" or re.fullmatch(SESSION_ID, str(value)):
                yield _Cookie(name, value)


def _first(data: Mapping[str, Any], *names: str) -> Any:
    return next((data[name] for name in names if name in data), None)


def _in_lines(lines: Iterable[str]) -> Iterator[_Cookie]:
    for line in lines:
        whole = line.strip(" ").removeprefix(_HTTP_ONLY)
        fields = whole.split("\t")
        if len(fields) != _FIELDS:
            fields = whole.split()
        is_comment = whole.startswith("#")
        if (
            len(fields) == _FIELDS
            and not is_comment
            and {fields[1].upper(), fields[3].upper()} <= {*_FLAGS}
        ):
            yield _Cookie(fields[5], fields[6], fields[0], fields[4])


def _in_header(lines: Iterable[str]) -> Iterator[_Cookie]:
    for line in lines:
        if "sessionid=" in line:
            for pair in _HEADER.sub("", line).split(";"):
                name, _, value = pair.strip().partition("=")
                yield _Cookie(name, value)
