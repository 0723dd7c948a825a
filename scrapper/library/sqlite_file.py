"""A SQLite file of the service, and the one way to open, check, migrate and replace it.

The file may be damaged, removed or replaced at any moment, even while it is open: SQLite would go
on writing to a file that nobody finds again. So each use first checks that the path still leads to
the open file. If not, what is left there is set aside, and a new file appears at the path once it
is complete. The journal is truncated after each transaction, and there is no write-ahead log, so
everything is in one file between two transactions.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import structlog

from scrapper.errors import (
    Busy,
    DiskFull,
    DiskReadOnly,
    ScrapeError,
    SettingsError,
    response_to,
)
from scrapper.library.disk import delete, flush, identity, set_aside, storing
from scrapper.local_files.opening import open_file

__all__ = ["NewerSchema", "SQLiteFile"]

log = structlog.get_logger(__name__)

# https://www.sqlite.org/fileformat2.html#the_database_header
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_VERSION_IN_HEADER = slice(60, 64)
_SIDE_FILES = ("-journal", "-wal", "-shm")
_NEW = ".new"
_FIRST_WITH_STRICT = (3, 37)
# A greater version than this means damage.
_MOST_VERSIONS = 1000
_PRIMARY_CODE = 0xFF
_REFUSALS: dict[int, Callable[[], ScrapeError]] = {
    sqlite3.SQLITE_FULL: DiskFull,
    # The file was moved between our check and SQLite's: the next use notices.
    sqlite3.SQLITE_READONLY_DBMOVED: lambda: Busy(retry_after=1),
    sqlite3.SQLITE_READONLY: DiskReadOnly,
    sqlite3.SQLITE_BUSY: lambda: Busy(retry_after=1),
    sqlite3.SQLITE_LOCKED: lambda: Busy(retry_after=1),
}
# The system refuses; the file may be fine.
_FAULTS_OF_THE_SYSTEM = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
)
_SIGNS_OF_DAMAGE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_STRICT_TABLES = (
    "SELECT name, sql FROM main.sqlite_master WHERE type = 'table' AND sql LIKE '%STRICT%'"
)
_SECONDS_BETWEEN_TRIES = 0.05
_SECONDS_TO_START = 10.0


class NewerSchema(SettingsError):
    """A later release wrote the file; the text names it."""


class SQLiteFile:
    """The file at *path*, which holds the service's *name*; blocking, and for any thread.

    *schema* is the statements that make its tables, which are STRICT, as of *version*. A file of an
    earlier version is migrated: its tables are rebuilt with the rows and columns that they share,
    and *migrate* does the rest.
    *inspect* raises :class:`ValueError` or :class:`sqlite3.DatabaseError` if the content is not
    ours. *fill* writes the content of each new file; its second argument says whether an earlier
    file was lost. Other processes use a *shared* file, too, so a file that another process
    recreated is taken over; if the file is not *shared*, such a file is set aside. *check* raises
    if the folder is gone.

    A use raises :class:`~scrapper.errors.Busy` if another program has locked the file for
    *patience* seconds, or if it was damaged and has been recreated,
    :class:`~scrapper.errors.DiskFull`, :class:`~scrapper.errors.DiskReadOnly`, :class:`NewerSchema`
    or :class:`~scrapper.errors.MediaFolderGone`, and :class:`OSError` or :class:`sqlite3.Error` if
    the file cannot be used for another reason. A use that raises changes nothing.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        version: int,
        schema: str,
        shared: bool,
        fill: Callable[[sqlite3.Connection, bool], object] = lambda *_: None,
        inspect: Callable[[sqlite3.Connection], object] = lambda _: None,
        migrate: Callable[[sqlite3.Connection], object] = lambda _: None,
        check: Callable[[], None] = lambda: None,
        synchronous: str = "FULL",
        patience: float = 1.0,
    ) -> None:
        if sqlite3.sqlite_version_info < _FIRST_WITH_STRICT:
            raise SettingsError(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 is needed")
        self._path = path
        self._new = path.with_name(path.name + _NEW)
        self._name = name
        self._version = version
        self._schema = schema
        self._shared = shared
        self._fill = fill
        self._inspect = inspect
        self._finish_migration = migrate
        self._check = check
        self._synchronous = synchronous
        self._patience = patience
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._stamp: tuple[int, int] | None = None
        self._begun = 0
        self.openings = 0
        """How often the file was opened; after a change, the open file may be another one."""

    def open(self) -> None:
        """Open the file at the start; while it is locked, try again for ten seconds.

        Raises:
            SettingsError: the file cannot be used; the text names it.
        """
        end = time.monotonic() + _SECONDS_TO_START
        try:
            while True:
                try:
                    with self.using():
                        return
                except Busy:
                    if time.monotonic() > end:
                        raise
        except (ScrapeError, OSError, sqlite3.Error) as error:
            cause = response_to(error)[2] if isinstance(error, ScrapeError) else str(error)
            raise SettingsError(f"{self._path}: {cause}") from error

    def refuse_newer(self) -> None:
        """Look only whether a later release wrote the file; the first use looks at the rest.

        Call it before the first use: closing a file ends SQLite's locks on it.

        Raises:
            NewerSchema: a later release wrote it.
        """
        with suppress(OSError), open_file(self._path) as file:
            header = file.read(_HEADER_BYTES)
            if header.startswith(_MAGIC):
                self._compare(int.from_bytes(header[_VERSION_IN_HEADER], "big"))

    def close(self) -> None:
        """Close the file; if it was removed or replaced meanwhile, recreate it first."""
        with self._lock:
            try:
                if self._database is not None and not self._is_in_place(self._database):
                    self._open()
            except (ScrapeError, SettingsError, OSError, sqlite3.Error) as error:
                log.error(f"{self._name} may be lost", file=str(self._path), cause=repr(error))  # noqa: TRY400
            self._close()

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """The open file, for one thread."""
        if not self._lock.acquire(timeout=self._patience):
            raise Busy(retry_after=1)
        try:
            database = self._database
            if database is None or not self._is_in_place(database):
                database = self._open()
            begun = self._begun
            try:
                yield database
            except sqlite3.DatabaseError as error:
                if _code(error) in _SIGNS_OF_DAMAGE:
                    self._open()
                    if self._begun > begun:
                        raise Busy(retry_after=1) from error
                raise
            finally:
                self._stamp = _stamp(self._path)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            refusal = _REFUSALS.get(code) or _REFUSALS.get(code & _PRIMARY_CODE)
            if refusal is not None:
                raise refusal() from error
            raise
        finally:
            self._lock.release()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """The open file, for one thread and one transaction."""
        with self.using() as database, database:
            database.execute("BEGIN IMMEDIATE")
            yield database

    def _is_in_place(self, database: sqlite3.Connection) -> bool:
        """Whether the path leads to the open file, and the file is one of ours."""
        if identity(self._path) != self._identity or any(map(_is_unusable, self._side_files())):
            return False
        if self._was_overwritten():
            return False
        try:
            [version] = database.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            if _code(error) in _SIGNS_OF_DAMAGE:
                return False
            raise
        return bool(version == self._version)

    def _was_overwritten(self) -> bool:
        """Whether another process wrote into a file that is not shared, since its last use."""
        return not self._shared and self._stamp is not None and _stamp(self._path) != self._stamp

    def _open(self) -> sqlite3.Connection:
        self._close()
        self._check()
        folder = self._path.parent
        with storing():
            if os.path.lexists(folder) and not folder.is_dir():
                set_aside(folder)
            folder.mkdir(exist_ok=True)
            found, _ = self._find()
            if found is None:
                with _locked(folder, self._patience):
                    # Another process may have been faster.
                    found, fault = self._find()
                    if found is None:
                        self._begin(fault)
                        found = self._connect()
        self._database = found
        self._identity, self._stamp = identity(self._path), _stamp(self._path)
        self.openings += 1
        return found

    def _find(self) -> tuple[sqlite3.Connection | None, str]:
        """The file at the path, or why it cannot be used; empty if there never was a file."""
        for path in filter(_is_unusable, self._side_files()):
            log.error(f"{self._name} unreadable: journal set aside", file=str(set_aside(path)))
        found = identity(self._path)
        if not os.path.lexists(self._path):
            # A crash between the two renames of a new file leaves only the new one.
            was_there = self._identity or os.path.lexists(self._new)
            return None, "removed" if was_there else ""
        if not self._path.is_file():
            return None, "not a regular file"
        if not self._shared and self._identity not in (None, found):
            return None, "another file in its place"
        if self._was_overwritten():
            return None, "overwritten"
        try:
            return self._connect(), ""
        except (sqlite3.DatabaseError, ValueError) as error:
            if _code(error) in (*_REFUSALS, *_FAULTS_OF_THE_SYSTEM):
                raise
            return None, repr(error)

    def _begin(self, fault: str) -> None:
        """Put a new file at the path, with everything in it, and set aside what is there."""
        new = self._new
        delete(new)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(self._plain(new)) as database, database:
                database.execute("BEGIN")
                self._make_tables(database)
                self._fill(database, bool(fault))
            # The journal belongs to the old file, but would be applied to the new one.
            aside = set_aside(self._path, _SIDE_FILES)
            new.replace(self._path)
        finally:
            delete(new)
        flush(self._path.parent)
        self._begun += 1
        if os.path.lexists(aside):
            log.error(f"{self._name} unreadable: file set aside", cause=fault, file=str(aside))
        elif fault:
            log.error(f"{self._name} removed: file recreated", file=str(self._path))

    def _connect(self) -> sqlite3.Connection:
        database = self._plain(self._path)
        try:
            [version] = database.execute("PRAGMA user_version").fetchone()
            self._compare(version)
            database.execute("PRAGMA journal_mode = TRUNCATE")
            if not 0 <= version <= self._version:
                raise sqlite3.DatabaseError(f"schema {version}")
            if version < self._version:
                self._migrate(database)
            for check in ("integrity_check", "foreign_key_check"):
                found = database.execute(f"PRAGMA {check}").fetchone()
                if found not in (None, ("ok",)):
                    raise sqlite3.DatabaseError(f"{check}: {found}")
            if not self._tables().items() <= _strict_tables(database).items():
                raise sqlite3.DatabaseError("other tables")
            self._inspect(database)
            database.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            database.close()
            raise
        return database

    def _compare(self, version: int) -> None:
        if self._version < version < _MOST_VERSIONS:
            raise NewerSchema(
                f"{self._path}: a later release wrote it (schema {version}, this one knows "
                f"{self._version}): run that release, or move the file away"
            )

    def _plain(self, path: Path) -> sqlite3.Connection:
        # Calls come from several threads, one at a time.
        database = sqlite3.connect(
            path, timeout=self._patience, check_same_thread=False, isolation_level=None
        )
        try:
            database.execute(f"PRAGMA synchronous = {self._synchronous}")
            # Some containers have nowhere to put a temporary file.
            database.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            database.close()
            raise
        return database

    def _make_tables(self, database: sqlite3.Connection) -> None:
        for statement in self._schema.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {self._version}")

    def _tables(self) -> dict[str, str]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
            self._make_tables(database)
            return _strict_tables(database)

    def _migrate(self, database: sqlite3.Connection) -> None:
        """Rebuild the tables with the rows and columns that are there."""
        with database:
            database.execute("BEGIN IMMEDIATE")
            old = {name: _columns(database, name) for name in self._tables()}
            old = {name: columns for name, columns in old.items() if columns}
            if not old:
                raise sqlite3.DatabaseError("no tables")
            for name in old:
                database.execute(f"CREATE TEMP TABLE old_{name} AS SELECT * FROM main.{name}")  # noqa: S608
                database.execute(f"DROP TABLE main.{name}")
            self._make_tables(database)
            for name, columns in old.items():
                shared = ", ".join(it for it in _columns(database, name) if it in columns)
                database.execute(
                    f"INSERT INTO main.{name} ({shared}) SELECT {shared} FROM old_{name}"  # noqa: S608 - constants
                )
                database.execute(f"DROP TABLE old_{name}")
            self._finish_migration(database)
        log.info(f"{self._name} migrated", file=str(self._path), schema=self._version)

    def _side_files(self) -> list[Path]:
        # If the path is a link, the side files are beside the file that it leads to.
        path = os.path.realpath(self._path)
        return [Path(path + suffix) for suffix in _SIDE_FILES]

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None


@contextmanager
def _locked(folder: Path, patience: float) -> Iterator[None]:
    """Let one process at a time create a file in *folder*."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Busy(retry_after=1) from None
            except OSError:
                # NFS locks no folders.
                break
            time.sleep(_SECONDS_BETWEEN_TRIES)
        yield
    finally:
        os.close(descriptor)


def _stamp(path: Path) -> tuple[int, int] | None:
    """A value that changes whenever somebody writes into the file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _is_unusable(path: Path) -> bool:
    """Whether there is something at *path* that SQLite must not open."""
    return os.path.lexists(path) and not path.is_file()


def _strict_tables(database: sqlite3.Connection) -> dict[str, str]:
    return dict(database.execute(_STRICT_TABLES))


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA main.table_info({table})")]


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
