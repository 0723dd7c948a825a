"""Which source is asked first, and which for larger pictures."""

from typing import NamedTuple

from scrapper.instagram.order import SourceOrder
from tests.clock import Clock


class Named(NamedTuple):
    name: str


API, WEB, PAGE = Named("api"), Named("web"), Named("page")


def test_a_source_without_larger_pictures_rests() -> None:
    clock = Clock()
    order = SourceOrder("logged_out", now=clock)
    assert [order.helper([PAGE, WEB]) for _ in range(3)] == [PAGE, WEB, None]
    clock.now += 10 * 60
    assert order.helper([PAGE]) == PAGE
    clock.now += 10 * 60
    assert order.helper([PAGE]) is None


def test_a_source_with_larger_pictures_comes_first() -> None:
    order = SourceOrder("logged_out", now=Clock())
    assert order.helper([PAGE, WEB]) == PAGE
    order.helped("page", ["api"])
    assert order.sorted([API, WEB, PAGE]) == [WEB, PAGE, API]
    assert order.helper([PAGE, WEB]) == PAGE


def test_a_source_that_comes_last_is_not_a_helper() -> None:
    clock = Clock()
    order = SourceOrder("logged_out", now=clock)
    order.gave("api", ["page"])
    assert order.helper([PAGE, WEB]) == WEB
    clock.now += 10 * 60
    assert order.helper([PAGE, WEB]) == PAGE


def test_a_source_whose_trouble_is_over_is_restored() -> None:
    order = SourceOrder("logged_out", now=Clock())
    order.gave("page", ["api", "web"])
    assert order.sorted([API, WEB, PAGE]) == [PAGE, API, WEB]
    order.restore(["web", "unknown"])
    assert order.sorted([API, WEB, PAGE]) == [WEB, PAGE, API]
