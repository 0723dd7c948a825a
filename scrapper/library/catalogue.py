"""A SQLite catalogue of the stored posts, for searches and for listings of large libraries."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import structlog

from scrapper.errors import Busy
from scrapper.library.listing import Cursor, Usage, folders, folders_of, size_of
from scrapper.library.own_changes import OwnChanges
from scrapper.library.sqlite_file import SQLiteFile
from scrapper.library.stored import StoredPost, load
from scrapper.links import ShareLink, is_shortcode, pasted_link

__all__ = ["Catalogue", "Kind", "Search", "Sort"]

log = structlog.get_logger(__name__)

_VERSION = 3
_SCHEMA = """
CREATE TABLE posts (
    id INTEGER PRIMARY KEY,
    shortcode TEXT NOT NULL UNIQUE,
    inode INTEGER NOT NULL,
    stored_at REAL,
    taken_at REAL,
    owner TEXT,
    kept INTEGER,
    kind TEXT,
    bytes INTEGER,
    share TEXT
) STRICT;
CREATE INDEX newest ON posts (stored_at DESC, shortcode, bytes);
CREATE INDEX newest_of_owner ON posts (owner, stored_at DESC, shortcode);
CREATE INDEX newest_kept ON posts (kept, stored_at DESC, shortcode);
CREATE INDEX newest_of_kind ON posts (kind, stored_at DESC, shortcode);
CREATE INDEX latest ON posts (taken_at DESC, shortcode);
CREATE INDEX latest_of_owner ON posts (owner, taken_at DESC, shortcode);
CREATE INDEX latest_kept ON posts (kept, taken_at DESC, shortcode);
CREATE INDEX latest_of_kind ON posts (kind, taken_at DESC, shortcode);
CREATE INDEX by_shortcode ON posts (shortcode COLLATE NOCASE);
CREATE INDEX by_share_link ON posts (share) WHERE share IS NOT NULL;
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    description, people, tokenize = "unicode61 remove_diacritics 2"
);
CREATE TABLE state (synced INTEGER NOT NULL) STRICT
"""
# Short enough that a search succeeds or fails within two seconds.
_LOCK_TIMEOUT_SECONDS = 0.5
_BATCH_SIZE = 500
# Two changes within one tick of the file system's clock have the same modification time.
_TICK_SECONDS = 0.1
_MAX_WORDS = 20
_MAX_LINK_LENGTH = 4096
_LAST_CHARACTER = "\U0010ffff"


Kind = Literal["video", "image", "carousel"]
Sort = Literal["stored", "taken"]


@dataclass(frozen=True, slots=True)
class Search:
    """A search for posts; by default, it returns all posts, most recently stored first.

    Each word of ``text`` matches the beginning of a word in captions and in the names of owners,
    coauthors and tagged people. ``text`` also matches the beginning of a shortcode. If ``text`` is
    a link to a post, it matches only that post. ``owner`` is a user name. If ``sort`` is "taken",
    the most recently published posts come first, and posts without a known time last.
    """

    text: str = ""
    owner: str = ""
    kept: bool | None = None
    kind: Kind | Literal[""] = ""
    sort: Sort = "stored"

    def allows(self, stored: StoredPost) -> bool:
        """Return whether *stored* still matches the search's ``kept``.

        The post may have been kept or released since the catalogue was searched.
        """
        return self.kept is None or stored.kept == self.kept


class Catalogue:
    """A catalogue of the posts under *root*, in the database at *path*.

    The database is a cache, and is recreated if it is missing or damaged. Each :meth:`sync` adds
    the posts that any process has stored, and drops those that any process has removed. If only
    this process has changed the folder, *changes* lists the changed posts. Otherwise, a sync scans
    the whole folder. All methods block and are thread-safe, and raise the errors of *check* and of
    :class:`~scrapper.library.sqlite_file.SQLiteFile`.
    """

    def __init__(
        self,
        path: Path,
        root: Path,
        changes: OwnChanges | None = None,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = root
        self._changes = changes or OwnChanges(root)
        self._file = SQLiteFile(
            path,
            "catalogue",
            version=_VERSION,
            schema=_SCHEMA,
            shared=True,
            inspect=_check_words,
            migrate=_read_all_again,
            check=check,
            # A cache does not need to be flushed. After a power failure, it is checked, and
            # recreated if it is damaged.
            synchronous="OFF",
            patience=_LOCK_TIMEOUT_SECONDS,
        )
        self._complete_since = 0
        self._stale_lock = threading.Lock()
        self._stale: set[str] = set()

    @property
    def complete(self) -> bool:
        """Whether a sync has finished since the file was opened.

        Until then, posts may be missing from the catalogue.
        """
        return self._complete_since == self._file.openings != 0

    def refuse_newer(self) -> None:
        """Check, without opening the catalogue, that no later release wrote the file.

        Raises:
            NewerSchema: a later release wrote the file.
        """
        self._file.refuse_newer()

    def close(self) -> None:
        self._file.close()

    def invalidate(self, shortcode: str) -> None:
        """Make the next :meth:`sync` read the post again.

        Otherwise, the sync might miss a change, because a new folder may reuse the inode of an old
        one, and keeping a post does not change the inode of its folder.
        """
        with self._stale_lock:
            self._stale.add(shortcode)

    def sync(self, *, fill: bool = True) -> None:
        """Bring the catalogue up to date with the folders.

        A new catalogue is filled only if *fill* is true, because filling it may take a minute.

        Raises:
            Busy: the catalogue is new, and *fill* is false.
            OSError: the root cannot be read.
        """
        with self._stale_lock:
            stale, self._stale = self._stale, set()
        try:
            while not self._sync(stale, fill=fill):
                log.info("catalogue replaced during sync")
        except BaseException:
            with self._stale_lock:
                self._stale |= stale
            raise

    def _sync(self, stale: Set[str], *, fill: bool) -> bool:
        """Sync once; return False if the catalogue's file was replaced in the meantime."""
        changed_at = self._root.stat().st_mtime_ns
        inodes: dict[str, int] = {}
        with self._file.using() as database:
            opening = self._file.openings
            known = database.execute("SELECT synced FROM state").fetchone()
            if known == (changed_at,) and not stale:
                self._complete_since = opening
                return True
            if known is None and not fill:
                raise Busy(retry_after=1)
            ours = self._changes.between(known[0], changed_at) if known else None
            if ours is None:
                inodes = dict(database.execute("SELECT shortcode, inode FROM posts"))
        if ours is None:
            there = dict(folders(self._root))
            gone = inodes.keys() - there.keys()
            settled = time.time() - changed_at / 1e9 > _TICK_SECONDS
        else:
            stale = stale | ours
            there = dict(folders_of(self._root, stale))
            gone = stale - there.keys()
            settled = True
        with self._file.changing() as database:
            _delete(database, gone)
        changed = [
            (name, inode)
            for name, inode in there.items()
            if name in stale or inodes.get(name) != inode
        ]
        for start in range(0, len(changed), _BATCH_SIZE):
            batch = changed[start : start + _BATCH_SIZE]
            rows = [_read(self._root, name, inode) for name, inode in batch]
            with self._file.changing() as database:
                _upsert(database, rows)
        with self._file.changing() as database:
            if self._file.openings != opening:
                return False
            _mark_synced(database, changed_at if settled else 0)
        self._complete_since = opening
        return True

    def recheck(self) -> None:
        """Make the next :meth:`sync` reread all folders that did not contain a post.

        Otherwise, files added to such a folder later would go unnoticed.
        """
        with self._file.changing() as database:
            _delete_non_posts(database)

    def newest(self, number: int, after: Cursor | None, search: Search) -> list[Cursor]:
        """Return the cursors of up to *number* posts that match *search*, in its sort order.

        The list starts after the cursor *after*, or at the beginning if *after* is None.
        """
        text = _text_condition(search.text)
        if search.text and text is None:
            return []
        column = "taken_at" if search.sort == "taken" else "stored_at"
        conditions: list[tuple[str, tuple[Any, ...]]] = [(f"{column} IS NOT NULL", ())]
        if text is not None:
            conditions.append(text)
        if search.owner:
            conditions.append(("owner = ?", (search.owner.lower(),)))
        if search.kept is not None:
            conditions.append(("kept = ?", (search.kept,)))
        if search.kind:
            conditions.append(("kind = ?", (search.kind,)))
        if after is not None:
            # The first comparison lets SQLite start at the right place in the index.
            place = after.time, after.time, after.name
            conditions.append((f"{column} <= ? AND ({column} < ? OR shortcode > ?)", place))
        where = " AND ".join(condition for condition, _ in conditions)
        values = [value for _, parameters in conditions for value in parameters]
        with self._using_complete() as database:
            rows = database.execute(
                f"SELECT {column}, shortcode FROM posts WHERE {where} "  # noqa: S608 - constants
                f"ORDER BY {column} DESC, shortcode LIMIT ?",
                [*values, number],
            )
            return [Cursor(*row) for row in rows]

    def usage(self) -> Usage:
        """Count the posts, and add up the sizes of their files."""
        with self._using_complete() as database:
            row = database.execute(
                "SELECT count(*), coalesce(sum(bytes), 0) FROM posts WHERE stored_at IS NOT NULL"
            ).fetchone()
            return Usage(*row)

    @contextmanager
    def _using_complete(self) -> Iterator[sqlite3.Connection]:
        with self._file.using() as database:
            if not self.complete:
                raise Busy(retry_after=1)
            yield database


