"""What is stored, in SQLite: for listings that do not look at every folder, and for searches."""

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
# A search succeeds or fails within two seconds.
_PATIENCE_SECONDS = 0.5
_AT_ONCE = 500
# Two changes within one tick of the file system's clock leave the same time.
_TICK_SECONDS = 0.1
_MOST_WORDS = 20
_MOST_LINK = 4096
_LAST_LETTER = "\U0010ffff"


Kind = Literal["video", "image", "carousel"]
Sort = Literal["stored", "taken"]


@dataclass(frozen=True, slots=True)
class Search:
    """Which posts are wanted; all of them, those stored last first, if no field is set.

    ``text`` is looked for in captions and in the names of owners, coauthors and tagged people; each
    of its words matches the beginning of a word there. The beginning of a shortcode is found, too,
    and the link of a post finds that post alone. ``owner`` is a user name. With ``sort`` "taken",
    the posts that were taken last come first, and posts without a known time last.
    """

    text: str = ""
    owner: str = ""
    kept: bool | None = None
    kind: Kind | Literal[""] = ""
    sort: Sort = "stored"

    def allows(self, stored: StoredPost) -> bool:
        """Whether *stored* is still kept, or not kept, as wanted: the mark may have changed."""
        return self.kept is None or stored.kept == self.kept


