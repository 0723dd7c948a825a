"""The order in which webhooks are delivered, and which of them are given up."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.jobs.webhooks import Delivery, Receivers, Waiting, pause_after
from tests.clock import Clock

DAY = 24 * 60 * 60


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receivers(clock: Clock) -> Receivers:
    return Receivers(now=clock)


def queue(receiver: str, number: int, *, age: float = 10.0, due: bool = True) -> list[Waiting]:
    """Return *number* deliveries to *receiver*, oldest first."""
    return [Waiting(f"{receiver}-{n}", "job", receiver, age - n / 1e6, due) for n in range(number)]


def begin_all(receivers: Receivers, waiting: Iterable[Waiting]) -> list[Waiting]:
    """Begin all deliveries that may begin now, and return them."""
    begun = []
    while one := receivers.next(waiting):
        receivers.begin(one)
        begun.append(one)
    return begun


def fail_once(receivers: Receivers, clock: Clock, waiting: list[Waiting]) -> None:
    """Make a delivery to the only receiver fail, as soon as its pause is over."""
    while (one := receivers.next(waiting)) is None:
        clock.now += 1
    receivers.begin(one)
    receivers.end(one.id, failed=True)


def test_one_receiver_gets_a_quarter_of_the_slots(receivers: Receivers) -> None:
    assert begin_all(receivers, queue("stuck:80", 50)) == queue("stuck:80", 50)[:2]
    assert len(begin_all(receivers, queue("stuck:80", 50) + queue("healthy:80", 3))) == 2
    assert len(begin_all(receivers, [one for n in range(9) for one in queue(f"{n}:80", 9)])) == 4


def test_the_least_busy_receiver_comes_first(receivers: Receivers) -> None:
    old, young = queue("old:80", 3, age=90), queue("young:80", 3)
    assert begin_all(receivers, young + old) == [old[0], young[0], old[1], young[1]]


def test_a_delivery_that_is_not_due_does_not_begin(receivers: Receivers) -> None:
    assert begin_all(receivers, queue("a:80", 3, due=False)) == []


def test_each_failure_lengthens_the_pause(receivers: Receivers, clock: Clock) -> None:
    waiting, pauses = queue("dead:80", 5), []
    for _ in range(11):
        fail_once(receivers, clock, waiting)
        before = clock.now
        while receivers.next(waiting) is None:
            clock.now += 1
        pauses.append(clock.now - before)
    assert pauses == [1, 3, 9, 27, 81, 243, 729, 2187, 3600, 3600, 3600]
    assert begin_all(receivers, waiting) == waiting[:1]
    receivers.end(waiting[0].id, failed=False)
    assert begin_all(receivers, waiting) == waiting[:2]


def test_a_pause_does_not_delay_other_receivers(receivers: Receivers, clock: Clock) -> None:
    fail_once(receivers, clock, queue("dead:80", 5))
    assert begin_all(receivers, queue("dead:80", 5) + queue("healthy:80", 1)) == queue(
        "healthy:80", 1
    )


def test_one_receiver_does_not_crowd_out_others(receivers: Receivers) -> None:
    healthy, dead = queue("healthy:80", 3, age=500), queue("dead:80", 1060)
    given_up = dict(receivers.to_give_up(healthy + dead))
    assert set(given_up) == set(dead[:810])
    assert set(given_up.values()) == {"too many deliveries are waiting for the receiver"}


def test_the_longest_queue_is_shortened_if_too_many_wait(receivers: Receivers) -> None:
    queues = [one for n in range(4) for one in queue(f"{n}:80", 249)]
    given_up = list(receivers.to_give_up([*queue("full:80", 250), *queues]))
    assert len(given_up) == 246
    assert given_up[0][0] == queue("full:80", 250)[0]
    assert {cause for _, cause in given_up} == {"too many deliveries are waiting"}


def test_day_old_deliveries_to_failing_receivers_are_given_up(
    receivers: Receivers, clock: Clock
) -> None:
    old = queue("a:80", 3, age=DAY + 5)
    assert list(receivers.to_give_up(old)) == []
    fail_once(receivers, clock, old)
    young = queue("a:80", 1, age=5)
    assert [one for one, _ in receivers.to_give_up(old + young)] == old


def test_a_delivery_under_way_is_not_given_up(receivers: Receivers) -> None:
    waiting = queue("a:80", 300)
    sent = begin_all(receivers, waiting)
    assert not set(sent) & {one for one, _ in receivers.to_give_up(waiting)}


def test_receivers_without_deliveries_are_forgotten(receivers: Receivers, clock: Clock) -> None:
    for number in range(50):
        fail_once(receivers, clock, queue(f"{number}:80", 1))
    assert list(receivers.to_give_up([])) == []
    for number in range(50):
        # A receiver that is still known to fail would wait, and then get only one slot.
        again = begin_all(receivers, queue(f"{number}:80", 2))
        assert again == queue(f"{number}:80", 2)
        for one in again:
            receivers.end(one.id, failed=False)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1e6), st.booleans()), max_size=40))
def test_no_receiver_gets_more_than_its_share(some: list[tuple[int, float, bool]]) -> None:
    waiting = [
        Waiting(str(n), "job", f"{to}:80", age, due) for n, (to, age, due) in enumerate(some)
    ]
    begun = begin_all(Receivers(), waiting)
    assert len(begun) <= 8
    assert all(sum(one.receiver == f"{to}:80" for one in begun) <= 2 for to in range(4))
    assert all(one.due for one in begun)


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("https://n8n.example.com/a?b", "n8n.example.com"),
        ("https://N8N.example.com.:443/", "n8n.example.com"),
        ("http://n8n.example.com/", "n8n.example.com"),
        ("http://[fd00::1]:8080/", "fd00::1"),
        ("http://[::ffff:192.0.2.1]/", "192.0.2.1"),
    ],
)
def test_all_ports_of_a_host_are_one_receiver(url: str, receiver: str) -> None:
    assert Delivery("msg", url, b"").receiver == receiver


def test_a_pause_lasts_at_most_an_hour() -> None:
    assert pause_after(10**6) == 3600
