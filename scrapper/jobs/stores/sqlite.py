"""A store that keeps the jobs of one process in a SQLite file, across restarts."""

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import structlog

from scrapper.errors import Busy
from scrapper.jobs.model import Job, JobPost, PostState, unix_time
from scrapper.jobs.store import FinishedJob
from scrapper.jobs.stores.memory import MemoryStore, Record, WaitingDelivery
from scrapper.jobs.webhooks import Delivery, Outcome
from scrapper.library.post import Preference
from scrapper.library.sqlite_file import SQLiteFile
from scrapper.tasks import end, finished, in_background

__all__ = ["Contents", "JobFile", "SqliteStore"]

log = structlog.get_logger(__name__)

_VERSION = 2
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY NOT NULL,
    created_at REAL NOT NULL,
    client TEXT,
    keep INTEGER NOT NULL DEFAULT 0,
    webhook TEXT,
    announced INTEGER NOT NULL DEFAULT 0,
    webhook_outcome TEXT,
    owner TEXT,
    forgotten INTEGER NOT NULL DEFAULT 0,
    quality TEXT NOT NULL DEFAULT 'compatible',
    max_bytes INTEGER
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
    due_at REAL NOT NULL,
    job TEXT NOT NULL DEFAULT '',
    noted_at REAL NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE ends (
    plugin TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    number INTEGER NOT NULL,
    PRIMARY KEY (plugin, job)
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
    "INSERT INTO jobs (id, created_at, client, keep, webhook, owner, forgotten, quality, "
    "max_bytes, announced, webhook_outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SAVE_DELIVERY = (
    "INSERT OR REPLACE INTO deliveries (id, url, body, attempts, job, noted_at, due_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_REOPEN = "UPDATE jobs SET announced = 0, webhook_outcome = NULL WHERE id = ?"
_RECORD_OUTCOME = (
    "UPDATE jobs SET webhook_outcome = ? WHERE id = ? AND announced "
    "AND NOT EXISTS (SELECT 1 FROM deliveries WHERE job = jobs.id)"
)
_SAVE_END = "INSERT OR REPLACE INTO ends (plugin, job, number) VALUES (?, ?, ?)"
_STATES = get_args(PostState)
_DAY = 24 * 60 * 60
_CHECK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a job file. ``jobs`` are sorted by age, oldest first.

    ``ends`` lists the ends that have not been reported yet, each as a tuple of the plugin's name,
    the job's ID and the number that identifies the end. ``deliveries`` maps each delivery to the
    Unix time at which it is due. ``unannounced`` lists the IDs of the jobs whose webhook has no
    delivery yet.
    """

    jobs: list[Job] = field(default_factory=list)
    ends: list[tuple[str, str, int]] = field(default_factory=list)
    deliveries: Mapping[Delivery, float] = field(default_factory=dict)
    unannounced: frozenset[str] = frozenset()


class JobFile:
    """The jobs in the SQLite file at *path*.

    The methods block, and only one thread may call them at a time. Every change is on disk when the
    method returns. The methods raise the same errors as
    :class:`~scrapper.library.sqlite_file.SQLiteFile`; a method that raises has changed nothing.
    *check* is called before the file is opened or created.
    """

    def __init__(self, path: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._in_memory: Callable[[], Contents] = Contents
        self._file = SQLiteFile(
            path,
            "jobs",
            version=_VERSION,
            schema=_SCHEMA,
            shared=False,
            fill=lambda database, _: _write_all(database, self._in_memory()),
            inspect=_load,
            check=check,
        )

    def open(self, in_memory: Callable[[], Contents] | None = None) -> Contents:
        """Open the file, or create it.

        Posts that were running are queued again. A file that is damaged, or is not a job file, is
        set aside. Its jobs are lost, but the posts that they stored are not. If the file is later
        damaged, removed or replaced, a new one is created from the contents that *in_memory*
        returns. That function is called in a thread.

        Raises:
            SettingsError: the file cannot be used.
        """
        self._file.open()
        self._in_memory = in_memory or self._in_memory
        with self._file.using() as database:
            return _load(database)

    def verify(self) -> None:
        """Recreate the file if it is no longer at its path."""
        with self._file.using():
            pass

    def close(self) -> None:
        """Close the file. If it is no longer at its path, recreate it first."""
        self._file.close()

    def write(self, record: Record) -> None:
        with self._file.changing() as database:
            removed = [(job_id,) for job_id in record.removed]
            database.executemany("DELETE FROM jobs WHERE id = ?", removed)
            job = record.job
            if job is None:
                return
            if record.is_new:
                _write_job(database, job, announced=False)
            if record.reopened:
                database.execute(_REOPEN, (job.id,))
                database.execute("DELETE FROM ends WHERE job = ?", (job.id,))
            if record.forgotten:
                database.execute("UPDATE jobs SET forgotten = 1 WHERE id = ?", (job.id,))
            _write_posts(database, job.id, record.posts)
            ends = [(plugin, job.id, number) for plugin, number in record.ends.items()]
            database.executemany(_SAVE_END, ends)
            if record.delivery is not None:
                database.execute("UPDATE jobs SET announced = 1 WHERE id = ?", (job.id,))
                _write_delivery(database, record.delivery, 0.0)

    def postpone(self, delivery: Delivery, due_at: float) -> None:
        """Store *delivery* as due at the Unix time *due_at*."""
        with self._file.changing() as database:
            _write_delivery(database, delivery, due_at)

    def finish(self, delivery: Delivery, outcome: Outcome) -> None:
        """Remove *delivery*. Record its *outcome*, unless the job has another delivery."""
        with self._file.changing() as database:
            database.execute("DELETE FROM deliveries WHERE id = ?", (delivery.id,))
            database.execute(_RECORD_OUTCOME, (outcome, delivery.job))

    def record_reported(self, plugin: str, job_id: str) -> None:
        """Record that the end of the job was reported to *plugin*."""
        with self._file.changing() as database:
            database.execute("DELETE FROM ends WHERE plugin = ? AND job = ?", (plugin, job_id))


def _write_all(database: sqlite3.Connection, contents: Contents) -> None:
    for job in contents.jobs:
        _write_job(database, job, announced=job.webhook is not None and job.state != "running")
        _write_posts(database, job.id, dict(enumerate(job.posts)))
    database.executemany(_SAVE_END, contents.ends)
    for delivery, due_at in contents.deliveries.items():
        _write_delivery(database, delivery, due_at)


def _write_job(database: sqlite3.Connection, job: Job, *, announced: bool) -> None:
    row = (job.id, job.created_at, job.client, job.keep, job.webhook, job.owner, job.forgotten)
    ends = (job.preference.quality, job.preference.max_bytes, announced, job.webhook_outcome)
    database.execute(_SAVE_JOB, (*row, *ends))


def _write_posts(database: sqlite3.Connection, job_id: str, posts: Mapping[int, JobPost]) -> None:
    rows = [(job_id, index, *post.to_json().values()) for index, post in posts.items()]
    database.executemany(_SAVE, rows)


def _write_delivery(database: sqlite3.Connection, delivery: Delivery, due_at: float) -> None:
    row = (delivery.id, delivery.url, delivery.body, delivery.attempts, delivery.job)
    database.execute(_SAVE_DELIVERY, (*row, delivery.noted_at, due_at))


def _load(database: sqlite3.Connection) -> Contents:
    """Read the contents of the file.

    Raises:
        ValueError: a job or a post has an invalid value.
    """
    jobs: dict[str, Job] = {}
    unannounced = set()
    rows = database.execute(
        "SELECT id, created_at, client, keep, webhook, owner, forgotten, announced, "
        "webhook_outcome, quality, max_bytes FROM jobs ORDER BY created_at, id"
    )
    for (
        id_,
        created_at,
        client,
        keep,
        webhook,
        owner,
        forgotten,
        announced,
        outcome,
        *preference,
    ) in rows:
        if not math.isfinite(created_at):
            raise ValueError("a job has no valid time")
        job = jobs[id_] = Job(id_, created_at, [], client=client, keep=bool(keep), webhook=webhook)
        job.owner, job.forgotten = owner, bool(forgotten)
        job.preference = Preference.stored(*preference)
        job.webhook_outcome = outcome if outcome in get_args(Outcome) else None
        if webhook is not None and not announced:
            unannounced.add(id_)
    rows = database.execute(
        f"SELECT job, {_COLUMNS} FROM posts ORDER BY job, position"  # noqa: S608 - constants
    )
    for id_, *columns in rows:
        jobs[id_].posts.append(_post(columns))
    ends = list(database.execute("SELECT plugin, job, number FROM ends ORDER BY number"))
    rows = database.execute("SELECT id, url, body, attempts, job, noted_at, due_at FROM deliveries")
    deliveries = {Delivery(*columns): due_at for *columns, due_at in rows}
    return Contents(list(jobs.values()), ends, deliveries, frozenset(unannounced))


def _post(columns: list[Any]) -> JobPost:
    post = JobPost(*columns)
    if post.state not in _STATES:
        raise ValueError("a post has an unknown state")
    for text in (post.next_try_at, post.waiting_since):
        if text is not None:
            unix_time(text)
    return replace(post, state="queued") if post.state == "running" else post


class SqliteStore(MemoryStore):
    """A :class:`~scrapper.jobs.stores.memory.MemoryStore` that persists its jobs in *file*.

    All jobs are also in memory. A change is stored before it is applied in memory. *check* raises
    an error if the file's folder is gone. *patience* is the longest time, in seconds, that a
    resumed post may have to wait.
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
        """Load the file, and resume the jobs of an earlier process.

        Raises:
            SettingsError: the file cannot be used.
        """
        contents = await asyncio.to_thread(self._file.open, self._contents)
        self._resume(contents.jobs, self._patience)
        for plugin, job_id, number in contents.ends:
            self._last_end = max(self._last_end, number)
            if plugin in self._ends:
                self._ends[plugin][job_id] = number
        await self._load_deliveries(contents.deliveries)
        for job_id in contents.unannounced:
            if self._jobs[job_id].state != "running":
                await self._announce(self._jobs[job_id])
        self._watching = in_background(self._watch(), "job file")
        await super().open()

    async def close(self) -> None:
        await super().close()
        await end(self._watching)
        await asyncio.to_thread(self._file.close)

    async def keep(self, record: Record) -> None:
        # The state "running" need not be stored, because such posts are queued again at startup.
        if not record.posts or any(post.state != "running" for post in record.posts.values()):
            await self._write(self._file.write, record)

    async def record_reported(self, plugin: str, job: FinishedJob) -> None:
        if self._ends[plugin].get(job.response.id) == job.end:
            await self._write(self._file.record_reported, plugin, job.response.id)
        await super().record_reported(plugin, job)

    async def finish(self, id_: str, outcome: Outcome) -> None:
        delivery = self._deliveries[id_].delivery
        await super().finish(id_, outcome)
        await self._write(self._file.finish, delivery, outcome)

    async def postpone(self, id_: str, seconds: float) -> None:
        await super().postpone(id_, seconds)
        delivery = self._deliveries[id_].delivery
        await self._write(self._file.postpone, delivery, time.time() + seconds)

    async def _load_deliveries(self, deliveries: Mapping[Delivery, float]) -> None:
        wall, now = time.time(), time.monotonic()
        is_trusted = bool(deliveries) and await asyncio.to_thread(self._clock_is_trusted)
        for delivery, due_at in deliveries.items():
            # A time more than a day ahead was set by a wrong clock.
            wait = due_at - wall if is_trusted and wall < due_at < wall + _DAY else 0.0
            age = max(0.0, wall - delivery.noted_at) if is_trusted and delivery.noted_at else 0.0
            self._deliveries[delivery.id] = WaitingDelivery(delivery, now - age, now + wait)

    async def _watch(self) -> None:
        """Check the file regularly, and recreate it if it was lost."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                await self._write(self._file.verify)
            except Exception as error:  # noqa: BLE001
                # The disk may be unavailable for a while.
                log.warning("jobs not on disk", cause=repr(error))

    async def _write(self, change: Callable[..., None], *arguments: Any) -> None:
        """Call *change* in a thread, one call at a time. Cancellation does not stop a call."""

        def write() -> None:
            self._check()
            try:
                change(*arguments)
            except Busy:
                # The file was damaged and has just been recreated, so retry once.
                change(*arguments)

        async with self._writing:
            await finished(asyncio.to_thread(write))

    def _contents(self) -> Contents:
        """Return the contents for a new file. Runs in the thread that writes the file."""
        ends = [
            (plugin, job_id, number)
            for plugin, ends in self._ends.items()
            for job_id, number in ends.copy().items()
        ]
        ahead = time.time() - time.monotonic()
        waiting = list(self._deliveries.values())
        deliveries = {it.delivery: it.due_at + ahead for it in waiting}
        return Contents(list(self._jobs.values()), ends, deliveries)