class Catalogue:
    """The posts under *root*, in the file at *path*; blocking, and for any thread.

    The file is a cache. It is recreated if it is missing or damaged, and each :meth:`sync` adds
    what was stored, and drops what was removed, by whatever process. The whole folder is compared
    only if something other than our own *changes* may have happened. Calls raise what a use of
    :class:`~scrapper.library.sqlite_file.SQLiteFile` raises, and what *check* raises.
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
            # A cache needs no flushing: after a power cut it is checked, and recreated if need be.
            synchronous="OFF",
            patience=_PATIENCE_SECONDS,
        )
        self._complete_since = 0
        self._suspects_lock = threading.Lock()
        self._suspects: set[str] = set()

    @property
    def complete(self) -> bool:
        """Whether every post has been read by now."""
        return self._complete_since == self._file.openings != 0

    def refuse_newer(self) -> None:
        """Look whether a later release wrote the file; the first use opens it.

        Raises:
            NewerSchema: a later release did.
        """
        self._file.refuse_newer()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def suspect(self, shortcode: str) -> None:
        """Make the next :meth:`sync` read the post again.

        Otherwise it may miss the change: a new folder may have the inode of an old one, and a mark
        does not change the inode.
        """
        with self._suspects_lock:
            self._suspects.add(shortcode)

    def sync(self, *, fill: bool = True) -> None:
        """Bring the catalogue up to date with the folders.

        A new file is filled only with *fill*, which may take a minute.

        Raises:
            Busy: the file is new, and is not to be filled.
            OSError: the root cannot be read.
        """
        with self._suspects_lock:
            suspects, self._suspects = self._suspects, set()
        try:
            while not self._sync(suspects, fill=fill):
                log.info("catalogue changed while it was filled")
        except BaseException:
            with self._suspects_lock:
                self._suspects |= suspects
            raise

    def _sync(self, suspects: Set[str], *, fill: bool) -> bool:
        """Return False if another file replaced the catalogue meanwhile."""
        changed_at = self._root.stat().st_mtime_ns
        inodes: dict[str, int] = {}
        with self._file.using() as database:
            opening = self._file.openings
            known = database.execute("SELECT synced FROM state").fetchone()
            if known == (changed_at,) and not suspects:
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
            suspects = suspects | ours
            there = dict(folders_of(self._root, suspects))
            gone = suspects - there.keys()
            settled = True
        with self._file.changing() as database:
            _forget(database, gone)
        news = [
            (name, inode)
            for name, inode in there.items()
            if name in suspects or inodes.get(name) != inode
        ]
        for start in range(0, len(news), _AT_ONCE):
            some = news[start : start + _AT_ONCE]
            rows = [_read(self._root, name, inode) for name, inode in some]
            with self._file.changing() as database:
                _note(database, rows)
        with self._file.changing() as database:
            if self._file.openings != opening:
                return False
            _mark_synced(database, changed_at if settled else 0)
        self._complete_since = opening
        return True

    def recheck(self) -> None:
        """Make the next :meth:`sync` look again at every folder that held no post.

        Otherwise :meth:`sync` would not notice files that were added since.
        """
        with self._file.changing() as database:
            _forget_non_posts(database)

    def newest(self, number: int, after: Cursor | None, search: Search) -> list[Cursor]:
        """The places of the first *number* posts of a *search* that come *after* a place."""
        text = _text(search.text)
        if search.text and text is None:
            return []
        moment = "taken_at" if search.sort == "taken" else "stored_at"
        wishes: list[tuple[str, tuple[Any, ...]]] = [(f"{moment} IS NOT NULL", ())]
        if text is not None:
            wishes.append(text)
        if search.owner:
            wishes.append(("owner = ?", (search.owner.lower(),)))
        if search.kept is not None:
            wishes.append(("kept = ?", (search.kept,)))
        if search.kind:
            wishes.append(("kind = ?", (search.kind,)))
        if after is not None:
            # The first condition lets SQLite begin at the right place of the index.
            place = after.time, after.time, after.name
            wishes.append((f"{moment} <= ? AND ({moment} < ? OR shortcode > ?)", place))
        where = " AND ".join(condition for condition, _ in wishes)
        values = [value for _, some in wishes for value in some]
        with self._using_whole() as database:
            rows = database.execute(
                f"SELECT {moment}, shortcode FROM posts WHERE {where} "  # noqa: S608 - constants
                f"ORDER BY {moment} DESC, shortcode LIMIT ?",
                [*values, number],
            )
            return [Cursor(*row) for row in rows]

    def usage(self) -> Usage:
        """How many posts there are, and the bytes of their files."""
        with self._using_whole() as database:
            row = database.execute(
                "SELECT count(*), coalesce(sum(bytes), 0) FROM posts WHERE stored_at IS NOT NULL"
            ).fetchone()
            return Usage(*row)

    @contextmanager
    def _using_whole(self) -> Iterator[sqlite3.Connection]:
        with self._file.using() as database:
            if not self.complete:
                raise Busy(retry_after=1)
            yield database


def _check_words(database: sqlite3.Connection) -> None:
    database.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def _forget(database: sqlite3.Connection, shortcodes: Iterable[str]) -> None:
    for shortcode in shortcodes:
        database.execute(
            "DELETE FROM words WHERE rowid = (SELECT id FROM posts WHERE shortcode = ?)",
            (shortcode,),
        )
        database.execute("DELETE FROM posts WHERE shortcode = ?", (shortcode,))


class _Row(NamedTuple):
    """A folder: its inode, the bytes of its files, and the post in it."""

    shortcode: str
    inode: int
    size: int
    stored: StoredPost | None


def _read(root: Path, shortcode: str, inode: int) -> _Row:
    stored, size = load(root / shortcode), 0
    # The folder may be removed meanwhile.
    with suppress(OSError):
        size = size_of(root / shortcode)
    return _Row(shortcode, inode, size, stored)


def _note(database: sqlite3.Connection, rows: Iterable[_Row]) -> None:
    for shortcode, inode, size, stored in rows:
        _forget(database, [shortcode])
        # Folders without a post are noted, too, so that they are not read again and again.
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
                _share_link(post.original_url) if post else None,
            ),
        )
        if post is not None:
            details = post.details
            people = (post.owner, details.owner_name, *details.coauthors, *details.tagged)
            database.execute(
                "INSERT INTO words (rowid, description, people) VALUES (?, ?, ?)",
                (row.lastrowid, post.description, "\n".join(filter(None, people))),
            )


def _forget_non_posts(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM posts WHERE stored_at IS NULL")
    _mark_synced(database, 0)


def _mark_synced(database: sqlite3.Connection, changed_at: int) -> None:
    database.execute("DELETE FROM state")
    database.execute("INSERT INTO state VALUES (?)", (changed_at,))


def _read_all_again(database: sqlite3.Connection) -> None:
    """Make the next :meth:`Catalogue.sync` read every post: earlier releases recorded less."""
    database.execute("UPDATE posts SET inode = -1")
    database.execute("DELETE FROM state")


def _text(text: str) -> tuple[str, tuple[Any, ...]] | None:
    """The SQL condition that a post matches *text*, and its values; None if no post can."""
    link = pasted_link(text, max_length=_MOST_LINK)
    if isinstance(link, ShareLink):
        return "share = ?", (link.path,)
    if link is not None:
        return "shortcode = ?", (link,)
    found, values = [], []
    if words := _words(text):
        found.append("SELECT rowid FROM words WHERE words MATCH ?")
        values.append(words)
    if is_shortcode(text):
        found.append("SELECT id FROM posts WHERE shortcode COLLATE NOCASE BETWEEN ? AND ?")
        values += [text, text + _LAST_LETTER]
    return (f"id IN ({' UNION '.join(found)})", tuple(values)) if found else None


def _share_link(url: str) -> str | None:
    """The path of the share link *url*; None if it is another link."""
    link = pasted_link(url, max_length=_MOST_LINK)
    return link.path if isinstance(link, ShareLink) else None


def _words(text: str) -> str:
    """*text* as a query of FTS5 without operators; empty if it has no word."""
    # For SQLite a NUL ends the query.
    some = text.replace("\0", " ").split()
    words = [word for word in some if any(map(str.isalnum, word))][:_MOST_WORDS]
    return " ".join('"{}"*'.format(word.replace('"', '""')) for word in words)
