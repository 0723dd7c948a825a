"""A small JSON file in the state folder, which may be damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog

from scrapper.library.disk import write_atomically
from scrapper.local_files.opening import read_file

__all__ = ["UNREADABLE", "StateFile"]

log = structlog.get_logger(__name__)

UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""The errors that damaged JSON, or values of a wrong type in it, cause."""

_MAX_BYTES = 10_000

Content = TypeVar("Content")


class StateFile:
    """The JSON file at *path*; blocking.

    *check* is called before each change, and raises if the folder is gone or was replaced.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._check = check

    def read(self, parse: Callable[[Any], Content]) -> Content | None:
        """What *parse* makes of the JSON; None if the file is missing or damaged."""
        try:
            return parse(json.loads(read_file(self._path, _MAX_BYTES)))
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            log.warning("state file unreadable", file=self._path.name, cause=repr(error)[:200])
            return None

    def write(self, data: Any) -> None:
        """Put *data* in the place of what was there.

        Raises:
            MediaFolderGone: the folder is gone.
            OSError: it cannot be written.
        """
        self._check()
        write_atomically(self._path, json.dumps(data).encode())
