"""Which plugin was told of which post and job: in SQLite, across restarts."""

import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import structlog

from scrapper.library.disk import delete
from scrapper.library.sqlite_errors import telling_refusals
from scrapper.library.sqlite_file import SQLiteFile

__all__ = ["LEDGER", "Ledger", "Outcome"]

LEDGER = "plugins.sqlite3"
"""The ledger's name in the state folder."""

log = structlog.get_logger(__name__)

Outcome = Literal["done", "failed", "begun", "skipped"]
"""What a plugin did with a post. ``begun``: the call is not over, a crash interrupted it, or it is
to be tried again. ``skipped``: the post was stored before the plugin was in use."""

_VERSION = 1
_SCHEMA = f"""
PRAGMA journal_mode = TRUNCATE;
CREATE TABLE IF NOT EXISTS plugins (name TEXT PRIMARY KEY, restarts INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS posts (
    plugin TEXT NOT NULL,
    shortcode TEXT NOT NULL,
    version INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (plugin, shortcode)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    plugin TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (plugin, job)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (at REAL NOT NULL);
PRAGMA user_version = {_VERSION};
"""
_SIDE_FILES = ("", "-journal")


class Ledger:
    """The ledger in the SQLite file at *path*; blocking, and for any thread.

    A post has a version, which changes when it is stored anew. A plugin that is new here starts
    with the posts that are stored from then on. If the file is damaged, it is made anew, and every
    plugin is told of every post again: none is lost.

    Calls raise :class:`~scrapper.errors.DiskFull` or :class:`~scrapper.errors.DiskReadOnly`, or
    :class:`sqlite3.Error` if the file cannot be used for another reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = SQLiteFile(path, prepare=_check, replace=self._begin_anew, make=self._begin)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def unknown(self, plugins: Iterable[str]) -> set[str]:
        """Those of the *plugins* that are new here."""
        with self._file.using() as database:
            return set(plugins) - {name for (name,) in database.execute("SELECT name FROM plugins")}

    def begin(self, plugins: Iterable[str], posts: Mapping[str, int]) -> bool:
        """Note new *plugins*, and the stored *posts*, by shortcode with their versions.

        The plugins skip these posts, unless an earlier ledger was lost. Return whether they skip
        them.
        """
        with self._changing() as database:
            [(lost,)] = database.execute("SELECT count(*) FROM lost")
            for plugin in plugins:
                insert = "INSERT OR IGNORE INTO plugins (name) VALUES (?)"
                if not database.execute(insert, (plugin,)).rowcount:
                    # Another process was faster: what was stored since is to be told.
                    continue
                if not lost:
                    database.executemany(
                        "INSERT OR IGNORE INTO posts VALUES (?, ?, ?, 'skipped')",
                        [(plugin, *post) for post in posts.items()],
                    )
            database.execute("DELETE FROM lost")
        return not lost

    def posts(self, plugin: str) -> dict[str, int]:
        """The posts that *plugin* was told of, failed with or skipped, with their versions."""
        with self._file.using() as database:
            return dict(
                database.execute("SELECT shortcode, version FROM posts WHERE plugin = ?", (plugin,))
            )

    def entry(self, plugin: str, shortcode: str) -> tuple[int, Outcome] | None:
        """The version of one post, and its outcome; None if *plugin* was not told of it."""
        with self._file.using() as database:
            row: tuple[int, Outcome] | None = database.execute(
                "SELECT version, outcome FROM posts WHERE plugin = ? AND shortcode = ?",
                (plugin, shortcode),
            ).fetchone()
            return row

    def note(self, plugin: str, shortcode: str, version: int, outcome: Outcome) -> None:
        """Note that *plugin* was told of the post, or failed with it."""
        with self._changing() as database:
            database.execute(
                "INSERT OR REPLACE INTO posts VALUES (?, ?, ?, ?)",
                (plugin, shortcode, version, outcome),
            )

    def forget(self, plugin: str, shortcode: str) -> None:
        """Note that *plugin* knows that the post was removed."""
        with self._changing() as database:
            database.execute(
                "DELETE FROM posts WHERE plugin = ? AND shortcode = ?", (plugin, shortcode)
            )

    def forget_all(self, plugin: str) -> None:
        """Have *plugin* be told of every post again."""
        with self._changing() as database:
            database.execute("INSERT OR IGNORE INTO plugins (name) VALUES (?)", (plugin,))
            database.execute("DELETE FROM posts WHERE plugin = ?", (plugin,))
            database.execute("UPDATE plugins SET restarts = restarts + 1 WHERE name = ?", (plugin,))

    def restarts(self, plugin: str) -> int:
        """How often :meth:`forget_all` was called for *plugin*, by whatever process."""
        with self._file.using() as database:
            row = database.execute(
                "SELECT restarts FROM plugins WHERE name = ?", (plugin,)
            ).fetchone()
            return int(row[0]) if row else 0

    def outcomes(self, plugin: str) -> Counter[str]:
        """How many posts have which outcome."""
        with self._file.using() as database:
            rows = database.execute(
                "SELECT outcome, count(*) FROM posts WHERE plugin = ? GROUP BY outcome", (plugin,)
            )
            return Counter(dict(rows))

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with telling_refusals(), self._file.changing() as database:
            yield database

    def _begin(self) -> None:
        # It appears whole, so that an empty file is a damaged one.
        with self._made(lost=False) as fresh:
            _put(fresh, self._path)

    @contextmanager
    def _made(self, *, lost: bool) -> Iterator[Path]:
        """A new file, which is removed at the end if it is still there."""
        fresh = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        try:
            with closing(sqlite3.connect(fresh, isolation_level=None)) as database:
                database.executescript(_SCHEMA)
                if lost:
                    database.execute("INSERT INTO lost VALUES (?)", (time.time(),))
            yield fresh
        finally:
            for suffix in _SIDE_FILES:
                delete(fresh.with_name(fresh.name + suffix))

    def _begin_anew(self, error: Exception) -> None:
        """Replace the damaged ledger by a new one that notes the loss, with a single rename."""
        log.error("plugins' ledger unreadable: made anew", cause=repr(error))
        with self._made(lost=True) as fresh:
            if self._path.is_dir():
                delete(self._path)
            # A journal belongs to the damaged file, and would be applied to the new one.
            delete(self._path.with_name(f"{self._path.name}-journal"))
            fresh.replace(self._path)


def _put(fresh: Path, path: Path) -> None:
    """Let *path* lead to *fresh*, unless another process was faster."""
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return
    except OSError:
        # Some file systems have no hard links.
        fresh.replace(path)


def _check(database: sqlite3.Connection) -> None:
    [version] = database.execute("PRAGMA user_version").fetchone()
    if version != _VERSION:
        raise sqlite3.DatabaseError(f"version {version}")
    database.execute("PRAGMA busy_timeout = 10000")
    if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("quick_check")
