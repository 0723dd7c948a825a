"""The stores of a single process."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from scrapper.errors import Busy, DiskFull
from scrapper.jobs.model import Job, JobPost
from scrapper.jobs.stores.memory import MemoryStore, Record
from scrapper.jobs.stores.sqlite import JobFile, SqliteStore
from tests.unit.jobs.contract import MAX_AGE, StoreContract, batch, cancelled

WEBHOOK = "https://example.com/"


class _LocalStore(StoreContract):
    async def queued(self, store: MemoryStore) -> set[tuple[str, int]]:
        taken = set()
        with suppress(TimeoutError):
            while True:
                # A queued post is returned without waiting, so it arrives before the timeout of 0.
                async with asyncio.timeout(0):
                    place = await store.next_place()
                taken.add((place.job_id, place.position))
        return taken

    async def test_posts_of_the_oldest_job_come_first(self, store: MemoryStore) -> None:
        older, newer = batch(2, "192.0.2.1"), batch(2, "192.0.2.2")
        older.created_at -= 10
        await store.add(newer)
        await store.add(older)
        order = [(await store.next_place()).job_id for _ in range(4)]
        assert order == [older.id, older.id, newer.id, newer.id]

    async def test_a_post_moves_from_the_backlog_to_the_queue(self, store: MemoryStore) -> None:
        job = batch(1)
        await store.add(job)
        await store.next_place()
        await store.wait(job, 0, job.posts[0])
        place = await store.next_place()
        assert (place.job_id, place.position) == (job.id, 0)
        assert not await store.has_waiting()

    async def test_a_cancelled_post_leaves_the_backlog(self, store: MemoryStore) -> None:
        job = batch(1)
        await store.add(job)
        await store.wait(job, 0, job.posts[0], 1000.0)
        await store.change(job, cancelled)
        assert not await store.has_waiting()

    async def due(self, store: MemoryStore) -> list[str]:
        return [waiting.id for waiting in await store.waiting() if waiting.due]

    async def test_a_webhook_is_due_once_the_job_ends(self, store: MemoryStore) -> None:
        job = batch(1, webhook=WEBHOOK)
        await store.add(job)
        assert await store.waiting() == []
        await self.finish(store, job)
        [id_] = await self.due(store)
        delivery = await store.take(id_)
        assert delivery is not None
        assert (delivery.url, delivery.job) == (WEBHOOK, job.id)
        assert b'"state":"done"' in delivery.body
        assert await self.due(store) == []
        await store.postpone(id_, 0.0)
        assert await self.due(store) == [id_]
        retried = await store.take(id_)
        assert retried is not None
        assert (retried.id, retried.attempts) == (id_, 1)
        await store.postpone(id_, 1000.0)
        assert await self.due(store) == []
        await store.finish(id_, "delivered")
        assert await store.waiting() == []
        assert job.to_response().webhook_state == "delivered"

    async def test_each_end_of_a_job_creates_a_webhook(self, store: MemoryStore) -> None:
        job = batch(1, webhook=WEBHOOK)
        await store.add(job)
        await store.change(job, cancelled)
        [first] = await self.due(store)
        await store.change(job, JobPost.retried, queue=True)
        await store.finish(first, "given_up")
        assert job.to_response().webhook_state == "waiting"
        await self.finish(store, job)
        [second] = await self.due(store)
        assert second != first
        await store.finish(second, "delivered")
        assert job.to_response().webhook_state == "delivered"


class TestMemoryStore(_LocalStore):
    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryStore]:
        store = MemoryStore(max_jobs=4, max_age=MAX_AGE, plugins=["one"])
        await store.open()
        yield store
        await store.close()


class TestSqliteStore(_LocalStore):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        store = new_store(tmp_path, max_age=MAX_AGE)
        await store.open()
        yield store
        await store.close()


def new_store(folder: Path, **options: Any) -> SqliteStore:
    options = {"max_jobs": 4, "plugins": ["one"], **options}
    return SqliteStore(JobFile(folder / "jobs.sqlite3"), patience=3600.0, **options)


async def restarted(store: SqliteStore, folder: Path, **options: Any) -> SqliteStore:
    await store.close()
    new = new_store(folder, **options)
    await new.open()
    return new


async def opened(folder: Path) -> SqliteStore:
    store = new_store(folder)
    await store.open()
    return store


async def test_unfinished_posts_resume_after_a_restart(tmp_path: Path) -> None:
    store, job = await opened(tmp_path), batch(4)
    await store.add(job)
    await store.save_post(job.id, 0, job.posts[0].done(10))
    await store.save_post(job.id, 1, job.posts[1].started())
    await store.wait(job, 2, job.posts[2], 1000.0)
    store = await restarted(store, tmp_path)
    found = await store.get(job.id)
    assert found is not None
    assert [post.state for post in found.posts] == ["done", "queued", "waiting", "queued"]
    assert {(await store.next_place()).position for _ in range(2)} == {1, 3}
    assert await store.has_waiting()
    await store.close()


async def test_ends_and_deliveries_survive_a_restart(tmp_path: Path) -> None:
    store, job = await opened(tmp_path), batch(1, webhook=WEBHOOK)
    await store.add(job)
    await store.save_post(job.id, 0, job.posts[0].done(10))
    store = await restarted(store, tmp_path)
    [finished] = await store.unreported("one")
    [waiting] = await store.waiting()
    assert waiting.due
    await store.record_reported("one", finished)
    await store.postpone(waiting.id, 1000.0)
    store = await restarted(store, tmp_path)
    assert await store.unreported("one") == []
    [postponed] = await store.waiting()
    assert (postponed.id, postponed.due) == (waiting.id, False)
    delivery = await store.take(waiting.id)
    assert delivery is not None
    assert delivery.attempts == 1
    await store.finish(waiting.id, "given_up")
    store = await restarted(store, tmp_path)
    assert await store.waiting() == []
    found = await store.get(job.id)
    assert found is not None
    assert found.to_response().webhook_state == "given_up"
    await store.close()


async def test_a_missing_delivery_is_added_at_startup(tmp_path: Path) -> None:
    store, job = await opened(tmp_path), batch(1, webhook=WEBHOOK)
    await store.add(job)
    await store.save_post(job.id, 0, job.posts[0].done(10))
    await store.close()
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as database:
        database.execute("DELETE FROM deliveries")
        database.execute("UPDATE jobs SET announced = 0")
    database.close()
    store = await opened(tmp_path)
    [waiting] = await store.waiting()
    store = await restarted(store, tmp_path)
    assert [it.id for it in await store.waiting()] == [waiting.id]
    await store.close()


@pytest.mark.parametrize("jump", [-3650, -3, 3, 3650])
async def test_a_clock_jump_does_not_age_a_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    store, job = new_store(tmp_path, clock_is_trusted=lambda: False), batch(1, webhook=WEBHOOK)
    await store.open()
    await store.add(job)
    await store.save_post(job.id, 0, job.posts[0].done(10))
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + jump * 24 * 3600)
    [before] = await store.waiting()
    store = await restarted(store, tmp_path, clock_is_trusted=lambda: False)
    [after] = await store.waiting()
    assert (before.due, after.due) == (True, True)
    assert max(before.age, after.age) < 3600
    await store.close()


class _FailingFile(JobFile):
    """A job file whose disk is full while ``disk_full`` is true."""

    disk_full = False

    def write(self, record: Record) -> None:
        if self.disk_full:
            raise DiskFull
        super().write(record)


@pytest.fixture
async def full_disk(tmp_path: Path) -> AsyncIterator[tuple[SqliteStore, _FailingFile, Job]]:
    file = _FailingFile(tmp_path / "jobs.sqlite3")
    store, job = SqliteStore(file, max_jobs=4, plugins=["one"]), batch(2, webhook=WEBHOOK)
    await store.open()
    await store.add(job)
    file.disk_full = True
    yield store, file, job
    await store.close()


async def test_submitting_and_cancelling_fail_if_the_disk_is_full(
    full_disk: tuple[SqliteStore, _FailingFile, Job],
) -> None:
    store, file, job = full_disk
    other = batch(1, "192.0.2.2")
    with pytest.raises(DiskFull):
        await store.add(other)
    with pytest.raises(DiskFull):
        await store.change(job, cancelled)
    assert await store.get(other.id) is None
    assert [post.state for post in job.posts] == ["queued", "queued"]
    file.disk_full = False
    await store.add(other)


async def test_an_outcome_counts_even_if_the_disk_is_full(
    full_disk: tuple[SqliteStore, _FailingFile, Job],
) -> None:
    store, _, job = full_disk
    with capture_logs() as logs:
        for index in range(2):
            assert await store.save_post(job.id, index, job.posts[index].done(1))
    assert [line["event"] for line in logs] == ["job not saved"] * 2
    assert job.state == "done"
    assert [it.due for it in await store.waiting()] == [True]
    assert len(await store.unreported("one")) == 1


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_jobs_expire_only_if_the_clock_is_right(tmp_path: Path, is_trusted: bool) -> None:
    store = new_store(tmp_path, max_age=60.0, plugins=[], clock_is_trusted=lambda: is_trusted)
    await store.open()
    old, running = batch(1, "192.0.2.1"), batch(1, "192.0.2.2")
    old.created_at = running.created_at = time.time() - 10 * 365 * 24 * 3600
    await store.add(old)
    await store.add(running)
    await store.save_post(old.id, 0, old.posts[0].done(1))
    assert (await store.get(old.id) is None) == is_trusted
    assert await store.get(running.id) is not None
    await store.close()


async def test_a_busy_file_fails_all_waiting_requests(tmp_path: Path) -> None:
    store, attempts = await opened(tmp_path), 0

    async def fail(record: Record) -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0)
        raise Busy(retry_after=1)

    store.keep = fail  # type: ignore[method-assign]
    adding = [store.add(batch(1, f"192.0.2.{it}")) for it in range(12)]
    errors = await asyncio.gather(*adding, return_exceptions=True)
    assert [type(it) for it in errors] == [Busy] * 12
    assert attempts == 1
    await store.close()


async def test_concurrent_changes_are_all_stored(tmp_path: Path) -> None:
    store, job = await opened(tmp_path), batch(20)
    await store.add(job)
    saves = [store.save_post(job.id, it, post.done(it)) for it, post in enumerate(job.posts)]
    await asyncio.gather(store.change(job, lambda _: None), *saves)
    store = await restarted(store, tmp_path)
    found = await store.get(job.id)
    assert found is not None
    assert [post.bytes_done for post in found.posts] == list(range(20))
    await store.close()
