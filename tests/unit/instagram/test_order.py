"""The order of sources: who refused what another one gave comes last, for longer each time."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from scrapper.instagram.order import SourceOrder
from scrapper.instagram.sources import LOGGED_OUT, WITH_SESSION
from tests.process import PATIENCE_SECONDS

MINUTE = 60.0
HOUR = 60 * MINUTE


@dataclass(frozen=True)
class Named:
    name: str


SOURCES = [Named(name) for name in "abc"]


class Clocked:
    """An order, and the clock that it looks at."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order = SourceOrder("logged_out", now=lambda: self.now)

    @property
    def names(self) -> str:
        return "".join(source.name for source in self.order.sorted(SOURCES))

    def rests_for(self, name: str) -> float:
        """The seconds until the source is in its own place again; the clock goes on by them."""
        start = self.now
        while self.names.index(name) != "abc".index(name):
            self.now += MINUTE
        return self.now - start


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


def test_each_source_stands_under_its_module_s_name() -> None:
    orders = [[source.name for source in sources] for sources in (LOGGED_OUT, WITH_SESSION)]
    assert orders == [
        ["api", "root_query", "logged_out_api", "page", "embed"],
        ["media_info", "api"],
    ]
    for source in (*LOGGED_OUT, *WITH_SESSION):
        assert source.ask.__module__ == f"scrapper.instagram.sources.{source.name}"
    assert [it.name for it in (*LOGGED_OUT, *WITH_SESSION) if it.has_stories] == ["media_info"]


def test_sources_keep_their_order_until_one_is_contradicted(clocked: Clocked) -> None:
    assert clocked.names == "abc"
    clocked.order.gave("a", [])
    clocked.order.gave("b", [])
    assert clocked.names == "abc"


@pytest.mark.parametrize(
    ("gave", "refused", "names"),
    [
        ("b", ["a"], "bca"),
        ("c", ["b"], "acb"),
        ("c", ["a", "b"], "cab"),
        ("c", ["b", "a"], "cab"),
        ("a", ["c"], "abc"),
    ],
)
def test_a_source_that_refused_comes_last(
    clocked: Clocked, gave: str, refused: list[str], names: str
) -> None:
    clocked.order.gave(gave, refused)
    assert clocked.names == names


def test_each_further_refusal_doubles_the_pause_up_to_six_hours(clocked: Clocked) -> None:
    pauses = []
    for _ in range(8):
        clocked.order.gave("b", ["a"])
        pauses.append(clocked.rests_for("a"))
    minutes = [10, 20, 40, 80, 160, 320, 360, 360]
    assert pauses == [minute * MINUTE for minute in minutes]


def test_a_pause_ends_at_its_very_end(clocked: Clocked) -> None:
    clocked.order.gave("b", ["a"])
    clocked.now += 10 * MINUTE - 0.001
    assert clocked.names == "bca"
    clocked.now += 0.001
    assert clocked.names == "abc"


def test_refusals_during_a_pause_lengthen_nothing(clocked: Clocked) -> None:
    for _ in range(5):
        clocked.order.gave("b", ["a"])
        clocked.now += MINUTE
    assert clocked.rests_for("a") == 5 * MINUTE
    clocked.order.gave("b", ["a"])
    assert clocked.rests_for("a") == 20 * MINUTE


def test_a_change_of_the_order_is_logged_once(clocked: Clocked) -> None:
    with capture_logs() as logs:
        clocked.order.gave("b", ["a"])
        clocked.order.gave("b", ["a"])
        clocked.order.gave("b", [])
    assert [(line["login"], line["first"], line["last"]) for line in logs] == [
        ("logged_out", "b", ["a"])
    ]


def test_a_source_that_works_starts_over(clocked: Clocked) -> None:
    clocked.order.gave("b", ["a"])
    clocked.order.gave("a", [])
    assert clocked.names == "abc"
    clocked.order.gave("b", ["a"])
    assert clocked.rests_for("a") == 10 * MINUTE


