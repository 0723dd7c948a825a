"""Small JSON files in the state folder; a damaged file is treated as missing."""

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
"""The errors raised while reading damaged JSON, or JSON with values of the wrong type."""

_MAX_BYTES = 10_000

Content = TypeVar("Content")


class StateFile:
    """The JSON file at *path*. All methods block.

    *check* is called before each change, and raises if the folder is gone or was replaced. A file
    larger than *max_bytes* counts as damaged.
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
        """Prevent other processes from changing the file while the block runs.

        Raises:
            MediaFolderGone: the folder is gone.
            OSError: the file cannot be locked.
        """
        self._check()
        with locked(open_lock(self._path.with_suffix(".lock"))):
            yield

    def read(self, parse: Callable[[Any], Content]) -> Content | None:
        """Pass the decoded JSON to *parse* and return the result.

        Return None if the file is missing or damaged.
        """
        try:
            return parse(json.loads(read_file(self._path, self._max_bytes)))
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            log.warning("state file unreadable", file=self._path.name, cause=repr(error)[:200])
            return None

    def write(self, data: Any) -> None:
        """Replace the content with *data*, encoded as JSON.

        Raises:
            MediaFolderGone: the folder is gone.
            OSError: the file cannot be written.
        """
        self._check()
        write_atomically(self._path, json.dumps(data).encode())
