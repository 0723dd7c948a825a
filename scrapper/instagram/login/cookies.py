"""Sessions in files: a browser's cookies, and Instaloader's own format."""

import io
import os
import pickle
import stat
from pathlib import Path
from typing import Any

from scrapper.instagram.login.cookie_texts import parse_cookies, with_session

__all__ = [
    "MAX_COOKIES_BYTES",
    "SessionFileError",
    "read_cookies_file",
    "read_private",
    "read_session_file",
]

MAX_COOKIES_BYTES = 1_000_000
"""The largest file that is read: a cookies.txt may hold the cookies of many sites."""

_UNREADABLE = (
    OSError,
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
    """Instagram's cookies in the file at *path*, by name; see :func:`parse_cookies`.

    Raises:
        SessionFileError: there is no ``sessionid`` in it, or others could have written it.
    """
    try:
        return parse_cookies(read_private(path))
    except (OSError, ValueError) as error:
        raise SessionFileError(f"{path}: {error}") from error


def read_session_file(path: Path) -> dict[str, str]:
    """The cookies in a file that ``instaloader --login`` saved, by name.

    Raises:
        SessionFileError: it holds anything but a dictionary of texts, or no ``sessionid``, or
            others could have written it.
    """
    try:
        data = _TextsUnpickler(io.BytesIO(read_private(path))).load()
        if not all(isinstance(text, str) for pair in data.items() for text in pair):
            raise ValueError("it holds something other than texts")
        return with_session(data)
    except _UNREADABLE as error:
        raise SessionFileError(f"{path}: {type(error).__name__}: {error}") from error


def read_private(path: Path) -> bytes:
    """The content of the file at *path*, if nobody but its owner and us could have written it.

    Raises:
        SessionFileError: others could have written it, or it is too large.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (0, os.getuid()):
            raise SessionFileError(f"{path} belongs to user {status.st_uid}, who could change it")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SessionFileError(f"{path} can be written by others: chmod 600 {path}")
        content = file.read(MAX_COOKIES_BYTES + 1)
    if len(content) > MAX_COOKIES_BYTES:
        raise SessionFileError(f"{path} is too large")
    return content


class _TextsUnpickler(pickle.Unpickler):
    """Unpickles plain data only: no class is ever looked up, so no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not a text")
