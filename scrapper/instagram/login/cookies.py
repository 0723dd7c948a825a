"""Reads sessions from files: a browser's cookies, and Instaloader's own format."""

import os
import pickle
import stat
from pathlib import Path

from scrapper.instagram.login.cookie_texts import parse_cookies, with_session
from scrapper.local_files.opening import read_file

__all__ = [
    "MAX_COOKIES_BYTES",
    "SessionFileError",
    "read_cookies_file",
    "read_private",
    "read_session_file",
]

MAX_COOKIES_BYTES = 1_000_000
"""The maximum size of a file in bytes; a cookies.txt may contain the cookies of many sites."""

# The opcodes of a pickled dictionary of strings, in all protocols. None of them can run code, and
# the time that they take is proportional to the length of the pickle.
_SAFE_OPCODES = (
    *("PROTO", "FRAME", "MARK", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "STOP"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
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
)


class SessionFileError(Exception):
    """The file is unreadable, contains no session, or can be modified by other users."""


def read_cookies_file(path: Path) -> dict[str, str]:
    """Return Instagram's cookies in the file at *path*, by name; see :func:`parse_cookies`.

    Raises:
        SessionFileError: the file is unreadable, has no ``sessionid``, or can be modified by other
            users.
    """
    try:
        return parse_cookies(read_private(path))
    except OSError as error:
        raise SessionFileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SessionFileError(f"{path}: {error}") from error


def read_session_file(path: Path) -> dict[str, str]:
    """Return the cookies in a file saved by ``instaloader --login``, by name.

    Raises:
        SessionFileError: the file is unreadable, does not contain a dictionary of strings with a
            ``sessionid``, or can be modified by other users.
    """
    try:
        data = pickle.loads(_checked_pickle(read_private(path, _MAX_PICKLE_BYTES)))  # noqa: S301 - only strings
        if not all(isinstance(text, str) for pair in data.items() for text in pair):
            raise ValueError("it contains something other than strings")
        return with_session(data)
    except OSError as error:
        raise SessionFileError(f"{path}: {error.strerror}") from error
    except _UNREADABLE as error:
        raise SessionFileError(f"{path}: {type(error).__name__}: {error}") from error


def read_private(path: Path, max_bytes: int = MAX_COOKIES_BYTES) -> bytes:
    """Return the content of the file at *path*, which must be owned by root or this user.

    Raises:
        SessionFileError: other users can modify the file.
        OSError: the file cannot be read, or has more than *max_bytes* bytes.
    """

    def check(status: os.stat_result) -> None:
        if status.st_uid not in (0, os.getuid()):
            raise SessionFileError(f"{path} belongs to user {status.st_uid}, who could change it")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SessionFileError(f"{path} is writable by other users: chmod 600 {path}")

    return read_file(path, max_bytes, check=check)


def _checked_pickle(content: bytes) -> bytes:
    """Return the pickle *content* if it creates only strings and dictionaries.

    Raises:
        ValueError: the pickle creates something else, or is damaged.
    """
    import pickletools  # noqa: PLC0415

    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        # For a huge memo index, pickle would allocate a huge amount of memory.
        is_far = opcode.name.endswith("PUT") and (argument or 0) > number
        if opcode.name not in _SAFE_OPCODES or is_far:
            raise ValueError("it contains something other than strings")
    return content
