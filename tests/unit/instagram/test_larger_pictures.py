"""Which source is tried first, and which one is tried for larger pictures."""

from typing import NamedTuple

from scrapper.instagram.order import SourceOrder
from tests.clock import Clock


class Named(NamedTuple):
    name: str


API, WEB, PAGE = Named("api"), Named("web"), Named("page")


def test_source_without_larger_pictures_backs_off() -> None:
    clock = Clock()
    order = SourceOrder("logged_out", now=clock)
    assert [order.source_of_larger([PAGE, WEB]) for _ in range(3)] == [PAGE, WEB, None]
    clock.now += 10 * 60
    assert order.source_of_larger([PAGE]) == PAGE
    clock.now += 10 * 60
    assert order.source_of_larger([PAGE]) is None


def test_source_with_smaller_pictures_is_moved_to_the_end() -> None:
    order = SourceOrder("logged_out", now=Clock())
    assert order.source_of_larger([PAGE, WEB]) == PAGE
    order.record_larger("page", ["api"])
    assert order.sorted([API, WEB, PAGE]) == [WEB, PAGE, API]
    assert order.source_of_larger([PAGE, WEB]) == PAGE


def test_demoted_source_is_not_tried_for_larger_pictures() -> None:
    clock = Clock()
    order = SourceOrder("logged_out", now=clock)
    order.record_success("api", ["page"])
    assert order.source_of_larger([PAGE, WEB]) == WEB
    clock.now += 10 * 60
    assert order.source_of_larger([PAGE, WEB]) == PAGE


def test_restored_source_returns_to_its_usual_place() -> None:
    order = SourceOrder("logged_out", now=Clock())
    order.record_success("page", ["api", "web"])
    assert order.sorted([API, WEB, PAGE]) == [PAGE, API, WEB]
    order.restore(["web", "unknown"])
    assert order.sorted([API, WEB, PAGE]) == [WEB, PAGE, API]