def _check_words(database: sqlite3.Connection) -> None:
    database.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def _delete(database: sqlite3.Connection, shortcodes: Iterable[str]) -> None:
    for shortcode in shortcodes:
        database.execute(
            "DELETE FROM words WHERE rowid = (SELECT id FROM posts WHERE shortcode = ?)",
            (shortcode,),
        )
        database.execute("DELETE FROM posts WHERE shortcode = ?", (shortcode,))


class _Row(NamedTuple):
    """A folder's name, its inode, the total size of its files in bytes, and its post, if any."""

    shortcode: str
    inode: int
    size: int
    stored: StoredPost | None


def _read(root: Path, shortcode: str, inode: int) -> _Row:
    stored, size = load(root / shortcode), 0
    # The folder may have been removed in the meantime.
    with suppress(OSError):
        size = size_of(root / shortcode)
    return _Row(shortcode, inode, size, stored)


def _upsert(database: sqlite3.Connection, rows: Iterable[_Row]) -> None:
    for shortcode, inode, size, stored in rows:
        _delete(database, [shortcode])
        # Folders without a post get a row, too. Otherwise, every sync would read them again.
        post = stored.post if stored else None
        row = database.execute(
            "INSERT INTO posts (shortcode, inode, stored_at, taken_at, owner, kept, kind, bytes, "
            "share) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                shortcode,
                inode,
                stored.stored_at if stored else None,
                max(0.0, post.taken_time or 0.0) if post else None,
                post.owner.lower() if post and post.owner else None,
                stored.kept if stored else None,
                post.kind if post else None,
                size,
                _share_path(post.original_url) if post else None,
            ),
        )
        if post is not None:
            details = post.details
            people = (post.owner, details.owner_name, *details.coauthors, *details.tagged)
            database.execute(
                "INSERT INTO words (rowid, description, people) VALUES (?, ?, ?)",
                (row.lastrowid, post.description, "\n".join(filter(None, people))),
            )


