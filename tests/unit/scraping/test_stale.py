"""A stale post is returned if it cannot be downloaded again."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from scrapper.errors import (
    ChallengeRequired,
    CoolingDown,
    DeadlineExceeded,
    DiskFull,
    InstagramChanged,
    InstagramUnreachable,
    MediaTooLarge,
    PaceExceeded,
    PostForbidden,
    PostNotFound,
    RateLimited,
)
from scrapper.jobs.model import new_job
from scrapper.jobs.runner import Runner
from scrapper.jobs.stores.memory import MemoryStore
from scrapper.jobs.waiting import Patience
from scrapper.library.post import Fetch, Post
from scrapper.library.store import Library
from scrapper.scraping.peers import Peers
from scrapper.scraping.scraper import Scraper
from scrapper.telemetry.metrics import Metrics
from tests.unit.library.test_store import post, store

pytestmark = pytest.mark.blocks

FAILURES = [
    PostNotFound(),
    PostForbidden(),
    ChallengeRequired(),
    RateLimited(),
    CoolingDown(retry_after=9.0),
    PaceExceeded(retry_after=9.0),
    InstagramChanged(),
    InstagramUnreachable(),
    DeadlineExceeded(),
    MediaTooLarge(),
    DiskFull(),
    PermissionError(13, "Permission denied"),
    KeyError("a bug in the service"),
]


class Instagram:
    """Raises ``error`` if it is set, or else returns a fresh post. Counts the queries."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.queries = 0

    def fetch(self, fetch: Fetch, folder: Path, **_: object) -> Post:
        shortcode = fetch.shortcode
        self.queries += 1
        if self.error is not None:
            raise self.error
        (folder / f"{shortcode}.mp4").write_bytes(b"newer")
        return post(shortcode, b"newer")


@pytest.fixture
def instagram() -> Instagram:
    return Instagram()


@pytest.fixture
async def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "media")
    await library.open()
    return library


def make_scraper(
    library: Library,
    instagram: Instagram,
    cooldown: float = 0.0,
    metrics: Metrics | None = None,
) -> Scraper:
    source, metrics = Mock(fetch=instagram.fetch), metrics or Metrics()
    bounds: dict[str, Any] = {"queries": 1, "downloads": 1, "queue_limit": 1}
    return Scraper(library, source, metrics, Peers(), **bounds, timeout=20, cooldown=cooldown)


@pytest.fixture
async def scraper(library: Library, instagram: Instagram) -> AsyncIterator[Scraper]:
    made = make_scraper(library, instagram)
    yield made
    await made.close()


def store_stale(library: Library, shortcode: str = "abcde") -> None:
    folder = library.stage(shortcode)
    (folder / f"{shortcode}.mp4").write_bytes(b"video")
    old = post(shortcode)
    expired = tuple(replace(item, cdn_url="https://cdn.example/?oe=1") for item in old.media)
    library.publish(folder, replace(old, media=expired))


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_a_stale_post_is_returned_after_any_error(
    library: Library, instagram: Instagram, scraper: Scraper, error: Exception
) -> None:
    store_stale(library)
    instagram.error = error
    scraped = await scraper.scrape("abcde", "")
    assert (scraped.cached, scraped.stored.fresh) == (True, False)
    assert b'"cached":true,"stale":true' in scraped.stored.to_json(cached=scraped.cached)
    kept = await scraper.scrape("abcde", "", keep=True)
    assert (kept.cached, kept.stored.kept) == (True, True)
    with pytest.raises(type(error)):
        await scraper.scrape("abcde", "", refresh=True)


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_without_a_stored_post_the_error_is_raised(
    instagram: Instagram, scraper: Scraper, error: Exception
) -> None:
    instagram.error = error
    with pytest.raises(type(error)):
        await scraper.scrape("abcde", "")


async def test_a_stale_post_is_downloaded_once_instagram_returns_it(
    library: Library, instagram: Instagram, scraper: Scraper
) -> None:
    store_stale(library)
    instagram.error = PostNotFound()
    await scraper.scrape("abcde", "")
    instagram.error = None
    scraped = await scraper.scrape("abcde", "")
    assert (scraped.cached, scraped.stored.fresh) == (False, True)
    assert b'"cached":false,"stale":false' in scraped.stored.to_json(cached=scraped.cached)


@pytest.mark.parametrize("error", [PostNotFound(), RateLimited(), InstagramUnreachable()])
async def test_a_refused_stale_post_is_not_retried_at_once(
    library: Library, instagram: Instagram, error: Exception
) -> None:
    scraper = make_scraper(library, instagram, cooldown=300)
    store_stale(library)
    instagram.error = error
    for _ in range(5):
        assert (await scraper.scrape("abcde", "")).cached
        assert await scraper.has("abcde")
    assert instagram.queries == 1
    await scraper.close()


async def test_a_refresh_ends_the_wait_of_a_stale_post(
    library: Library, instagram: Instagram
) -> None:
    scraper = make_scraper(library, instagram, cooldown=300)
    store_stale(library)
    instagram.error = PostNotFound()
    await scraper.scrape("abcde", "")
    instagram.error = None
    assert not (await scraper.scrape("abcde", "", refresh=True)).cached
    store_stale(library)
    library.changed("abcde")
    assert not (await scraper.scrape("abcde", "")).cached
    await scraper.close()


async def test_retry_times_of_stale_posts_are_bounded(
    library: Library, instagram: Instagram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.scraping.scraper._MAX_RETRY_TIMES", 3)
    scraper = make_scraper(library, instagram, cooldown=300)
    instagram.error = PostNotFound()
    for number in range(5):
        store_stale(library, f"post_{number}")
        await scraper.scrape(f"post_{number}", "")
    postponed = [number for number in range(5) if await scraper.has(f"post_{number}")]
    assert postponed == [2, 3, 4]
    await scraper.close()


async def test_a_job_is_done_with_a_stale_post(
    library: Library, instagram: Instagram, scraper: Scraper
) -> None:
    store_stale(library)
    instagram.error = RateLimited(retry_after=60)
    job = new_job(["https://www.instagram.com/p/abcde/"], max_url_length=512)
    jobs = MemoryStore()
    await jobs.add(job)
    await Runner(jobs, scraper, Patience(0)).run(job.id, 0)
    assert (job.posts[0].state, job.posts[0].status) == ("done", 200)
    # The post needs no query.
    assert await scraper.has("abcde")


async def test_each_post_from_disk_counts_as_a_cache_hit(
    library: Library, instagram: Instagram
) -> None:
    metrics = Metrics()
    scraper = make_scraper(library, instagram, metrics=metrics)
    store(library)
    await scraper.scrape("abcde", "")
    store_stale(library, "stale")
    instagram.error = PostNotFound()
    await scraper.scrape("stale", "")
    assert metrics.registry.get_sample_value("scrape_cache_hits_total") == 2
    await scraper.close()
