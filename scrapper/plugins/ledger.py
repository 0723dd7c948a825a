"""A record in SQLite of the posts, login states and conditions that plugins were notified of."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from scrapper.library.sqlite_file import SQLiteFile

__all__ = ["LEDGER", "NO_VERSION", "Ledger", "Outcome"]

LEDGER = "plugins.sqlite3"
"""The file name of the ledger in the state folder."""

Outcome = Literal["done", "failed", "begun", "skipped"]
"""The outcome of a plugin's call for a post. ``begun``: the call is running, was interrupted by a
crash, or will be retried. ``skipped``: the post was stored before the plugin was
enabled.
"""

NO_VERSION = 0
"""A version that no stored post has."""

_VERSION = 3
_SCHEMA = """
CREATE TABLE plugins (name TEXT PRIMARY KEY, restarts INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE posts (
    plugin TEXT NOT NULL,
    shortcode TEXT NOT NULL,
    version INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (plugin, shortcode)
) STRICT, WITHOUT ROWID;
CREATE TABLE conditions (
    plugin TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (plugin, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE lost (at REAL NOT NULL) STRICT
"""


class Ledger:
    """The ledger in the SQLite file at *path*. Its methods block, and are thread-safe.

    A post's version changes when the post is stored again. A new plugin is notified only of
    posts that are stored from then on. If the file is damaged or removed, a new one is created, and
    every plugin is notified of every post again, so that it misses none.

    All methods raise the errors of :class:`~scrapper.library.sqlite_file.SQLiteFile`. *check* is
    called before the file is opened or created.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._file = SQLiteFile(
            path,
            "ledger of plugins",
            version=_VERSION,
            schema=_SCHEMA,
            shared=True,
            fill=_record_loss,
            check=check,
        )

    def open(self) -> None:
        """Open the file at startup.

        Raises:
            SettingsError: the file cannot be used.
        """
        self._file.open()

    def close(self) -> None:
        self._file.close()

    def unknown(self, plugins: Iterable[str]) -> set[str]:
        """Return the names of the *plugins* that are not in the ledger yet."""
        with self._file.using() as database:
            return set(plugins) - {name for (name,) in database.execute("SELECT name FROM plugins")}

    def begin(self, plugins: Iterable[str], posts: Mapping[str, int]) -> None:
        """Record new *plugins* and the stored *posts*, a mapping of shortcodes to versions.

        New plugins skip these posts, unless an earlier ledger was lost.
        """
        with self._file.changing() as database:
            [(lost,)] = database.execute("SELECT count(*) FROM lost")
            for plugin in plugins:
                insert = "INSERT OR IGNORE INTO plugins (name) VALUES (?)"
                if not database.execute(insert, (plugin,)).rowcount:
                    # Another process has added this plugin, which must get all posts stored since.
                    continue
                if lost:
                    _insert_begun(database, plugin, posts)
                else:
                    _insert(database, plugin, posts, "skipped")
            database.execute("DELETE FROM lost")

    def begin_again(self, plugin: str, posts: Iterable[str]) -> None:
        """Ensure that *plugin* is notified of the *posts* that have no entry, even if it was
        notified of them before.
        """
        with self._file.changing() as database:
            _insert_begun(database, plugin, posts)

    def posts(self, plugin: str) -> dict[str, int]:
        """Return the version of each post that has an entry for *plugin*, by shortcode."""
        with self._file.using() as database:
            return dict(
                database.execute("SELECT shortcode, version FROM posts WHERE plugin = ?", (plugin,))
            )

    def entries(self, plugin: str, shortcodes: Sequence[str]) -> dict[str, tuple[int, Outcome]]:
        """Return the version and outcome of those *shortcodes* that have an entry for *plugin*."""
        with self._file.using() as database:
            rows = database.execute(
                "SELECT shortcode, version, outcome FROM posts WHERE plugin = ? AND shortcode IN "
                "(SELECT value FROM json_each(?))",
                (plugin, json.dumps(shortcodes)),
            )
            return {shortcode: (version, outcome) for shortcode, version, outcome in rows}

    def record(self, plugin: str, *posts: tuple[str, int, Outcome]) -> None:
        """Record *posts* that *plugin* was notified of: shortcode, version and outcome of each."""
        with self._file.changing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO posts VALUES (?, ?, ?, ?)",
                [(plugin, *post) for post in posts],
            )

    def conditions(self, plugin: str) -> dict[str, str]:
        """Return the conditions that *plugin* was notified of: their JSON values by name."""
        with self._file.using() as database:
            return dict(
                database.execute("SELECT name, value FROM conditions WHERE plugin = ?", (plugin,))
            )

    def record_condition(self, plugin: str, name: str, value: str) -> None:
        """Record that *plugin* was notified of the condition *name* with this JSON *value*."""
        with self._file.changing() as database:
            database.execute(
                "INSERT OR REPLACE INTO conditions VALUES (?, ?, ?)", (plugin, name, value)
            )

    def forget(self, plugin: str, shortcode: str) -> None:
        """Remove the entry of a post that *plugin* need not be notified of any more."""
        with self._file.changing() as database:
            database.execute(
                "DELETE FROM posts WHERE plugin = ? AND shortcode = ?", (plugin, shortcode)
            )

    def forget_all(self, plugin: str) -> None:
        """Remove all entries of *plugin*, so that it gets every post again."""
        with self._file.changing() as database:
            database.execute("INSERT OR IGNORE INTO plugins (name) VALUES (?)", (plugin,))
            database.execute("DELETE FROM posts WHERE plugin = ?", (plugin,))
            database.execute("UPDATE plugins SET restarts = restarts + 1 WHERE name = ?", (plugin,))

    def generation(self, plugin: str) -> tuple[int, int]:
        """Return a value that changes whenever the entries of *plugin* are lost.

        Entries are lost when any process calls :meth:`forget_all`, or when the file is replaced.
        """
        with self._file.using() as database:
            row = database.execute(
                "SELECT restarts FROM plugins WHERE name = ?", (plugin,)
            ).fetchone()
            return self._file.openings, row[0] if row else 0

    def outcomes(self, plugin: str) -> Counter[str]:
        """Return the number of posts with each outcome for *plugin*."""
        with self._file.using() as database:
            rows = database.execute(
                "SELECT outcome, count(*) FROM posts WHERE plugin = ? GROUP BY outcome", (plugin,)
            )
            return Counter(dict(rows))


def _insert_begun(database: sqlite3.Connection, plugin: str, posts: Iterable[str]) -> None:
    # The plugin may have received these posts before the ledger was lost. Because of the new
    # entries, the plugin is also notified if a post is removed.
    _insert(database, plugin, dict.fromkeys(posts, NO_VERSION), "begun")


def _insert(
    database: sqlite3.Connection, plugin: str, posts: Mapping[str, int], outcome: Outcome
) -> None:
    database.executemany(
        "INSERT OR IGNORE INTO posts VALUES (?, ?, ?, ?)",
        [(plugin, shortcode, version, outcome) for shortcode, version in posts.items()],
    )


def _record_loss(database: sqlite3.Connection, lost: bool) -> None:
    if lost:
        database.execute("INSERT INTO lost VALUES (?)", (time.time(),))
