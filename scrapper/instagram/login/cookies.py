"""Sessions in files: a browser's cookies.txt, and Instaloader's own format."""

import os
import pickle
import pickletools
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from scrapper.local_files.opening import read_file

__all__ = [
    "MAX_COOKIES_BYTES",
    "SECRET_COOKIES",
    "SessionFileError",
    "parse_cookies",
    "read_cookies_file",
    "read_private",
    "read_session_file",
    "valid_cookies",
    "with_session",
]

MAX_COOKIES_BYTES = 1_000_000
"""The largest file that is read: a cookies.txt may hold the cookies of many sites."""

SECRET_COOKIES = ("sessionid", "csrftoken")
"""The cookies that open the account."""

# A shorter one could be a word of the log, from which it is removed.
_SHORTEST_SECRET = 8
_DOMAIN = "instagram.com"
_HTTP_ONLY = "#HttpOnly_"
_FIELDS = 7
_MAX_COOKIES = 100
# RFC 6265, section 4.1.1, and the double quote and comma that browsers let pass.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[!-:<-\[\]-~]{1,4096}")
# What a pickle of a dictionary of texts is made of, in all protocols. Nothing of it can run code,
# nest, or take longer than its length.
_OPCODES_OF_TEXTS = (
    *("PROTO", "FRAME", "MARK", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "STOP"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
)
_MAX_PICKLE_BYTES = 100_000
_UNREADABLE = (
    ValueError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)


class SessionFileError(Exception):
    """The file holds no session, or others could have written it; the text says which."""


def read_cookies_file(path: Path) -> dict[str, str]:
    """Instagram's cookies in the cookies.txt at *path*, by name.

    Raises:
        SessionFileError: there is no ``sessionid`` in it, or others could have written it.
    """
    try:
        return parse_cookies(read_private(path))
    except OSError as error:
        raise SessionFileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SessionFileError(f"{path}: {error}") from error


def parse_cookies(content: bytes) -> dict[str, str]:
    """Instagram's cookies in a cookies.txt, by name.

    The format is Netscape's, as browsers' extensions write it: seven fields a line, separated by
    tabs, with ``#HttpOnly_`` in front of the domain of some. Expired cookies are left out; 0 as the
    time means that the cookie ends with the browser.

    Raises:
        ValueError: it is not text, or there is no ``sessionid`` in it.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not a text file") from None
    cookies = {}
    for line in text.splitlines():
        fields = line.removeprefix(_HTTP_ONLY).split("\t")
        if len(fields) != _FIELDS or (line.startswith("#") and not line.startswith(_HTTP_ONLY)):
            continue
        domain, _, _, _, expires, name, value = fields
        host = domain.lstrip(".").lower()
        if (host == _DOMAIN or host.endswith(f".{_DOMAIN}")) and not _is_past(expires):
            cookies[name] = value
    return with_session(cookies)


def read_session_file(path: Path) -> dict[str, str]:
    """The cookies in a file that ``instaloader --login`` saved, by name.

    Raises:
        SessionFileError: it holds anything but a dictionary of texts, or no ``sessionid``, or
            others could have written it.
    """
    try:
        data = pickle.loads(_only_texts(read_private(path, _MAX_PICKLE_BYTES)))  # noqa: S301 - nothing but texts
        if not all(isinstance(text, str) for pair in data.items() for text in pair):
            raise ValueError("it holds something other than texts")
        return with_session(data)
    except OSError as error:
        raise SessionFileError(f"{path}: {error.strerror}") from error
    except _UNREADABLE as error:
        raise SessionFileError(f"{path}: {type(error).__name__}: {error}") from error


def valid_cookies(cookies: Mapping[Any, Any]) -> dict[str, str]:
    """Those of *cookies* that a header can carry, and no secret that is too short; 100 at most."""
    valid = {
        name: value
        for name, value in cookies.items()
        if isinstance(name, str)
        and isinstance(value, str)
        and _NAME.fullmatch(name)
        and _VALUE.fullmatch(value)
        and not _is_too_short(name, value)
    }
    # What opens the account comes first, so that the limit never drops it.
    names = sorted(valid, key=lambda name: name not in SECRET_COOKIES)
    return {name: valid[name] for name in names[:_MAX_COOKIES]}


def read_private(path: Path, most: int = MAX_COOKIES_BYTES) -> bytes:
    """The content of the file at *path*, if nobody but its owner and us could have written it.

    Raises:
        SessionFileError: others could have written it.
        OSError: it cannot be read, or is too large.
    """

    def check(status: os.stat_result) -> None:
        if status.st_uid not in (0, os.getuid()):
            raise SessionFileError(f"{path} belongs to user {status.st_uid}, who could change it")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SessionFileError(f"{path} can be written by others: chmod 600 {path}")

    return read_file(path, most, check=check)


def _only_texts(content: bytes) -> bytes:
    """*content*, a pickle, if it is a dictionary of texts and nothing else.

    Raises:
        ValueError: it is not, or is damaged.
    """
    dictionaries = 0
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        dictionaries += opcode.name in ("EMPTY_DICT", "DICT")
        # A place in the memory of texts that is far ahead would take as much memory.
        is_far = opcode.name.endswith("PUT") and (argument or 0) > number
        if opcode.name not in _OPCODES_OF_TEXTS or is_far or dictionaries > 1:
            raise ValueError("it holds something other than texts")
    return content


def with_session(cookies: Mapping[Any, Any]) -> dict[str, str]:
    """Those of *cookies* that are valid.

    Raises:
        ValueError: there is no ``sessionid`` among them, or a secret has fewer than 8 characters.
    """
    for name in SECRET_COOKIES:
        value = cookies.get(name)
        if isinstance(value, str) and value and _is_too_short(name, value):
            raise ValueError(f"its {name} has fewer than {_SHORTEST_SECRET} characters")
    valid = valid_cookies(cookies)
    if "sessionid" not in valid:
        raise ValueError("it holds no sessionid of instagram.com")
    return valid


def _is_too_short(name: str, value: str) -> bool:
    return name in SECRET_COOKIES and len(unquote(value)) < _SHORTEST_SECRET


def _is_past(expires: str) -> bool:
    try:
        moment = float(expires)
    except ValueError:
        return False
    return 0 < moment < time.time()
