"""Jobs of a single process whose disk refuses for a moment."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from scrapper.errors import DiskFull, PostNotFound
from scrapper.jobs.backlog import Backlog
from scrapper.jobs.local import LocalJobs
from scrapper.jobs.model import Job, new_job
from scrapper.jobs.sqlite_store import JobStore
from tests.conftest import until

URLS = [f"https://www.instagram.com/reel/reel-{number}/" for number in range(4)]


class Store(JobStore):
    """A store whose first save waits for ``go``; the saves after *good* ones are refused."""

    def __init__(self, path: Path, good: int) -> None:
        super().__init__(path)
        self.go = threading.Event()
        self.saves = 0
        self.good = good
        self.refused = 0

    def save(self, job: Job, positions: Iterable[int]) -> None:
        self.saves += 1
        self.go.wait()
        if self.saves > self.good and not self.refused:
            self.refused += 1
            raise DiskFull
        super().save(job, positions)


class NoPosts:
    """A scraper that finds no post."""

    def progress(self, _shortcode: str) -> None:
        return None

    async def has(self, _shortcode: str) -> bool:
        return False

    async def shortcode_of(self, link: str) -> str:
        return link

    async def scrape(self, *_: Any, **__: Any) -> None:
        raise PostNotFound


@pytest.fixture(params=[1])
async def running(
    tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[LocalJobs, Store]]:
    store = Store(tmp_path / "jobs.sqlite3", request.param)
    scraper: Any = NoPosts()
    jobs = LocalJobs(
        scraper,
        store,
        backlog=Backlog(0.0),
        patience=0.0,
        concurrency=1,
        max_jobs=10,
        max_age=1000.0,
    )
    await jobs.open()
    yield jobs, store
    store.go.set()
    await jobs.close()


async def test_a_cancel_that_cannot_be_stored_loses_no_post(
    running: tuple[LocalJobs, Store],
) -> None:
    jobs, store = running
    job = new_job(URLS, max_url_length=512)
    await jobs.submit(job)
    await until(lambda: store.saves == 1)
    cancelling = asyncio.create_task(jobs.cancel(job))
    await until(lambda: job.posts[-1].state == "cancelled")
    store.go.set()
    with pytest.raises(DiskFull):
        await cancelling
    await until(lambda: job.state != "running")
    assert [post.status for post in job.posts] == [404] * 4


@pytest.mark.parametrize("running", [3], indirect=True)
async def test_a_webhook_is_sent_although_the_last_post_could_not_be_stored(
    running: tuple[LocalJobs, Store],
) -> None:
    jobs, store = running
    store.go.set()
    job = new_job(URLS, max_url_length=512, webhook="http://localhost/")
    with capture_logs() as logs:
        await jobs.submit(job)
        await until(lambda: job.announced and not jobs._writing.locked())
    assert store.refused == 1
    assert [line["event"] for line in logs] == ["job not saved"]
    [waiting] = await jobs.waiting()
    delivery = await jobs.take(waiting.id)
    assert delivery is not None
    assert not (await jobs.waiting())[0].due
    assert delivery.url == "http://localhost/"
