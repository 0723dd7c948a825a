"""Opens, checks, migrates and replaces the service's SQLite files.

A file may be damaged, removed or replaced at any time, even while it is open. SQLite would not
notice, and would keep writing to the deleted file. Each use therefore first checks that the open
file is still the one at the path. If it is not, whatever is at the path is set aside under another
name, and a complete new file takes its place. There is one exception: if processes share the file
and its replacement is intact, they use the replacement. The journal is truncated after each
transaction and there is no write-ahead log, so between transactions all data is in one file.
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
from scrapper.library.disk import converting_disk_errors, delete, flush, identity, set_aside
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
# A file with a schema version this high must be damaged.
_VERSION_LIMIT = 1000
_PRIMARY_CODE = 0xFF
_KNOWN_ERRORS: dict[int, Callable[[], ScrapeError]] = {
    sqlite3.SQLITE_FULL: DiskFull,
    # The file was moved after our check, but before SQLite's. The next use will detect that.
    sqlite3.SQLITE_READONLY_DBMOVED: lambda: Busy(retry_after=1),
    sqlite3.SQLITE_READONLY: DiskReadOnly,
    sqlite3.SQLITE_BUSY: lambda: Busy(retry_after=1),
    sqlite3.SQLITE_LOCKED: lambda: Busy(retry_after=1),
}
# The operating system refused access; the file itself may be intact.
_SYSTEM_ERRORS = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
)
_DAMAGE_ERRORS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_STRICT_TABLES = (
    "SELECT name, sql FROM main.sqlite_master WHERE type = 'table' AND sql LIKE '%STRICT%'"
)
_RETRY_SECONDS = 0.05
_OPEN_TIMEOUT_SECONDS = 10.0


class NewerSchema(SettingsError):
    """A later release wrote the file; the message contains its path."""


class SQLiteFile:
    """The SQLite file at *path*, called *name* in logs. All methods block, and are thread-safe.

    *schema* contains the SQL statements that create the tables of schema *version*. All tables are
    STRICT. A file with an older schema is migrated: its tables are recreated with the current
    schema, the columns that both versions have are copied, and *migrate* does the rest. *inspect*
    raises :class:`ValueError` or :class:`sqlite3.DatabaseError` if the content is invalid. *fill*
    writes the initial content of a new file; its second argument is true if an earlier file was
    lost.

    If *shared* is true, other processes use the file, too. If a shared file has been replaced, the
    replacement is used. If a file that is not shared has been replaced, the replacement is set
    aside. *check* is called before the file is opened, and raises if its folder is gone.

    Each use may raise :class:`~scrapper.errors.Busy` if another program keeps the file locked for
    *patience* seconds, or if the file was damaged and has been recreated. It may also raise
    :class:`~scrapper.errors.DiskFull`, :class:`~scrapper.errors.DiskReadOnly`,
    :class:`NewerSchema`, :class:`~scrapper.errors.MediaFolderGone`, and :class:`OSError` or
    :class:`sqlite3.Error` if the file cannot be used for another reason. If a use raises an
    exception, the file is unchanged.
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
            raise SettingsError(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 is required")
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
        self._created = 0
        self.openings = 0
        """How many times a file was opened at the path; it may be a different file each time."""

    def open(self) -> None:
        """Open the file at startup; while it is locked, retry for up to ten seconds.

        Raises:
            SettingsError: the file cannot be used; the message contains its path.
        """
        deadline = time.monotonic() + _OPEN_TIMEOUT_SECONDS
        try:
            while True:
                try:
                    with self.using():
                        return
                except Busy:
                    if time.monotonic() > deadline:
                        raise
        except (ScrapeError, OSError, sqlite3.Error) as error:
            cause = response_to(error)[2] if isinstance(error, ScrapeError) else str(error)
            raise SettingsError(f"{self._path}: {cause}") from error

    def refuse_newer(self) -> None:
        """Check only that no later release wrote the file; the first use checks everything else.

        Call this only before the first use. Later, SQLite may hold locks on the file, which this
        method would release by closing the file.

        Raises:
            NewerSchema: a later release wrote the file.
        """
        with suppress(OSError), open_file(self._path) as file:
            header = file.read(_HEADER_BYTES)
            if header.startswith(_MAGIC):
                self._check_version(int.from_bytes(header[_VERSION_IN_HEADER], "big"))

    def close(self) -> None:
        """Close the file; if it was removed or replaced since its last use, recreate it first."""
        with self._lock:
            try:
                if self._database is not None and not self._is_in_place(self._database):
                    self._open()
            except (ScrapeError, SettingsError, OSError, sqlite3.Error) as error:
                log.error(f"{self._name} may be lost", file=str(self._path), cause=repr(error))  # noqa: TRY400
            self._close()

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, to one thread at a time."""
        if not self._lock.acquire(timeout=self._patience):
            raise Busy(retry_after=1)
        try:
            database = self._database
            if database is None or not self._is_in_place(database):
                database = self._open()
            created = self._created
            try:
                yield database
            except sqlite3.DatabaseError as error:
                if _code(error) in _DAMAGE_ERRORS:
                    self._open()
                    if self._created > created:
                        raise Busy(retry_after=1) from error
                raise
            finally:
                self._stamp = _stamp(self._path)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            known = _KNOWN_ERRORS.get(code) or _KNOWN_ERRORS.get(code & _PRIMARY_CODE)
            if known is not None:
                raise known() from error
            raise
        finally:
            self._lock.release()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a transaction, to one thread at a time."""
        with self.using() as database, database:
            database.execute("BEGIN IMMEDIATE")
            yield database

    def _is_in_place(self, database: sqlite3.Connection) -> bool:
        """Return whether the open file is still at the path, and still has the current schema."""
        if identity(self._path) != self._identity or any(map(_is_unusable, self._side_files())):
            return False
        if self._was_overwritten():
            return False
        try:
            [version] = database.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            if _code(error) in _DAMAGE_ERRORS:
                return False
            raise
        return bool(version == self._version)

    def _was_overwritten(self) -> bool:
        """Return whether another process has written to a file that is not shared."""
        return not self._shared and self._stamp is not None and _stamp(self._path) != self._stamp

    def _open(self) -> sqlite3.Connection:
        self._close()
        self._check()
        folder = self._path.parent
        with converting_disk_errors():
            if os.path.lexists(folder) and not folder.is_dir():
                set_aside(folder)
            folder.mkdir(exist_ok=True)
            found, _ = self._find()
            if found is None:
                with _locked(folder, self._patience):
                    # Another process may have created the file first.
                    found, fault = self._find()
                    if found is None:
                        self._create(fault)
                        found = self._connect()
        self._database = found
        self._identity, self._stamp = identity(self._path), _stamp(self._path)
        self.openings += 1
        return found

    def _find(self) -> tuple[sqlite3.Connection | None, str]:
        """Return two values: a connection to the file at the path, and what is wrong with the file.

        The first value is None if the file is unusable or missing. The second value is empty if the
        file is usable or never existed.
        """
        for path in filter(_is_unusable, self._side_files()):
            log.error(f"{self._name} unreadable: journal set aside", file=str(set_aside(path)))
        found = identity(self._path)
        if not os.path.lexists(self._path):
            # After a crash between the two renames in _create(), only the new file exists.
            existed = self._identity or os.path.lexists(self._new)
            return None, "removed" if existed else ""
        if not self._path.is_file():
            return None, "not a regular file"
        if not self._shared and self._identity not in (None, found):
            return None, "replaced by another file"
        if self._was_overwritten():
            return None, "overwritten"
        try:
            return self._connect(), ""
        except (sqlite3.DatabaseError, ValueError) as error:
            if _code(error) in (*_KNOWN_ERRORS, *_SYSTEM_ERRORS):
                raise
            return None, repr(error)

    def _create(self, fault: str) -> None:
        """Create a complete new file, set aside the old one, and move the new one to the path."""
        new = self._new
        delete(new)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(self._connect_unchecked(new)) as database, database:
                database.execute("BEGIN")
                self._make_tables(database)
                self._fill(database, bool(fault))
            # The old file's journal would otherwise be applied to the new file.
            aside = set_aside(self._path, _SIDE_FILES)
            new.replace(self._path)
        finally:
            delete(new)
        flush(self._path.parent)
        self._created += 1
        if os.path.lexists(aside):
            log.error(f"{self._name} unreadable: file set aside", cause=fault, file=str(aside))
        elif fault:
            log.error(f"{self._name} removed: file recreated", file=str(self._path))

    def _connect(self) -> sqlite3.Connection:
        database = self._connect_unchecked(self._path)
        try:
            [version] = database.execute("PRAGMA user_version").fetchone()
            self._check_version(version)
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
                raise sqlite3.DatabaseError("unexpected tables")
            self._inspect(database)
            database.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            database.close()
            raise
        return database

    def _check_version(self, version: int) -> None:
        if self._version < version < _VERSION_LIMIT:
            raise NewerSchema(
                f"{self._path}: a later release wrote this file (schema {version}; this release "
                f"supports {self._version}). Run that release, or move the file away"
            )

    def _connect_unchecked(self, path: Path) -> sqlite3.Connection:
        # Several threads use the connection, but only one at a time.
        database = sqlite3.connect(
            path, timeout=self._patience, check_same_thread=False, isolation_level=None
        )
        try:
            database.execute(f"PRAGMA synchronous = {self._synchronous}")
            # Some containers have no writable folder for temporary files.
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
        """Recreate the tables with the current schema; copy the columns that both versions have."""
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
                shared = ", ".join(
                    column for column in _columns(database, name) if column in columns
                )
                database.execute(
                    f"INSERT INTO main.{name} ({shared}) SELECT {shared} FROM old_{name}"  # noqa: S608 - constants
                )
                database.execute(f"DROP TABLE old_{name}")
            self._finish_migration(database)
        log.info(f"{self._name} migrated", file=str(self._path), schema=self._version)

    def _side_files(self) -> list[Path]:
        # If the path is a symbolic link, the side files are next to its target.
        path = os.path.realpath(self._path)
        return [Path(path + suffix) for suffix in _SIDE_FILES]

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None


@contextmanager
def _locked(folder: Path, patience: float) -> Iterator[None]:
    """Let only one process at a time create a file in *folder*."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy(retry_after=1) from None
            except OSError:
                # NFS does not support locks on folders.
                break
            time.sleep(_RETRY_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return a value that changes with each write to the file; None on an error."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _is_unusable(path: Path) -> bool:
    """Return whether SQLite must not open *path*, because it exists but is not a regular file."""
    return os.path.lexists(path) and not path.is_file()


def _strict_tables(database: sqlite3.Connection) -> dict[str, str]:
    return dict(database.execute(_STRICT_TABLES))


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA main.table_info({table})")]


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
