"""What is stored, in SQLite: for listings that do not look at every folder, and for searches."""

import sqlite3
import threading
import time
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from scrapper.library.disk import delete
from scrapper.library.listing import Cursor, folders
from scrapper.library.sqlite_file import SQLiteFile
from scrapper.library.stored import StoredPost, load

__all__ = ["Catalogue", "Search"]

log = structlog.get_logger(__name__)

_VERSION = 1
_SCHEMA = f"""
PRAGMA journal_mode = TRUNCATE;
-- A cache needs no flushing: after a power cut it is checked, and made anew if it is damaged.
PRAGMA synchronous = OFF;
PRAGMA busy_timeout = 10000;
CREATE TABLE IF NOT EXISTS posts (
    id INTEGER PRIMARY KEY,
    shortcode TEXT NOT NULL UNIQUE,
    inode INTEGER NOT NULL,
    stored_at REAL,
    owner TEXT,
    kept INTEGER
);
CREATE INDEX IF NOT EXISTS newest ON posts (stored_at DESC, shortcode);
CREATE INDEX IF NOT EXISTS newest_of_owner ON posts (owner, stored_at DESC, shortcode);
CREATE INDEX IF NOT EXISTS newest_kept ON posts (kept, stored_at DESC, shortcode);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    description, people, tokenize = "unicode61 remove_diacritics 2"
);
CREATE TABLE IF NOT EXISTS state (synced INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
"""
_SIDE_FILES = ("", "-journal")
_AT_ONCE = 500
# Two changes within one tick of the file system's clock leave the same time.
_TICK_SECONDS = 0.1
_MOST_WORDS = 20


@dataclass(frozen=True, slots=True)
class Search:
    """Which posts are wanted; all of them if no field is set.

    ``text`` is looked for in captions and in the names of owners, coauthors and tagged people; each
    of its words matches the beginning of a word there. ``owner`` is a user name.
    """

    text: str = ""
    owner: str = ""
    kept: bool | None = None

    def allows(self, stored: StoredPost) -> bool:
        """Whether *stored* is kept or not as wanted: marks may have changed since the last look."""
        return self.kept is None or stored.kept == self.kept


class Catalogue:
    """The posts under *root*, in the file at *path*; blocking, and for any thread.

    The file is a cache. It is made anew if it is missing or damaged, and each :meth:`sync` adds
    what was stored, and drops what was removed, by whatever process.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        self._file = SQLiteFile(path, prepare=_prepare, replace=self._remove)
        self._suspects_lock = threading.Lock()
        self._suspects: set[str] = set()
        self.complete = False
        """Whether every post has been looked at by now."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def suspect(self, shortcode: str) -> None:
        """Have the next :meth:`sync` read the post again, whatever its folder looks like.

        A new folder may have the inode of an old one, and a mark changes neither.
        """
        with self._suspects_lock:
            self._suspects.add(shortcode)

    def sync(self) -> None:
        """Bring the catalogue up to date with the folders.

        Raises:
            OSError: the root cannot be read.
            sqlite3.Error: the file cannot be written.
        """
        with self._suspects_lock:
            suspects, self._suspects = self._suspects, set()
        try:
            self._sync(suspects)
        except BaseException:
            with self._suspects_lock:
                self._suspects |= suspects
            raise

    def _sync(self, suspects: Set[str]) -> None:
        changed_at = self._root.stat().st_mtime_ns
        with self._file.using() as database:
            known = database.execute("SELECT synced FROM state").fetchone()
            if known == (changed_at,) and not suspects:
                self.complete = True
                return
            inodes: dict[str, int] = dict(database.execute("SELECT shortcode, inode FROM posts"))
        settled = time.time() - changed_at / 1e9 > _TICK_SECONDS
        there = dict(folders(self._root))
        with self._file.changing() as database:
            _forget(database, inodes.keys() - there.keys())
        news = [
            (name, inode)
            for name, inode in there.items()
            if name in suspects or inodes.get(name) != inode
        ]
        for start in range(0, len(news), _AT_ONCE):
            some = news[start : start + _AT_ONCE]
            rows = [(name, inode, load(self._root / name)) for name, inode in some]
            with self._file.changing() as database:
                _note(database, rows)
        with self._file.changing() as database:
            _mark_synced(database, changed_at if settled else 0)
        self.complete = True

    def doubt(self) -> None:
        """Have the next :meth:`sync` look again at every folder that held no post.

        Files may have come into it since, which :meth:`sync` does not see.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        with self._file.changing() as database:
            _doubt(database)

    def newest(self, number: int, after: Cursor | None, search: Search) -> list[Cursor]:
        """The places of the *number* posts stored last, of those that come *after* a place.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        words = _words(search.text)
        if search.text and not words:
            return []
        wishes: list[tuple[str, tuple[Any, ...]]] = [("stored_at IS NOT NULL", ())]
        if words:
            wishes.append(("id IN (SELECT rowid FROM words WHERE words MATCH ?)", (words,)))
        if search.owner:
            wishes.append(("owner = ?", (search.owner.lower(),)))
        if search.kept is not None:
            wishes.append(("kept = ?", (search.kept,)))
        if after is not None:
            place = after.stored_at, after.stored_at, after.shortcode
            wishes.append(("(stored_at < ? OR (stored_at = ? AND shortcode > ?))", place))
        where = " AND ".join(condition for condition, _ in wishes)
        values = [value for _, some in wishes for value in some]
        with self._file.using() as database:
            rows = database.execute(
                f"SELECT stored_at, shortcode FROM posts WHERE {where} "  # noqa: S608 - constants
                "ORDER BY stored_at DESC, shortcode LIMIT ?",
                [*values, number],
            )
            return [Cursor(stored_at, shortcode) for stored_at, shortcode in rows]

    def _remove(self, error: Exception) -> None:
        log.warning("catalogue unreadable: made anew", cause=repr(error))
        self.complete = False
        for suffix in _SIDE_FILES:
            delete(self._path.with_name(self._path.name + suffix))


