"""A SQLite file that may be damaged, and is replaced then."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scrapper.library.sqlite_errors import is_refusal

__all__ = ["SQLiteFile"]


class SQLiteFile:
    """The SQLite file at *path*, opened when it is first used; blocking, and for any thread.

    *make* is called if there is no file. *prepare* makes the tables, or checks what is there, and
    raises :class:`sqlite3.DatabaseError` if the file is damaged. *replace* is called with the error
    of a damaged file, which is closed by then: it removes the file, or puts another in its place.
    """

    def __init__(
        self,
        path: Path,
        *,
        prepare: Callable[[sqlite3.Connection], None],
        replace: Callable[[Exception], None],
        make: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._prepare = prepare
        self._replace = replace
        self._make = make
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """The open file, for one thread.

        Raises:
            sqlite3.Error: the file cannot be used. A damaged one is replaced: try again.
        """
        with self._lock:
            try:
                if self._database is None:
                    self._database = self._open()
                yield self._database
            except sqlite3.DatabaseError as error:
                if not is_refusal(error):
                    self._close()
                    self._replace(error)
                raise

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """The open file, for one thread and one transaction.

        Raises:
            sqlite3.Error: nothing is changed.
        """
        with self.using() as database, database:
            database.execute("BEGIN IMMEDIATE")
            yield database

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            self._make()
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if is_refusal(error):
                raise
            self._replace(error)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self._path.is_dir():
            raise sqlite3.DatabaseError("a folder")
        # Calls come from several threads, one at a time.
        database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None
