"""Sessions in files: a browser's cookies.txt, and Instaloader's own format."""

import os
import pickle
import stat
import time
from pathlib import Path
from typing import Any

__all__ = ["SessionFileError", "read_cookies_file", "read_session_file"]

_DOMAIN = "instagram.com"
_HTTP_ONLY = "#HttpOnly_"
_FIELDS = 7
_MAX_BYTES = 1_000_000
_UNREADABLE = (OSError, ValueError, pickle.UnpicklingError, EOFError, LookupError, TypeError)


class SessionFileError(Exception):
    """The file holds no session, or others could have written it; the text says which."""


def read_cookies_file(path: Path) -> dict[str, str]:
    """Instagram's cookies in a cookies.txt, by name.

    The format is Netscape's, as browsers' extensions write it: seven fields a line, separated by
    tabs, with ``#HttpOnly_`` in front of the domain of some. Expired cookies are left out; 0 as the
    time means that the cookie ends with the browser.

    Raises:
        SessionFileError: there is no ``sessionid`` in it, or others could have written it.
    """
    try:
        text = _read(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SessionFileError(f"{path}: {type(error).__name__}: {error}") from error
    cookies = {}
    for line in text.splitlines():
        fields = line.removeprefix(_HTTP_ONLY).split("\t")
        if len(fields) != _FIELDS or (line.startswith("#") and not line.startswith(_HTTP_ONLY)):
            continue
        domain, _, _, _, expires, name, value = fields
        host = domain.lstrip(".").lower()
        if (host == _DOMAIN or host.endswith(f".{_DOMAIN}")) and not _is_past(expires):
            cookies[name] = value
    return _checked(path, cookies)


def read_session_file(path: Path) -> dict[str, str]:
    """The cookies in a file that ``instaloader --login`` saved, by name.

    Raises:
        SessionFileError: it holds anything but a dictionary of texts, or no ``sessionid``, or
            others could have written it.
    """
    try:
        _read(path)
        with path.open("rb") as file:
            data = _TextsUnpickler(file).load()
        texts = {name: value for name, value in data.items() if _are_texts(name, value)}
    except (*_UNREADABLE, AttributeError) as error:
        raise SessionFileError(f"{path}: {type(error).__name__}: {error}") from error
    if len(texts) != len(data):
        raise SessionFileError(f"{path} holds something other than texts")
    return _checked(path, texts)


class _TextsUnpickler(pickle.Unpickler):
    """Unpickles plain data only: no class is ever looked up, so no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not a text")


def _read(path: Path) -> bytes:
    """The file's content, if nobody but its owner and us could have written it."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (0, os.getuid()):
            raise SessionFileError(f"{path} belongs to user {status.st_uid}, who could change it")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SessionFileError(f"{path} can be written by others: chmod 600 {path}")
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise SessionFileError(f"{path} is too large")
    return content


def _checked(path: Path, cookies: dict[str, str]) -> dict[str, str]:
    if not cookies.get("sessionid"):
        raise SessionFileError(f"{path} holds no sessionid of instagram.com")
    return cookies


def _is_past(expires: str) -> bool:
    try:
        moment = float(expires)
    except ValueError:
        return False
    return 0 < moment < time.time()


def _are_texts(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)