def _prepare(database: sqlite3.Connection) -> None:
    [version] = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise sqlite3.DatabaseError(f"version {version}")
    database.executescript(_SCHEMA)
    if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("quick_check")
    database.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def _forget(database: sqlite3.Connection, shortcodes: Iterable[str]) -> None:
    for shortcode in shortcodes:
        database.execute(
            "DELETE FROM words WHERE rowid = (SELECT id FROM posts WHERE shortcode = ?)",
            (shortcode,),
        )
        database.execute("DELETE FROM posts WHERE shortcode = ?", (shortcode,))


def _note(database: sqlite3.Connection, rows: Iterable[tuple[str, int, StoredPost | None]]) -> None:
    for shortcode, inode, stored in rows:
        _forget(database, [shortcode])
        # What is no post is noted, too, so that it is not read again and again.
        post = stored.post if stored else None
        row = database.execute(
            "INSERT INTO posts (shortcode, inode, stored_at, owner, kept) VALUES (?, ?, ?, ?, ?)",
            (
                shortcode,
                inode,
                stored.stored_at if stored else None,
                post.owner.lower() if post and post.owner else None,
                stored.kept if stored else None,
            ),
        )
        if post is not None:
            details = post.details
            people = (post.owner, details.owner_name, *details.coauthors, *details.tagged)
            database.execute(
                "INSERT INTO words (rowid, description, people) VALUES (?, ?, ?)",
                (row.lastrowid, post.description, "\n".join(filter(None, people))),
            )


def _doubt(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM posts WHERE stored_at IS NULL")
    _mark_synced(database, 0)


def _mark_synced(database: sqlite3.Connection, changed_at: int) -> None:
    database.execute("DELETE FROM state")
    database.execute("INSERT INTO state VALUES (?)", (changed_at,))


def _words(text: str) -> str:
    """*text* as a query of FTS5 that has no operators; empty if there is no word in it."""
    # SQLite takes a NUL for the end of the query.
    some = text.replace("\0", " ").split()
    words = [word for word in some if any(map(str.isalnum, word))][:_MOST_WORDS]
    return " ".join('"{}"*'.format(word.replace('"', '""')) for word in words)
