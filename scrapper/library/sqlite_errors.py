"""What an error of SQLite says: the file is damaged, or the disk refuses."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from scrapper.errors import DiskFull, DiskReadOnly

__all__ = ["is_refusal", "telling_refusals"]

_PRIMARY_CODE = 0xFF
_DISK = {sqlite3.SQLITE_FULL: DiskFull, sqlite3.SQLITE_READONLY: DiskReadOnly}
_REFUSALS = (
    *_DISK,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
)


def is_refusal(error: Exception) -> bool:
    """Whether the system refuses or another process has the file, which may itself be fine."""
    return _code(error) in _REFUSALS


@contextmanager
def telling_refusals() -> Iterator[None]:
    """Tell a disk that is full or read-only from other errors.

    Raises:
        DiskFull: the disk has no room.
        DiskReadOnly: it takes no writes.
    """
    try:
        yield
    except sqlite3.Error as error:
        refusal = _DISK.get(_code(error))
        if refusal is not None:
            raise refusal from error
        raise


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
