"""Who goes first of the posts that wait."""

import time

from hypothesis import given
from hypothesis import strategies as st

from scrapper.jobs.backlog import Backlog, Place
from scrapper.jobs.model import JobPost

PLACES = st.lists(
    st.builds(Place, st.integers(0, 3).map(float), st.sampled_from("ab"), st.integers(0, 3)),
    unique=True,
)


@given(places=PLACES)
async def test_the_oldest_post_leaves_first_whoever_joined_first(places: list[Place]) -> None:
    backlog = Backlog(0.0)
    for place in places:
        backlog.join(place)
    assert [await backlog.next() for _ in places] == sorted(places)
    assert len(backlog) == 0


@given(places=PLACES)
async def test_a_post_that_left_is_not_called(places: list[Place]) -> None:
    backlog = Backlog(0.0)
    for place in places:
        backlog.join(place)
    for place in places[::2]:
        backlog.leave(place)
        backlog.leave(place)
    remaining = places[1::2]
    assert [await backlog.next() for _ in remaining] == sorted(remaining)


async def test_each_post_further_back_has_a_later_turn() -> None:
    backlog = Backlog(10.0)
    turns = [backlog.join(Place(1.0, "job", index), 1000.0) for index in range(4)]
    assert turns == sorted(turns)
    assert len({round(turn) for turn in turns}) == 4
    assert turns[0] > time.time()


def test_times_that_a_wrong_clock_left_do_not_make_a_post_wait_for_years() -> None:
    post = JobPost("url", "shortcode")
    post.wait(time.time() + 10**9)
    assert post.seconds_to_wait(3600) == 0.0
    post.waiting_since = "2999-01-01T00:00:00Z"
    post.wait(time.time() + 5)
    assert post.patience_left(3600) <= 3600
    assert post.waiting_since < "2999"
