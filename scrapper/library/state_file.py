"""A small JSON file in the state folder, which may be damaged."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog

from scrapper.library.disk import locked, open_lock, write_atomically
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

    *check* is called before each change, and raises if the folder is gone or was replaced. A file
    of more than *max_bytes* counts as damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        check: Callable[[], None] = lambda: None,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        self._path = path
        self._check = check
        self._max_bytes = max_bytes

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the file while the block runs.

        Raises:
            MediaFolderGone: the folder is gone.
            OSError: the file cannot be locked.
        """
        self._check()
        with locked(open_lock(self._path.with_suffix(".lock"))):
            yield

    def read(self, parse: Callable[[Any], Content]) -> Content | None:
        """What *parse* makes of the JSON; None if the file is missing or damaged."""
        try:
            return parse(json.loads(read_file(self._path, self._max_bytes)))
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            log.warning("state file unreadable", file=self._path.name, cause=repr(error)[:200])
            return None

    def write(self, data: Any) -> None:
        """Replace the content with *data*.

        Raises:
            MediaFolderGone: the folder is gone.
            OSError: the file cannot be written.
        """
        self._check()
        write_atomically(self._path, json.dumps(data).encode())
