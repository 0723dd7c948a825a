"""When limits count as lasting."""

from pathlib import Path
from unittest.mock import AsyncMock, Mock

import pytest
from structlog.testing import capture_logs

from scrapper.errors import (
    InstagramUnreachable,
    MediaFolderGone,
    PostForbidden,
    PostNotFound,
    RateLimited,
)
from scrapper.library.store import Library
from scrapper.scraping.peers import Peers
from scrapper.scraping.refusals import Refusals
from scrapper.scraping.scraper import Scraper
from scrapper.telemetry.metrics import Metrics
from tests.clock import Clock

pytestmark = pytest.mark.blocks
HOUR = 3600.0


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def refusals(tmp_path: Path, clock: Clock) -> Refusals:
    return Refusals(tmp_path / "refusals.json", now=clock)


async def test_limits_count_as_lasting_after_an_hour_without_an_answer(
    refusals: Refusals, clock: Clock
) -> None:
    for _ in range(12):
        await refusals.record_limit(300)
        assert not refusals.have_lasted
        clock.now += 300
    assert refusals.have_lasted
    await refusals.record_answer()
    assert not refusals.have_lasted


async def test_a_short_limit_does_not_count_as_lasting(refusals: Refusals, clock: Clock) -> None:
    await refusals.record_limit(300)
    clock.now += 2 * HOUR
    assert not refusals.have_lasted
    # It is unknown what would have happened in between.
    await refusals.record_limit(300)
    assert not refusals.have_lasted


@pytest.mark.parametrize(("pause", "lasts"), [(HOUR, True), (HOUR + 1, False)])
async def test_limits_up_to_an_hour_apart_are_one_series(
    refusals: Refusals, clock: Clock, pause: float, lasts: bool
) -> None:
    await refusals.record_limit(300)
    clock.now += 300 + pause
    await refusals.record_limit(300)
    assert refusals.have_lasted is lasts


async def test_a_limit_counts_only_as_long_as_it_lasts(refusals: Refusals, clock: Clock) -> None:
    await refusals.record_limit(HOUR - 1)
    clock.now += 2 * HOUR
    assert not refusals.have_lasted


@pytest.mark.parametrize("error", [MediaFolderGone(), PermissionError()])
async def test_limits_that_cannot_be_written_are_kept_in_memory(
    tmp_path: Path, clock: Clock, error: Exception
) -> None:
    path = tmp_path / "refusals.json"
    refusals = Refusals(path, check=Mock(side_effect=error), now=clock)
    await refusals.record_limit(2 * HOUR)
    clock.now += HOUR
    assert refusals.have_lasted
    assert not path.exists()


@pytest.mark.parametrize("error", [MediaFolderGone(), PermissionError()])
async def test_an_older_file_does_not_replace_the_series(
    tmp_path: Path, clock: Clock, error: Exception
) -> None:
    path, check = tmp_path / "refusals.json", Mock()
    refusals = Refusals(path, check=check, now=clock)
    await refusals.record_limit(60)
    await refusals.record_answer()
    check.side_effect = error
    await refusals.record_limit(2 * HOUR)
    clock.now += HOUR
    assert refusals.have_lasted
    # A newer file of another process replaces it.
    other = Refusals(path, now=clock)
    await other.record_limit(60)
    assert not refusals.have_lasted


async def test_answers_without_a_limit_write_nothing(tmp_path: Path, clock: Clock) -> None:
    check = Mock()
    refusals = Refusals(tmp_path / "refusals.json", check=check, now=clock)
    await refusals.record_answer()
    assert check.call_count == 0
    await refusals.record_limit(300)
    with capture_logs() as logs:
        for _ in range(2):
            await refusals.record_answer()
            assert not refusals.have_lasted
    assert (check.call_count, logs) == (2, [])


async def test_a_long_limit_counts_after_an_hour(refusals: Refusals, clock: Clock) -> None:
    await refusals.record_limit(24 * HOUR)
    assert not refusals.have_lasted
    clock.now += HOUR
    assert refusals.have_lasted


async def test_a_shorter_limit_does_not_shorten_a_longer_one(
    refusals: Refusals, clock: Clock
) -> None:
    await refusals.record_limit(2 * HOUR)
    await refusals.record_limit(60)
    clock.now += HOUR
    assert refusals.have_lasted


@pytest.mark.parametrize("damage", [None, "{", '"text"', "[1]"])
async def test_refusals_survive_a_restart_and_damage(
    tmp_path: Path, clock: Clock, damage: str | None
) -> None:
    path = tmp_path / "refusals.json"
    first = Refusals(path, now=clock)
    await first.record_limit(2 * HOUR)
    clock.now += HOUR
    other = Refusals(path, now=clock)
    assert other.have_lasted
    if damage is not None:
        path.write_text(damage)
        assert not other.have_lasted
    await other.record_answer()
    assert not Refusals(path, now=clock).have_lasted


async def test_a_clock_change_does_not_prolong_limits(refusals: Refusals, clock: Clock) -> None:
    await refusals.record_limit(300)
    clock.now -= 5 * HOUR
    await refusals.record_limit(300)
    clock.now += 6 * HOUR
    assert not refusals.have_lasted


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        (RateLimited(retry_after=7), "limit 7"),
        (RateLimited(), "limit 5"),
        (RateLimited(cool_down=False), ""),
        (PostNotFound(), "answer"),
        (PostForbidden(), ""),
        (InstagramUnreachable(), ""),
    ],
)
async def test_the_scraper_records_limits_and_answers(
    tmp_path: Path, error: Exception, recorded: str
) -> None:
    library = Library(tmp_path / "media")
    await library.open()
    seen: list[str] = []
    refusals = Mock(
        record_limit=AsyncMock(side_effect=lambda seconds: seen.append(f"limit {seconds:g}")),
        record_answer=AsyncMock(side_effect=lambda: seen.append("answer")),
    )
    scraper = Scraper(
        library,
        Mock(fetch=Mock(side_effect=error)),
        Metrics(),
        Peers(),
        queries=1,
        downloads=1,
        queue_limit=1,
        timeout=20,
        cooldown=5,
        refusals=refusals,
    )
    with pytest.raises(type(error)):
        await scraper.scrape("abcde", "https://www.instagram.com/p/abcde/")
    await scraper.close()
    await library.close()
    assert " ".join(seen) == recorded
