"""Jobs of one process in a SQLite file, so that they survive a restart."""

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import structlog

from scrapper.jobs.model import Job, JobPost, PostState, unix_time
from scrapper.jobs.store import FinishedJob
from scrapper.jobs.stores.memory import MemoryStore, Record
from scrapper.jobs.webhooks import MOST_DELIVERIES, Delivery
from scrapper.library.sqlite_errors import is_refusal, telling_refusals
from scrapper.tasks import finished

__all__ = ["JobFile", "SqliteStore"]

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
    announced INTEGER NOT NULL DEFAULT 0
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
    due_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS ends (
    plugin TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    number INTEGER NOT NULL,
    PRIMARY KEY (plugin, job)
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
)
_COLUMNS = (
    "url, shortcode, state, bytes_done, bytes_total, status, error, retry_after, code, "
    "next_try_at, waiting_since"
)
_SAVE = (
    f"INSERT OR REPLACE INTO posts (job, position, {_COLUMNS}) "  # noqa: S608 - constants
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_DELIVERY_TYPES = (str, str, bytes, int, float)
_SIDE_FILES = ("", "-wal", "-shm", "-journal")
_STATES = get_args(PostState)
_DAY = 24 * 60 * 60
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


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file of jobs holds, jobs oldest first.

    ``ends`` are the ends of jobs that plugins do not know of, by plugin and job. ``unannounced``
    are the IDs of jobs that ended without a delivery for their webhook. ``deliveries`` have the
    unix time at which each is due.
    """

    jobs: list[Job]
    unannounced: set[str]
    ends: list[tuple[str, str, int]]
    deliveries: Mapping[Delivery, float]


class JobFile:
    """The jobs in the SQLite file at *path*; blocking, and for one thread at a time.

    Every change is on disk when its call returns. Calls raise
    :class:`~scrapper.errors.DiskFull` or :class:`~scrapper.errors.DiskReadOnly`, or
    :class:`sqlite3.Error` if the file cannot be read or written for another reason. A call that
    raises changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> Contents:
        """Open the file, or create it.

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

    def write(self, record: Record) -> None:
        """Store what *record* says."""
        with self._transaction() as database:
            removed = [(job_id,) for job_id in record.removed]
            database.executemany("DELETE FROM jobs WHERE id = ?", removed)
            job = record.job
            if job is None:
                return
            if record.is_new:
                database.execute(
                    "INSERT INTO jobs (id, created_at, client, keep, webhook) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (job.id, job.created_at, job.client, job.keep, job.webhook),
                )
            if record.reopened:
                database.execute("UPDATE jobs SET announced = 0 WHERE id = ?", (job.id,))
                database.execute("DELETE FROM ends WHERE job = ?", (job.id,))
            rows = [(job.id, it, *post.to_json().values()) for it, post in record.posts.items()]
            database.executemany(_SAVE, rows)
            ends = [(plugin, job.id, number) for plugin, number in record.ends.items()]
            database.executemany("INSERT OR REPLACE INTO ends VALUES (?, ?, ?)", ends)
            if record.delivery is not None:
                self._announce(database, job.id, record.delivery)

    def postpone(self, delivery: Delivery, due_at: float) -> None:
        """Count an attempt of *delivery*, and let it be due at a unix time."""
        with self._transaction() as database:
            database.execute(
                "UPDATE deliveries SET attempts = ?, due_at = ? WHERE id = ?",
                (delivery.attempts + 1, due_at, delivery.id),
            )

    def finish(self, delivery: Delivery) -> None:
        """Forget *delivery*."""
        with self._transaction() as database:
            database.execute("DELETE FROM deliveries WHERE id = ?", (delivery.id,))

    def note_reported(self, plugin: str, job_id: str) -> None:
        """Forget an end of a job that *plugin* knows of."""
        with self._transaction() as database:
            database.execute("DELETE FROM ends WHERE plugin = ? AND job = ?", (plugin, job_id))

    def _announce(self, database: sqlite3.Connection, job_id: str, delivery: Delivery) -> None:
        database.execute("UPDATE jobs SET announced = 1 WHERE id = ?", (job_id,))
        database.execute(
            "INSERT INTO deliveries (id, url, body, attempts, due_at) VALUES (?, ?, ?, 0, 0)",
            (delivery.id, delivery.url, delivery.body),
        )
        database.execute(
            "DELETE FROM deliveries WHERE rowid <= (SELECT max(rowid) FROM deliveries) - ?",
            (MOST_DELIVERIES,),
        )

    def _open(self) -> Contents:
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

    def _load(self) -> Contents:
        jobs: dict[str, Job] = {}
        unannounced = set()
        rows = self._database.execute(
            "SELECT id, created_at, client, keep, webhook, announced FROM jobs "
            "ORDER BY created_at, id"
        )
        for id_, created_at, client, keep, webhook, announced in rows:
            if not (isinstance(id_, str) and isinstance(created_at, float)):
                raise ValueError("a job of another shape")  # noqa: TRY004 - the row's fault
            texts = (client, webhook)
            if not math.isfinite(created_at) or not all(isinstance(it, str | None) for it in texts):
                raise ValueError("a job of another shape")
            jobs[id_] = Job(id_, created_at, [], client=client, keep=bool(keep), webhook=webhook)
            if webhook is not None and not announced:
                unannounced.add(id_)
        rows = self._database.execute(
            f"SELECT job, {_COLUMNS} FROM posts ORDER BY job, position"  # noqa: S608 - constants
        )
        for id_, *columns in rows:
            if id_ not in jobs:
                raise ValueError("a post without a job")
            jobs[id_].posts.append(_post(columns))
        ends = list(self._database.execute("SELECT plugin, job, number FROM ends ORDER BY number"))
        return Contents(list(jobs.values()), unannounced, ends, self._load_deliveries())

    def _load_deliveries(self) -> Mapping[Delivery, float]:
        """The deliveries, without rows of another shape."""
        rows = self._database.execute("SELECT id, url, body, attempts, due_at FROM deliveries")
        return {
            Delivery(*columns): due_at
            for *columns, due_at in rows
            if all(map(isinstance, (*columns, due_at), _DELIVERY_TYPES))
        }

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
    return replace(post, state="queued") if post.state == "running" else post


class SqliteStore(MemoryStore):
    """A :class:`~scrapper.jobs.stores.memory.MemoryStore` whose jobs survive in *file*.

    Memory has all of them; what changes is written first. *check* raises where the file's folder
    is gone. *patience* is the most seconds that a post may have to wait after a start.
    """

    def __init__(
        self,
        file: JobFile,
        *,
        patience: float = 0.0,
        check: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._file = file
        self._patience = patience
        self._check = check
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Resume the jobs that an earlier process left.

        Raises:
            OSError, sqlite3.Error: the file cannot be used.
        """
        contents = await asyncio.to_thread(self._file.open)
        self._resume(contents.jobs, self._patience)
        for plugin, job_id, number in contents.ends:
            self._last_end = max(self._last_end, number)
            if plugin in self._ends:
                self._ends[plugin][job_id] = number
        now = time.time()
        for delivery, due_at in contents.deliveries.items():
            # A time far ahead is one that a wrong clock left.
            wait = due_at - now if now < due_at < now + _DAY else 0.0
            self._deliveries[delivery] = time.monotonic() + wait
        for job_id in contents.unannounced:
            if self._jobs[job_id].state != "running":
                await self._announce(self._jobs[job_id])
        await super().open()

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._file.close)

    async def keep(self, record: Record) -> None:
        # After a restart, a post that ran is queued again.
        if not record.posts or any(post.state != "running" for post in record.posts.values()):
            await self._write(self._file.write, record)

    async def note_reported(self, plugin: str, job: FinishedJob) -> None:
        if self._ends[plugin].get(job.response.id) == job.end:
            await self._write(self._file.note_reported, plugin, job.response.id)
        await super().note_reported(plugin, job)

    async def finish(self, delivery: Delivery) -> None:
        await self._write(self._file.finish, delivery)

    async def postpone(self, delivery: Delivery, seconds: float) -> None:
        await super().postpone(delivery, seconds)
        await self._write(self._file.postpone, delivery, time.time() + seconds)

    async def _write(self, change: Callable[..., None], *arguments: Any) -> None:
        """Run a *change* of the file: one at a time, and to its end if the caller goes away."""

        def write() -> None:
            self._check()
            change(*arguments)

        async with self._writing:
            await finished(asyncio.to_thread(write))
