import threading
from collections.abc import Iterator
from contextlib import suppress
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.errors import PaceExceeded
from scrapper.instagram.pace import Pace


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    with patch("scrapper.instagram.pace.time", Clock()) as clock:
        yield clock


def test_full_window_raises_with_the_time_to_wait(clock: Clock) -> None:
    pace = Pace(2, 660)
    pace.count("query")
    clock.now = 100
    pace.count("query")
    clock.now = 110
    with pytest.raises(PaceExceeded) as refused:
        pace.count("query")
    assert refused.value.retry_after == 550
    clock.now = 660
    pace.count("query")


def test_page_views_and_queries_have_separate_windows() -> None:
    pace = Pace(1, 660)
    pace.count("query")
    pace.count("page")
    with pytest.raises(PaceExceeded):
        pace.count("page")


@pytest.mark.parametrize(("queries", "pages"), [(3, 3), (75, 75), (100, 75), (200, 75), (400, 150)])
def test_page_view_limit_follows_the_query_limit(queries: int, pages: int) -> None:
    pace = Pace(queries, 660)
    for _ in range(pages):
        pace.count("page")
    with pytest.raises(PaceExceeded):
        pace.count("page")


def test_zero_queries_means_no_limit() -> None:
    pace = Pace(0, 660)
    for _ in range(1000):
        pace.count("query")


def test_threads_share_one_count() -> None:
    pace, refused = Pace(50, 660), []

    def send() -> None:
        for _ in range(25):
            try:
                pace.count("query")
            except PaceExceeded as error:
                refused.append(error)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 8 * 25 - 50


@given(st.integers(1, 5), st.lists(st.integers(0, 20), max_size=60))
def test_no_window_ever_exceeds_the_limit(limit: int, steps: list[int]) -> None:
    with patch("scrapper.instagram.pace.time", Clock()) as clock:
        pace, allowed = Pace(limit, 30), []
        for step in steps:
            clock.now += step
            with suppress(PaceExceeded):
                pace.count("query")
                allowed.append(clock.now)
        for start in allowed:
            assert sum(start <= moment < start + 30 for moment in allowed) <= limit
