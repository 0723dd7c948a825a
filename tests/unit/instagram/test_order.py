"""The order of sources: a source comes last for a while if it refuses a post that another has."""

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
    """The order of three sources, with a fake clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order = SourceOrder("logged_out", now=lambda: self.now)

    @property
    def names(self) -> str:
        return "".join(source.name for source in self.order.sorted(SOURCES))

    def advance_until_restored(self, name: str) -> float:
        """Advance the clock until the source is back in its place, and return the seconds."""
        start = self.now
        while self.names.index(name) != "abc".index(name):
            self.now += MINUTE
        return self.now - start


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


def test_each_source_has_the_name_of_its_module() -> None:
    orders = [[source.name for source in sources] for sources in (LOGGED_OUT, WITH_SESSION)]
    assert orders == [
        ["api", "root_query", "logged_out_api", "page", "embed"],
        ["media_info", "api"],
    ]
    for source in (*LOGGED_OUT, *WITH_SESSION):
        assert source.ask.__module__ == f"scrapper.instagram.sources.{source.name}"
    assert [it.name for it in (*LOGGED_OUT, *WITH_SESSION) if it.has_stories] == ["media_info"]


def test_success_without_a_refusal_does_not_change_the_order(clocked: Clocked) -> None:
    assert clocked.names == "abc"
    clocked.order.record_success("a", [])
    clocked.order.record_success("b", [])
    assert clocked.names == "abc"


@pytest.mark.parametrize(
    ("succeeded", "refused", "names"),
    [
        ("b", ["a"], "bca"),
        ("c", ["b"], "acb"),
        ("c", ["a", "b"], "cab"),
        ("c", ["b", "a"], "cab"),
        ("a", ["c"], "abc"),
    ],
)
def test_refusing_source_comes_last(
    clocked: Clocked, succeeded: str, refused: list[str], names: str
) -> None:
    clocked.order.record_success(succeeded, refused)
    assert clocked.names == names


def test_each_further_refusal_doubles_the_backoff_to_six_hours(clocked: Clocked) -> None:
    backoffs = []
    for _ in range(8):
        clocked.order.record_success("b", ["a"])
        backoffs.append(clocked.advance_until_restored("a"))
    minutes = [10, 20, 40, 80, 160, 320, 360, 360]
    assert backoffs == [minute * MINUTE for minute in minutes]


def test_backoff_lasts_exactly_ten_minutes(clocked: Clocked) -> None:
    clocked.order.record_success("b", ["a"])
    clocked.now += 10 * MINUTE - 0.001
    assert clocked.names == "bca"
    clocked.now += 0.001
    assert clocked.names == "abc"


def test_refusals_during_a_backoff_do_not_lengthen_it(clocked: Clocked) -> None:
    for _ in range(5):
        clocked.order.record_success("b", ["a"])
        clocked.now += MINUTE
    assert clocked.advance_until_restored("a") == 5 * MINUTE
    clocked.order.record_success("b", ["a"])
    assert clocked.advance_until_restored("a") == 20 * MINUTE


def test_change_of_order_is_logged_once(clocked: Clocked) -> None:
    with capture_logs() as logs:
        clocked.order.record_success("b", ["a"])
        clocked.order.record_success("b", ["a"])
        clocked.order.record_success("b", [])
    assert [(line["login"], line["first"], line["last"]) for line in logs] == [
        ("logged_out", "b", ["a"])
    ]


def test_success_resets_the_backoff(clocked: Clocked) -> None:
    clocked.order.record_success("b", ["a"])
    clocked.order.record_success("a", [])
    assert clocked.names == "abc"
    clocked.order.record_success("b", ["a"])
    assert clocked.advance_until_restored("a") == 10 * MINUTE


def test_success_of_one_source_does_not_restore_the_others(clocked: Clocked) -> None:
    clocked.order.record_success("c", ["a", "b"])
    clocked.order.record_success("c", [])
    assert clocked.names == "cab"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from("abc")), st.floats(0, HOUR)))
)
def test_every_source_is_restored_within_six_hours(
    events: list[tuple[str, set[str], float]],
) -> None:
    clocked = Clocked()
    for succeeded, refused, seconds in events:
        clocked.order.record_success(succeeded, refused - {succeeded})
        assert sorted(clocked.names) == list("abc")
        places = {name: place for place, name in enumerate(clocked.names)}
        assert all(places[succeeded] < places[other] for other in refused - {succeeded})
        clocked.now += seconds
    clocked.now += 6 * HOUR
    assert clocked.names == "abc"


def test_threads_wait_for_the_scout_then_run_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapper.instagram.order._SCOUT_SECONDS", 10 * PATIENCE_SECONDS)
    order, started, done = SourceOrder("logged_out"), threading.Event(), threading.Event()
    together = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    ran: list[str] = []

    def scout() -> None:
        with order.scout(1e9):
            started.set()
            done.wait()
            ran.append("scout")
            order.record_success("a", [])

    def follow() -> None:
        with order.scout(1e9):
            ran.append("follower")
            together.wait()

    threads = [threading.Thread(target=scout)]
    threads[0].start()
    started.wait()
    threads += [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    assert ran == []
    done.set()
    for thread in threads:
        thread.join()
    assert ran == ["scout", *["follower"] * 3]
    assert not together.broken


class Lock:
    """A lock that never blocks; ``timeouts`` records how long each caller would have waited.

    ``on_acquire`` is called instead of waiting.
    """

    def __init__(self) -> None:
        self.timeouts: list[float] = []
        self.held = False
        self.on_acquire: Callable[[], object] = lambda: None

    def acquire(self, *, timeout: float) -> bool:
        self.timeouts.append(timeout)
        self.on_acquire()
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
    """An order, and the lock that a scout holds."""
    locks: list[Lock] = []

    def make() -> Lock:
        locks.append(Lock())
        return locks[-1]

    monkeypatch.setattr("scrapper.instagram.order.threading", SimpleNamespace(Lock=make))
    order = SourceOrder("logged_out")
    yield order, locks[-1]
    assert not locks[-1].held


def test_threads_wait_for_the_scout_for_a_limited_time(scouting: tuple[SourceOrder, Lock]) -> None:
    order, lock = scouting
    with order.scout(4000.0):
        for seconds in (4.0, 12.0, 13.0, -1.0):
            with order.scout(seconds):
                assert lock.held
    assert lock.timeouts == [3.0, 1.0, 3.0, 3.0, 0.0]


def test_thread_that_stops_waiting_leaves_the_lock_held(
    scouting: tuple[SourceOrder, Lock],
) -> None:
    order, lock = scouting
    with order.scout(4.0):
        lock.on_acquire = lambda: order.record_success("a", [])
        with order.scout(4.0):
            assert lock.held
        assert lock.held


def test_next_thread_scouts_after_a_failed_scout(
    scouting: tuple[SourceOrder, Lock],
) -> None:
    order, lock = scouting
    for _ in range(2):
        with pytest.raises(ValueError, match="refused"), order.scout(4.0):
            raise ValueError("refused")
        assert not lock.held
    assert lock.timeouts == [1.0, 1.0]


def test_no_thread_waits_once_a_working_source_is_known(scouting: tuple[SourceOrder, Lock]) -> None:
    order, lock = scouting
    order.record_success("a", [])
    with order.scout(4.0):
        assert (lock.held, lock.timeouts) == (False, [])