def test_a_source_that_gave_nothing_new_keeps_others_setbacks(clocked: Clocked) -> None:
    clocked.order.gave("c", ["a", "b"])
    clocked.order.gave("c", [])
    assert clocked.names == "cab"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from("abc")), st.floats(0, HOUR)))
)
def test_every_order_has_all_sources_in_place_after_six_hours(
    events: list[tuple[str, set[str], float]],
) -> None:
    clocked = Clocked()
    for gave, refused, seconds in events:
        clocked.order.gave(gave, refused - {gave})
        assert sorted(clocked.names) == list("abc")
        places = {name: place for place, name in enumerate(clocked.names)}
        assert all(places[gave] < places[other] for other in refused - {gave})
        clocked.now += seconds
    clocked.now += 6 * HOUR
    assert clocked.names == "abc"


def test_one_scout_goes_ahead_and_the_others_follow_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapper.instagram.order._SCOUT_SECONDS", 10 * PATIENCE_SECONDS)
    order, going, done = SourceOrder("logged_out"), threading.Event(), threading.Event()
    together = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    went: list[str] = []

    def scout() -> None:
        with order.scout(1e9):
            going.set()
            done.wait()
            went.append("scout")
            order.gave("a", [])

    def follow() -> None:
        with order.scout(1e9):
            went.append("follower")
            together.wait()

    threads = [threading.Thread(target=scout)]
    threads[0].start()
    going.wait()
    threads += [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    assert went == []
    done.set()
    for thread in threads:
        thread.join()
    assert went == ["scout", *["follower"] * 3]
    assert not together.broken


class Lock:
    """A lock that is never waited for; ``waits`` are the seconds that it would have been."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.held = False
        self.meanwhile: Callable[[], object] = lambda: None

    def acquire(self, *, timeout: float) -> bool:
        self.waits.append(timeout)
        self.meanwhile()
        free, self.held = not self.held, True
        return free

    def release(self) -> None:
        assert self.held
        self.held = False

    def __enter__(self) -> None:
        self.acquire(timeout=0.0)

    def __exit__(self, *_: object) -> None:
        self.release()


@pytest.fixture
def scouting(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SourceOrder, Lock]]:
    """An order, and the lock of its scout."""
    locks: list[Lock] = []

    def make() -> Lock:
        locks.append(Lock())
        return locks[-1]

    monkeypatch.setattr("scrapper.instagram.order.threading", SimpleNamespace(Lock=make))
    order = SourceOrder("logged_out")
    yield order, locks[-1]
    assert not locks[-1].held


def test_a_scout_is_awaited_for_a_share_of_the_time(scouting: tuple[SourceOrder, Lock]) -> None:
    order, lock = scouting
    with order.scout(4000.0):
        for seconds in (4.0, 12.0, 13.0, -1.0):
            with order.scout(seconds):
                assert lock.held
    assert lock.waits == [3.0, 1.0, 3.0, 3.0, 0.0]


def test_a_thread_that_waited_in_vain_leaves_the_scout_alone(
    scouting: tuple[SourceOrder, Lock],
) -> None:
    order, lock = scouting
    with order.scout(4.0):
        lock.meanwhile = lambda: order.gave("a", [])
        with order.scout(4.0):
            assert lock.held
        assert lock.held


def test_a_scout_that_fails_leaves_the_scouting_to_the_next(
    scouting: tuple[SourceOrder, Lock],
) -> None:
    order, lock = scouting
    for _ in range(2):
        with pytest.raises(ValueError, match="refused"), order.scout(4.0):
            raise ValueError("refused")
        assert not lock.held
    assert lock.waits == [1.0, 1.0]


def test_nobody_waits_once_a_source_is_known(scouting: tuple[SourceOrder, Lock]) -> None:
    order, lock = scouting
    order.gave("a", [])
    with order.scout(4.0):
        assert (lock.held, lock.waits) == (False, [])