def _delete_non_posts(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM posts WHERE stored_at IS NULL")
    _mark_synced(database, 0)


def _mark_synced(database: sqlite3.Connection, changed_at: int) -> None:
    database.execute("DELETE FROM state")
    database.execute("INSERT INTO state VALUES (?)", (changed_at,))


def _read_all_again(database: sqlite3.Connection) -> None:
    """Make the next sync read every post again, because older schemas have fewer columns."""
    database.execute("UPDATE posts SET inode = -1")
    database.execute("DELETE FROM state")


def _text_condition(text: str) -> tuple[str, tuple[Any, ...]] | None:
    """Return the SQL condition for posts that match *text*, and the values of its parameters.

    Return None if no post can match.
    """
    link = pasted_link(text, max_length=_MAX_LINK_LENGTH)
    if isinstance(link, ShareLink):
        return "share = ?", (link.path,)
    if link is not None:
        return "shortcode = ?", (link,)
    queries, values = [], []
    if words := _fts_query(text):
        queries.append("SELECT rowid FROM words WHERE words MATCH ?")
        values.append(words)
    if is_shortcode(text):
        queries.append("SELECT id FROM posts WHERE shortcode COLLATE NOCASE BETWEEN ? AND ?")
        values += [text, text + _LAST_CHARACTER]
    return (f"id IN ({' UNION '.join(queries)})", tuple(values)) if queries else None


def _share_path(url: str) -> str | None:
    """Return the path of *url* if it is a share link; otherwise None."""
    link = pasted_link(url, max_length=_MAX_LINK_LENGTH)
    return link.path if isinstance(link, ShareLink) else None


def _fts_query(text: str) -> str:
    """Turn *text* into an FTS5 query without operators, which is empty if *text* has no words."""
    # SQLite ends the query at a NUL.
    parts = text.replace("\0", " ").split()
    words = [part for part in parts if any(map(str.isalnum, part))][:_MAX_WORDS]
    return " ".join('"{}"*'.format(word.replace('"', '""')) for word in words)
