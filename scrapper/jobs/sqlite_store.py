"""Jobs in a SQLite file, so that they survive a restart."""

import math
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import structlog

from scrapper.jobs.model import Job, JobPost, PostState, unix_time
from scrapper.jobs.webhooks import Delivery, Outcome
from scrapper.library.sqlite_errors import is_refusal, telling_refusals

__all__ = ["JobStore"]

log = structlog.get_logger(__name__)

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA foreign_keys = ON;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    client TEXT,
    keep INTEGER NOT NULL DEFAULT 0,
    webhook TEXT,
    announced INTEGER NOT NULL DEFAULT 0,
    webhook_outcome TEXT
);
CREATE TABLE IF NOT EXISTS posts (
    job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    url TEXT NOT NULL,
    shortcode TEXT,
    state TEXT NOT NULL,
    bytes_done INTEGER NOT NULL,
    bytes_total INTEGER,
    status INTEGER,
    error TEXT,
    retry_after INTEGER,
    code TEXT,
    next_try_at TEXT,
    waiting_since TEXT,
    PRIMARY KEY (job, position)
);
CREATE TABLE IF NOT EXISTS deliveries (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    body BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    due_at REAL NOT NULL,
    job TEXT NOT NULL DEFAULT '',
    noted_at REAL NOT NULL DEFAULT 0
);
"""
# Columns that earlier releases did not have.
_ADDED = (
    ("posts", "code", "TEXT"),
    ("jobs", "client", "TEXT"),
    ("posts", "next_try_at", "TEXT"),
    ("posts", "waiting_since", "TEXT"),
    ("jobs", "keep", "INTEGER NOT NULL DEFAULT 0"),
    ("jobs", "webhook", "TEXT"),
    ("jobs", "announced", "INTEGER NOT NULL DEFAULT 0"),
    ("jobs", "webhook_outcome", "TEXT"),
    ("deliveries", "job", "TEXT NOT NULL DEFAULT ''"),
    ("deliveries", "noted_at", "REAL NOT NULL DEFAULT 0"),
)
_COLUMNS = (
    "url, shortcode, state, bytes_done, bytes_total, status, error, retry_after, code, "
    "next_try_at, waiting_since"
)
_SAVE = (
    f"INSERT OR REPLACE INTO posts (job, position, {_COLUMNS}) "  # noqa: S608 - constants
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_DELIVERY_TYPES = (str, str, bytes, int, str, float, float)
_SIDE_FILES = ("", "-wal", "-shm", "-journal")
_STATES = get_args(PostState)
_TYPES: tuple[type | tuple[type, ...], ...] = (
    str,
    (str, type(None)),
    str,
    int,
    (int, type(None)),
    (int, type(None)),
    (str, type(None)),
    (int, type(None)),
    (str, type(None)),
    (str, type(None)),
    (str, type(None)),
)


class JobStore:
    """The jobs in the SQLite file at *path*; blocking, and for one thread at a time.

    Every change is on disk when its call returns. Calls raise
    :class:`~scrapper.errors.DiskFull` or :class:`~scrapper.errors.DiskReadOnly`, or
    :class:`sqlite3.Error` if the file cannot be read or written for another reason. A call that
    raises changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> list[Job]:
        """Open the file, or create it; return the jobs in it, oldest first.

        A post that was running is queued again. A file that is damaged, or is something else, is
        set aside: the posts that its jobs stored are not lost, the jobs are.

        Raises:
            OSError: a damaged file cannot be set aside.
            sqlite3.Error: the file cannot be written.
        """
        try:
            return self._open()
        except (sqlite3.DatabaseError, ValueError) as error:
            if is_refusal(error):
                raise
            self._set_aside(error)
            return self._open()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add(self, job: Job) -> None:
        """Store a new job."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO jobs (id, created_at, client, keep, webhook) VALUES (?, ?, ?, ?, ?)",
                (job.id, job.created_at, job.client, job.keep, job.webhook),
            )
            database.executemany(_SAVE, _rows(job, range(len(job.posts))))

    def save(self, job: Job, positions: Iterable[int]) -> None:
        """Store how the job's posts at these *positions* are."""
        with self._transaction() as database:
            database.executemany(_SAVE, _rows(job, positions))

    def announce(self, job: Job, delivery: Delivery) -> None:
        """Store that *delivery* is to tell of the job's end."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET announced = 1 WHERE id = ?", (job.id,))
            database.execute(
                "INSERT INTO deliveries (id, url, body, attempts, due_at, job, noted_at) "
                "VALUES (?, ?, ?, 0, 0, ?, ?)",
                (delivery.id, delivery.url, delivery.body, delivery.job, delivery.noted_at),
            )

    def reopen(self, job: Job, positions: Iterable[int]) -> None:
        """Store that the job's posts at these *positions* begin anew, and with them the job."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET announced = 0, webhook_outcome = NULL WHERE id = ?", (job.id,)
            )
            database.executemany(_SAVE, _rows(job, positions))

    def deliveries(self) -> dict[Delivery, float]:
        """What is to be delivered, and the unix time at which it is due.

        Rows of another shape are left out.
        """
        rows = self._database.execute(
            "SELECT id, url, body, attempts, job, noted_at, due_at FROM deliveries"
        )
        return {
            Delivery(*columns): due_at
            for *columns, due_at in rows
            if all(map(isinstance, (*columns, due_at), _DELIVERY_TYPES))
        }

    def postpone(self, delivery: Delivery, due_at: float) -> None:
        """Count an attempt of *delivery*, and let it be due at a unix time."""
        with self._transaction() as database:
            database.execute(
                "UPDATE deliveries SET attempts = ?, due_at = ? WHERE id = ?",
                (delivery.attempts + 1, due_at, delivery.id),
            )

    def finish(self, delivery: Delivery, outcome: Outcome) -> None:
        """Forget *delivery*, and note its *outcome* in its job, unless another one is to come."""
        with self._transaction() as database:
            database.execute("DELETE FROM deliveries WHERE id = ?", (delivery.id,))
            database.execute(
                "UPDATE jobs SET webhook_outcome = ? WHERE id = ? AND announced "
                "AND NOT EXISTS (SELECT 1 FROM deliveries WHERE job = jobs.id)",
                (outcome, delivery.job),
            )

    def remove(self, jobs: Iterable[Job]) -> None:
        """Forget these *jobs*."""
        with self._transaction() as database:
            database.executemany("DELETE FROM jobs WHERE id = ?", [(job.id,) for job in jobs])

    def _open(self) -> list[Job]:
        if self._path.is_dir():
            raise sqlite3.DatabaseError("a folder")
        # Calls come from several threads, one at a time.
        self._database = sqlite3.connect(self._path, check_same_thread=False)
        try:
            self._database.executescript(_SCHEMA)
            for table, column, type_ in _ADDED:
                columns = {row[1] for row in self._database.execute(f"PRAGMA table_info({table})")}
                if column not in columns:
                    self._database.execute(f"ALTER TABLE {table} ADD COLUMN {column} {type_}")
            self._database.commit()
            if self._database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                raise ValueError("integrity_check")
            return self._load()
        except BaseException:
            self._database.close()
            raise

    def _load(self) -> list[Job]:
        jobs: dict[str, Job] = {}
        rows = self._database.execute(
            "SELECT id, created_at, client, keep, webhook, announced, webhook_outcome FROM jobs "
            "ORDER BY created_at, id"
        )
        for id_, created_at, client, keep, webhook, announced, outcome in rows:
            if not (isinstance(id_, str) and isinstance(created_at, float)):
                raise ValueError("a job of another shape")  # noqa: TRY004 - the row's fault
            texts = (client, webhook)
            if not math.isfinite(created_at) or not all(isinstance(it, str | None) for it in texts):
                raise ValueError("a job of another shape")
            jobs[id_] = Job(
                id_,
                created_at,
                [],
                client=client,
                keep=bool(keep),
                webhook=webhook,
                announced=bool(announced),
                webhook_outcome=outcome if outcome in get_args(Outcome) else None,
            )
        rows = self._database.execute(
            f"SELECT job, {_COLUMNS} FROM posts ORDER BY job, position"  # noqa: S608 - constants
        )
        for id_, *columns in rows:
            if id_ not in jobs:
                raise ValueError("a post without a job")
            jobs[id_].posts.append(_post(columns))
        return list(jobs.values())

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
        log.error("jobs unreadable: file set aside", cause=repr(error), file=str(aside))
        for suffix in _SIDE_FILES:
            path = self._path.with_name(self._path.name + suffix)
            if path.exists() or path.is_symlink():
                path.rename(aside.with_name(aside.name + suffix))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with telling_refusals(), self._database as database:
            yield database


def _post(columns: list[Any]) -> JobPost:
    if not all(map(isinstance, columns, _TYPES)):
        raise ValueError("a post of another shape")
    post = JobPost(*columns)
    if post.state not in _STATES:
        raise ValueError("a post in an unknown state")
    for text in (post.next_try_at, post.waiting_since):
        if text is not None:
            unix_time(text)
    if post.state == "running":
        post.state = "queued"
    return post


def _rows(job: Job, positions: Iterable[int]) -> list[tuple[Any, ...]]:
    return [(job.id, position, *job.posts[position].to_json().values()) for position in positions]
