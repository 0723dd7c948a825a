"""In which order, and how fast, posts leave the backlog."""

import asyncio
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.jobs.model import JobPost
from scrapper.jobs.waiting import Backlog, BacklogPace, Place

PLACES = st.lists(
    st.builds(Place, st.integers(0, 3).map(float), st.sampled_from("ab"), st.integers(0, 3)),
    unique=True,
)


@given(places=PLACES)
async def test_the_oldest_post_leaves_the_backlog_first(places: list[Place]) -> None:
    backlog = Backlog(0.0)
    for place in places:
        backlog.join(place)
    assert [await backlog.next() for _ in places] == sorted(places)
    assert len(backlog) == 0


@given(places=PLACES)
async def test_a_removed_post_is_not_released(places: list[Place]) -> None:
    backlog = Backlog(0.0)
    for place in places:
        backlog.join(place)
    for place in places[::2]:
        backlog.leave(place)
        backlog.leave(place)
    remaining = places[1::2]
    assert [await backlog.next() for _ in remaining] == sorted(remaining)


async def test_the_longest_hold_delays_every_post() -> None:
    backlog = Backlog(10.0)
    times = [backlog.join(Place(1.0, "job", index), hold) for index, hold in enumerate((9e3, 5.0))]
    times.append(backlog.join(Place(0.0, "job", 0)))
    assert min(times) > time.time() + 8000


def test_success_shortens_the_pause_and_a_limit_resets_it() -> None:
    pace = BacklogPace(8.0)
    seconds = []
    for _ in range(10):
        pace.speed_up()
        seconds.append(pace.seconds)
    assert seconds[:3] == [4.0, 2.0, 1.0]
    assert seconds[-1] == 0.05
    pace.slow_down()
    assert pace.seconds == 8.0
    unlimited = BacklogPace(0.0)
    unlimited.speed_up()
    assert unlimited.seconds == 0.0


async def test_a_success_during_a_hold_does_not_shorten_the_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now, time=lambda: now)
    monkeypatch.setattr(sys.modules[Backlog.__module__], "time", clock)
    backlog = Backlog(8.0)
    first, second = Place(0.0, "job", 0), Place(0.0, "job", 1)
    backlog.join(first, hold=1000.0)
    backlog.join(second)
    backlog.record_success()
    now = 1000.0
    assert await backlog.next() == first
    waiting = asyncio.create_task(backlog.next())
    for now in (1007.9, 1008.0):
        # Adding a post wakes the task that waits for the next one.
        backlog.join(Place(1.0, "job", int(10 * now)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert waiting.done() == (now == 1008.0)
    assert await waiting == second


def test_waiting_behind_others_costs_no_patience() -> None:
    post = JobPost("url", "shortcode").waiting(time.time() - 100, limited=False)
    assert post.waiting_since is None


def test_a_backlog_that_is_not_held_delays_no_post() -> None:
    post = JobPost("url", "shortcode").waiting(time.time() - 100, limited=False)
    assert post.delayed(Backlog(1.0).held_until) == post


def test_a_wrong_clock_does_not_delay_a_post_for_years() -> None:
    post = JobPost("url", "shortcode").waiting(time.time() + 10**9, limited=True)
    assert post.seconds_to_wait(3600) == 0.0
    later = replace(post, waiting_since="2999-01-01T00:00:00Z").waiting(time.time(), limited=True)
    assert later.waiting_since is not None
    assert later.waiting_since < "2999"
