"""Which posts, login states and conditions each plugin has got: in SQLite, across restarts."""

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
"""The ledger's name in the state folder."""

Outcome = Literal["done", "failed", "begun", "skipped"]
"""What a plugin did with a post. ``begun``: the call is not over, a crash interrupted it, or it is
to be tried again. ``skipped``: the post was stored before the plugin was in use."""

NO_VERSION = 0
"""No stored post has this version."""

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
    """The ledger in the SQLite file at *path*; blocking, and for any thread.

    A post has a version, which changes when it is stored again. A plugin that is new here starts
    with the posts that are stored from then on. If the file is damaged, removed or replaced, it is
    recreated, and every plugin is notified of every post again: no post is lost.

    Calls raise what a use of :class:`~scrapper.library.sqlite_file.SQLiteFile` raises; *check*
    is called before the file is opened or made.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._file = SQLiteFile(
            path,
            "ledger of plugins",
            version=_VERSION,
            schema=_SCHEMA,
            shared=True,
            fill=_note_loss,
            check=check,
        )

    def open(self) -> None:
        """Open the file at the start.

        Raises:
            SettingsError: the file cannot be used.
        """
        self._file.open()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def unknown(self, plugins: Iterable[str]) -> set[str]:
        """The names among *plugins* that are new to the ledger."""
        with self._file.using() as database:
            return set(plugins) - {name for (name,) in database.execute("SELECT name FROM plugins")}

    def begin(self, plugins: Iterable[str], posts: Mapping[str, int]) -> bool:
        """Note new *plugins*, and the stored *posts*, by shortcode with their versions.

        The plugins skip these posts, unless an earlier ledger was lost. Return whether they skip
        them.
        """
        with self._file.changing() as database:
            [(lost,)] = database.execute("SELECT count(*) FROM lost")
            for plugin in plugins:
                insert = "INSERT OR IGNORE INTO plugins (name) VALUES (?)"
                if not database.execute(insert, (plugin,)).rowcount:
                    # Another process was faster: the plugin must get what was stored since.
                    continue
                if lost:
                    _insert_begun(database, plugin, posts)
                else:
                    _insert(database, plugin, posts, "skipped")
            database.execute("DELETE FROM lost")
        return not lost

    def begin_again(self, plugin: str, posts: Iterable[str]) -> None:
        """Note that *plugin* may know the *posts*, and must get those that are not noted yet."""
        with self._file.changing() as database:
            _insert_begun(database, plugin, posts)

    def posts(self, plugin: str) -> dict[str, int]:
        """The posts that *plugin* was notified of, failed on or skipped, with their versions."""
        with self._file.using() as database:
            return dict(
                database.execute("SELECT shortcode, version FROM posts WHERE plugin = ?", (plugin,))
            )

    def entries(self, plugin: str, shortcodes: Sequence[str]) -> dict[str, tuple[int, Outcome]]:
        """The version and the outcome of each of these posts that *plugin* was notified of."""
        with self._file.using() as database:
            rows = database.execute(
                "SELECT shortcode, version, outcome FROM posts WHERE plugin = ? AND shortcode IN "
                "(SELECT value FROM json_each(?))",
                (plugin, json.dumps(shortcodes)),
            )
            return {shortcode: (version, outcome) for shortcode, version, outcome in rows}

    def note(self, plugin: str, *posts: tuple[str, int, Outcome]) -> None:
        """Note which versions of *posts* the plugin was notified of, and how that ended."""
        with self._file.changing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO posts VALUES (?, ?, ?, ?)",
                [(plugin, *post) for post in posts],
            )

    def conditions(self, plugin: str) -> dict[str, str]:
        """The conditions that *plugin* knows, by name, as texts."""
        with self._file.using() as database:
            return dict(
                database.execute("SELECT name, value FROM conditions WHERE plugin = ?", (plugin,))
            )

    def note_condition(self, plugin: str, name: str, value: str) -> None:
        """Note that *plugin* knows the condition called *name* as it is now."""
        with self._file.changing() as database:
            database.execute(
                "INSERT OR REPLACE INTO conditions VALUES (?, ?, ?)", (plugin, name, value)
            )

    def forget(self, plugin: str, shortcode: str) -> None:
        """Note that *plugin* knows that the post was removed."""
        with self._file.changing() as database:
            database.execute(
                "DELETE FROM posts WHERE plugin = ? AND shortcode = ?", (plugin, shortcode)
            )

    def forget_all(self, plugin: str) -> None:
        """Make *plugin* get every post again."""
        with self._file.changing() as database:
            database.execute("INSERT OR IGNORE INTO plugins (name) VALUES (?)", (plugin,))
            database.execute("DELETE FROM posts WHERE plugin = ?", (plugin,))
            database.execute("UPDATE plugins SET restarts = restarts + 1 WHERE name = ?", (plugin,))

    def edition(self, plugin: str) -> tuple[int, int]:
        """A value that changes when the posts noted here may no longer be those that *plugin*
        knows: when any process calls :meth:`forget_all`, and when the file is replaced.
        """
        with self._file.using() as database:
            row = database.execute(
                "SELECT restarts FROM plugins WHERE name = ?", (plugin,)
            ).fetchone()
            return self._file.openings, row[0] if row else 0

    def outcomes(self, plugin: str) -> Counter[str]:
        """The number of posts for each outcome."""
        with self._file.using() as database:
            rows = database.execute(
                "SELECT outcome, count(*) FROM posts WHERE plugin = ? GROUP BY outcome", (plugin,)
            )
            return Counter(dict(rows))


def _insert_begun(database: sqlite3.Connection, plugin: str, posts: Iterable[str]) -> None:
    # The plugin must get the posts' removal, too: an earlier ledger may have had them.
    _insert(database, plugin, dict.fromkeys(posts, NO_VERSION), "begun")


def _insert(
    database: sqlite3.Connection, plugin: str, posts: Mapping[str, int], outcome: Outcome
) -> None:
    database.executemany(
        "INSERT OR IGNORE INTO posts VALUES (?, ?, ?, ?)",
        [(plugin, shortcode, version, outcome) for shortcode, version in posts.items()],
    )


def _note_loss(database: sqlite3.Connection, lost: bool) -> None:
    if lost:
        database.execute("INSERT INTO lost VALUES (?)", (time.time(),))
