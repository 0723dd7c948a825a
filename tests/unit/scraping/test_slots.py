"""The order in which posts get slots for queries, and when the slots are released."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from scrapper.errors import DeadlineExceeded, PostForbidden, RateLimited
from scrapper.scraping.slots import Slot, Slots
from tests.process import PATIENCE_SECONDS


class Queue:
    """Posts that queue for a single slot; ``queried`` lists the posts that have had it."""

    def __init__(self) -> None:
        self.slots, self.queried = Slots(1), list[str]()
        self._stack = ExitStack()

    def place(self, *, seconds: float = PATIENCE_SECONDS) -> Slot:
        return self._stack.enter_context(self.slots.queue(time.monotonic() + seconds))

    def query(self, slot: Slot, name: str, error: Exception | None = None) -> None:
        with slot.held():
            self.queried.append(name)
            if error:
                raise error

    def begin(self, slot: Slot, name: str) -> Callable[[], None]:
        """Hold the slot in a thread; return a function that waits for the thread to end."""
        thread = threading.Thread(target=self.query, args=(slot, name), daemon=True)
        thread.start()

        def end() -> None:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

        return end


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_posts_get_slots_in_the_order_of_the_queue(queue: Queue) -> None:
    first, second, third = queue.place(), queue.place(), queue.place()
    ends = [queue.begin(third, "third"), queue.begin(second, "second")]
    assert queue.slots.waiting == 2
    queue.query(first, "first")
    for end in ends:
        end()
    assert queue.queried == ["first", "second", "third"]
    assert queue.slots.waiting == 0


def test_a_second_query_joins_the_end_of_the_queue(queue: Queue) -> None:
    first, second = queue.place(), queue.place()
    queue.query(first, "first")
    end = queue.begin(first, "again")
    queue.query(second, "second")
    end()
    assert queue.queried == ["first", "second", "again"]


def test_a_post_without_a_query_leaves_the_queue(queue: Queue) -> None:
    with queue.slots.queue(0):
        second = queue.place(seconds=0)
        with pytest.raises(DeadlineExceeded), second.held():
            pass
        third = queue.place()
    queue.query(third, "third")
    assert queue.queried == ["third"]


def test_a_refused_post_releases_its_slot_at_once(queue: Queue) -> None:
    first, second = queue.place(), queue.place(seconds=0)
    with pytest.raises(PostForbidden):
        queue.query(first, "first", PostForbidden())
    queue.query(second, "second")


def test_a_limited_post_keeps_its_slot_until_it_ends(queue: Queue) -> None:
    with queue.slots.queue(0) as first:
        with pytest.raises(RateLimited):
            queue.query(first, "first", RateLimited())
        second, third = queue.place(seconds=0), queue.place()
        with pytest.raises(DeadlineExceeded):
            queue.query(second, "second")
    queue.query(third, "third")
    assert queue.queried == ["first", "third"]


def test_releasing_a_slot_twice_frees_only_one(queue: Queue) -> None:
    with queue.slots.queue(0) as first:
        queue.query(first, "first")
        first.leave()
    second, third = queue.place(), queue.place(seconds=0)
    with second.held(), pytest.raises(DeadlineExceeded):
        queue.query(third, "third")


def test_a_limit_after_the_end_releases_the_slot(queue: Queue) -> None:
    with queue.slots.queue(time.monotonic() + PATIENCE_SECONDS) as late:
        queue.query(late, "late")
    with pytest.raises(RateLimited):
        queue.query(late, "later", RateLimited())
    queue.query(queue.place(seconds=0), "next")
    assert queue.queried == ["late", "later", "next"]


def test_the_thread_of_an_ended_post_stops_waiting(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, raised, has = threading.Event(), list[Exception](), Slots.has

    def recording(slots: Slots, place: threading.Event) -> bool:
        found = has(slots, place)
        begun.set()
        return found

    def query(slot: Slot) -> None:
        try:
            queue.query(slot, "ended")
        except DeadlineExceeded as error:
            raised.append(error)

    monkeypatch.setattr(Slots, "has", recording)
    queue.place()
    with queue.slots.queue(time.monotonic() + 10 * PATIENCE_SECONDS) as slot:
        thread = threading.Thread(target=query, args=[slot], daemon=True)
        thread.start()
        assert begun.wait(PATIENCE_SECONDS)
    thread.join(PATIENCE_SECONDS)
    assert len(raised) == 1
    assert queue.queried == []
