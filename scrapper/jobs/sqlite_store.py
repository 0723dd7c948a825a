"""Jobs in a SQLite file, so that they survive a restart."""

import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from scrapper.jobs.model import Job, JobPost, PostState, unix_time
from scrapper.jobs.webhooks import MOST_DELIVERIES, Delivery
from scrapper.library.sqlite_file import SQLiteFile

__all__ = ["JobStore"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY NOT NULL,
    created_at REAL NOT NULL,
    client TEXT,
    keep INTEGER NOT NULL DEFAULT 0,
    webhook TEXT,
    announced INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE posts (
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
) STRICT;
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY NOT NULL,
    url TEXT NOT NULL,
    body BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    due_at REAL NOT NULL
) STRICT
"""
_COLUMNS = (
    "url, shortcode, state, bytes_done, bytes_total, status, error, retry_after, code, "
    "next_try_at, waiting_since"
)
_SAVE = (
    f"INSERT OR REPLACE INTO posts (job, position, {_COLUMNS}) "  # noqa: S608 - constants
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SAVE_JOB = (
    "INSERT INTO jobs (id, created_at, client, keep, webhook, announced) VALUES (?, ?, ?, ?, ?, ?)"
)
_SAVE_DELIVERY = (
    "INSERT OR REPLACE INTO deliveries (id, url, body, attempts, due_at) VALUES (?, ?, ?, ?, ?)"
)
_STATES = get_args(PostState)

Everything = Callable[[], tuple[Iterable[Job], Mapping[Delivery, float]]]


class JobStore:
    """The jobs in the SQLite file at *path*; blocking, and for one thread at a time.

    Every change is on disk when its call returns. Calls raise what a use of
    :class:`~scrapper.library.sqlite_file.SQLiteFile` raises; a call that raises changes nothing.
    *check* is called before the file is opened or made.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._everything: Everything = lambda: ((), {})
        self._file = SQLiteFile(
            path,
            "jobs",
            version=_VERSION,
            schema=_SCHEMA,
            shared=False,
            fill=self._write_everything,
            inspect=_load,
            check=check,
        )

    def open(self, everything: Everything | None = None) -> list[Job]:
        """Open the file, or create it; return the jobs in it, oldest first.

        A post that was running is queued again. A file that is damaged, or is something else, is
        set aside: the posts that its jobs stored are not lost, the jobs are. If the file is
        damaged, removed or replaced later, the jobs and the due times of deliveries that
        *everything* returns, called in a thread, are written into a new one.

        Raises:
            SettingsError: the file cannot be used.
        """
        self._file.open()
        self._everything = everything or self._everything
        with self._file.using() as database:
            return _load(database)

    def look(self) -> None:
        """See that the file is in its place; begin it anew if it is not."""
        with self._file.using():
            pass

    def close(self) -> None:
        """Close the file; begin it anew before if it is not in its place."""
        self._file.close()

    def add(self, job: Job) -> None:
        """Store a new job."""
        with self._file.changing() as database:
            _add(database, job)

    def save(self, job: Job, positions: Iterable[int]) -> None:
        """Store how the job's posts at these *positions* are."""
        with self._file.changing() as database:
            database.executemany(_SAVE, _rows(job, positions))

    def announce(self, job: Job, delivery: Delivery) -> None:
        """Store that *delivery* is to tell of the job's end."""
        with self._file.changing() as database:
            database.execute("UPDATE jobs SET announced = 1 WHERE id = ?", (job.id,))
            _add_delivery(database, delivery, 0.0)
            database.execute(
                "DELETE FROM deliveries WHERE rowid <= (SELECT max(rowid) FROM deliveries) - ?",
                (MOST_DELIVERIES,),
            )

    def reopen(self, job: Job, positions: Iterable[int]) -> None:
        """Store that the job's posts at these *positions* begin anew, and with them the job."""
        with self._file.changing() as database:
            database.execute("UPDATE jobs SET announced = 0 WHERE id = ?", (job.id,))
            database.executemany(_SAVE, _rows(job, positions))

    def deliveries(self) -> dict[Delivery, float]:
        """What is to be delivered, and the unix time at which it is due."""
        with self._file.using() as database:
            rows = database.execute("SELECT id, url, body, attempts, due_at FROM deliveries")
            return {Delivery(*columns): due_at for *columns, due_at in rows}

    def postpone(self, delivery: Delivery, due_at: float) -> None:
        """Count an attempt of *delivery*, and let it be due at a unix time."""
        with self._file.changing() as database:
            tried = replace(delivery, attempts=delivery.attempts + 1)
            _add_delivery(database, tried, due_at)

    def finish(self, delivery: Delivery) -> None:
        """Forget *delivery*."""
        with self._file.changing() as database:
            database.execute("DELETE FROM deliveries WHERE id = ?", (delivery.id,))

    def remove(self, jobs: Iterable[Job]) -> None:
        """Forget these *jobs*."""
        with self._file.changing() as database:
            database.executemany("DELETE FROM jobs WHERE id = ?", [(job.id,) for job in jobs])

    def _write_everything(self, database: sqlite3.Connection, _lost: bool) -> None:
        jobs, deliveries = self._everything()
        for job in jobs:
            _add(database, job)
        for delivery, due_at in deliveries.items():
            _add_delivery(database, delivery, due_at)


def _add(database: sqlite3.Connection, job: Job) -> None:
    row = (job.id, job.created_at, job.client, job.keep, job.webhook, job.announced)
    database.execute(_SAVE_JOB, row)
    database.executemany(_SAVE, _rows(job, range(len(job.posts))))


def _add_delivery(database: sqlite3.Connection, delivery: Delivery, due_at: float) -> None:
    row = (delivery.id, delivery.url, delivery.body, delivery.attempts, due_at)
    database.execute(_SAVE_DELIVERY, row)


def _load(database: sqlite3.Connection) -> list[Job]:
    """The jobs in the file, oldest first.

    Raises:
        ValueError: a value is none that a job has.
    """
    jobs: dict[str, Job] = {}
    rows = database.execute(
        "SELECT id, created_at, client, keep, webhook, announced FROM jobs ORDER BY created_at, id"
    )
    for id_, created_at, client, keep, webhook, announced in rows:
        if not math.isfinite(created_at):
            raise ValueError("a job of no time")
        jobs[id_] = Job(
            id_,
            created_at,
            [],
            client=client,
            keep=bool(keep),
            webhook=webhook,
            announced=bool(announced),
        )
    rows = database.execute(
        f"SELECT job, {_COLUMNS} FROM posts ORDER BY job, position"  # noqa: S608 - constants
    )
    for id_, *columns in rows:
        jobs[id_].posts.append(_post(columns))
    return list(jobs.values())


def _post(columns: list[Any]) -> JobPost:
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
