"""Jobs in a SQLite file, so that they survive a restart."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

from scrapper.errors import DiskFull, DiskReadOnly
from scrapper.jobs.model import Job, JobPost

__all__ = ["JobStore"]

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA foreign_keys = ON;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL
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
    PRIMARY KEY (job, position)
);
"""
_PRIMARY_CODE = 0xFF
_REFUSALS = {sqlite3.SQLITE_FULL: DiskFull, sqlite3.SQLITE_READONLY: DiskReadOnly}
_PLACES = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
_COLUMNS = "url, shortcode, state, bytes_done, bytes_total, status, error, retry_after, code"


class JobStore:
    """The jobs in the SQLite file at *path*; every change is on disk when its call returns.

    Calls raise :class:`~scrapper.errors.DiskFull` or :class:`~scrapper.errors.DiskReadOnly`,
    or :class:`aiosqlite.Error` if the file cannot be read or written for another reason. A call
    that raises changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # All calls share one connection, and with it one transaction at a time.
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Open the file, or create it.

        Raises:
            OSError: its folder cannot be made.
            aiosqlite.Error: it is not a database, or cannot be written.
        """
        self._database = await aiosqlite.connect(self._path)
        await self._database.executescript(_SCHEMA)
        async with self._database.execute("PRAGMA table_info(posts)") as rows:
            columns = {name async for _, name, *_ in rows}
        if "code" not in columns:
            await self._database.execute("ALTER TABLE posts ADD COLUMN code TEXT")
            await self._database.commit()

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    async def load(self) -> list[Job]:
        """All jobs, oldest first. A post that was running is queued again."""
        jobs = {}
        async with self._database.execute(
            "SELECT id, created_at FROM jobs ORDER BY created_at, id"
        ) as rows:
            async for id_, created_at in rows:
                jobs[id_] = Job(id_, created_at, [])
        async with self._database.execute(
            f"SELECT job, {_COLUMNS} FROM posts ORDER BY job, position"  # noqa: S608 - constants
        ) as rows:
            async for id_, *columns in rows:
                post = JobPost(*columns)
                if post.state == "running":
                    post.state = "queued"
                jobs[id_].posts.append(post)
        return list(jobs.values())

    async def add(self, job: Job) -> None:
        """Store a new job."""
        async with self._transaction() as database:
            await database.execute("INSERT INTO jobs VALUES (?, ?)", (job.id, job.created_at))
            await _save(database, job, range(len(job.posts)))

    async def save(self, job: Job, positions: Iterable[int]) -> None:
        """Store how the job's posts at these *positions* are."""
        async with self._transaction() as database:
            await _save(database, job, positions)

    async def remove(self, jobs: Iterable[Job]) -> None:
        """Forget these *jobs*."""
        ids = [(job.id,) for job in jobs]
        async with self._transaction() as database:
            await database.executemany("DELETE FROM jobs WHERE id = ?", ids)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._writing:
            try:
                yield self._database
                await self._database.commit()
            except BaseException as error:
                await self._database.rollback()
                refusal = _REFUSALS.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE)
                if refusal is not None:
                    raise refusal from error
                raise


async def _save(database: aiosqlite.Connection, job: Job, positions: Iterable[int]) -> None:
    rows = [(job.id, position, *job.posts[position].to_json().values()) for position in positions]
    await database.executemany(
        f"INSERT OR REPLACE INTO posts (job, position, {_COLUMNS}) "  # noqa: S608 - constants
        f"VALUES ({_PLACES})",
        rows,
    )
