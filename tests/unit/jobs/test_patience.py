"""How long a post may wait, also when a clock is wrong."""

import time

import pytest

from scrapper.jobs.waiting import Patience, Place

PLACE = Place(1.0, "job", 0)
DAY = 24 * 3600.0


async def test_all_patience_is_left_at_the_first_limit() -> None:
    assert await Patience(60.0).left(PLACE, None) == pytest.approx(60.0, abs=5)


@pytest.mark.parametrize("jump", [-3650 * DAY, -3 * DAY, 3 * DAY, 3650 * DAY])
async def test_a_clock_jump_costs_no_patience(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    patience, since = Patience(60.0), time.time()
    await patience.left(PLACE, None)
    monkeypatch.setattr("time.time", lambda: since + jump)
    assert await patience.left(PLACE, since) == pytest.approx(60.0, abs=5)


@pytest.mark.parametrize(("is_right", "left"), [(True, 50.0), (False, 60.0)])
async def test_an_earlier_wait_counts_if_the_clock_is_right(is_right: bool, left: float) -> None:
    patience = Patience(60.0, clock_is_right=lambda: is_right)
    assert await patience.left(PLACE, time.time() - 10) == pytest.approx(left, abs=5)


async def test_a_start_in_the_future_counts_as_no_wait() -> None:
    assert await Patience(60.0).left(PLACE, time.time() + DAY) == pytest.approx(60.0, abs=5)


async def test_a_retried_post_gets_all_its_patience_back() -> None:
    patience = Patience(60.0)
    await patience.left(PLACE, time.time() - 50)
    assert await patience.left(PLACE, None) == pytest.approx(60.0, abs=5)


async def test_posts_without_patience_are_forgotten() -> None:
    patience = Patience(60.0)
    for index in range(100):
        await patience.left(Place(1.0, "job", index), time.time() - 1000)
    await patience.left(PLACE, None)
    assert len(patience._since) == 1
