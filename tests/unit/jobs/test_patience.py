"""How long a post may wait, even if the clock is wrong."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from scrapper.errors import MediaFolderGone
from scrapper.jobs.waiting import Patience, Place

PLACE = Place(1.0, "job", 0)
DAY = 24 * 3600.0
WALL = 1e9


@pytest.fixture(autouse=True)
def wall(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a wall clock that shows ``now``, a Unix time. The monotonic clock is stopped."""
    wall = SimpleNamespace(now=WALL)
    clocks = SimpleNamespace(monotonic=lambda: 0.0, time=lambda: wall.now)
    monkeypatch.setattr("scrapper.jobs.waiting.time", clocks)
    return wall


async def test_all_patience_is_left_at_the_first_limit() -> None:
    assert await Patience(60.0).left(PLACE, None) == 60.0


@pytest.mark.parametrize("jump", [-3650 * DAY, -3 * DAY, 3 * DAY, 3650 * DAY])
async def test_a_clock_jump_costs_no_patience(jump: float, wall: SimpleNamespace) -> None:
    patience = Patience(60.0)
    await patience.left(PLACE, None)
    wall.now += jump
    assert await patience.left(PLACE, WALL) == 60.0


@pytest.mark.parametrize(("is_trusted", "left"), [(True, 50.0), (False, 60.0)])
async def test_an_earlier_wait_counts_if_the_clock_is_right(is_trusted: bool, left: float) -> None:
    patience = Patience(60.0, clock_is_trusted=lambda: is_trusted)
    assert await patience.left(PLACE, WALL - 10) == left


async def test_an_earlier_wait_does_not_count_without_the_folder() -> None:
    patience = Patience(60.0, clock_is_trusted=Mock(side_effect=MediaFolderGone))
    assert await patience.left(PLACE, WALL - 10) == 60.0


async def test_a_wait_that_begins_in_the_future_counts_as_zero() -> None:
    assert await Patience(60.0).left(PLACE, WALL + DAY) == 60.0


async def test_a_retried_post_has_all_its_patience_again() -> None:
    patience = Patience(60.0)
    await patience.left(PLACE, WALL - 50)
    assert await patience.left(PLACE, None) == 60.0


async def test_posts_that_ran_out_of_patience_are_forgotten() -> None:
    is_trusted = True
    patience = Patience(60.0, clock_is_trusted=lambda: is_trusted)
    places = [Place(1.0, "job", index) for index in range(1, 100)]
    for place in places:
        assert await patience.left(place, WALL - 1000) == -940.0
    await patience.left(PLACE, None)
    # A post that was not forgotten would have no patience left.
    is_trusted = False
    for place in reversed(places):
        assert await patience.left(place, WALL - 1000) == 60.0
