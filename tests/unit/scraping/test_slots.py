"""The right to query Instagram: its order, and who gives it back when."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from scrapper.errors import DeadlineExceeded, PostForbidden, RateLimited
from scrapper.scraping.slots import Slot, Slots
from tests.process import PATIENCE_SECONDS


class Queue:
    """Posts that queue for the right of one at a time; :attr:`asked` are those that had it."""

    def __init__(self) -> None:
        self.slots, self.asked = Slots(1), list[str]()
        self._stack = ExitStack()

    def place(self, *, seconds: float = PATIENCE_SECONDS) -> Slot:
        return self._stack.enter_context(self.slots.queue(time.monotonic() + seconds))

    def ask(self, slot: Slot, name: str, error: Exception | None = None) -> None:
        with slot.asking():
            self.asked.append(name)
            if error:
                raise error

    def begin(self, slot: Slot, name: str) -> Callable[[], None]:
        """Ask in a thread; return what waits for its end."""
        thread = threading.Thread(target=self.ask, args=(slot, name), daemon=True)
        thread.start()

        def end() -> None:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

        return end


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_posts_ask_in_the_order_in_which_they_queued(queue: Queue) -> None:
    first, second, third = queue.place(), queue.place(), queue.place()
    ends = [queue.begin(third, "third"), queue.begin(second, "second")]
    assert queue.slots.waiting == 2
    queue.ask(first, "first")
    for end in ends:
        end()
    assert queue.asked == ["first", "second", "third"]
    assert queue.slots.waiting == 0


def test_second_query_queues_at_the_end(queue: Queue) -> None:
    first, second = queue.place(), queue.place()
    queue.ask(first, "first")
    end = queue.begin(first, "again")
    queue.ask(second, "second")
    end()
    assert queue.asked == ["first", "second", "again"]


def test_post_that_asks_nothing_gives_its_place_to_the_next(queue: Queue) -> None:
    with queue.slots.queue(0):
        second = queue.place(seconds=0)
        with pytest.raises(DeadlineExceeded), second.asking():
            pass
        third = queue.place()
    queue.ask(third, "third")
    assert queue.asked == ["third"]


def test_refused_post_gives_its_slot_back_at_once(queue: Queue) -> None:
    first, second = queue.place(), queue.place(seconds=0)
    with pytest.raises(PostForbidden):
        queue.ask(first, "first", PostForbidden())
    queue.ask(second, "second")


def test_limited_post_keeps_its_slot_to_its_end(queue: Queue) -> None:
    with queue.slots.queue(0) as first:
        with pytest.raises(RateLimited):
            queue.ask(first, "first", RateLimited())
        second, third = queue.place(seconds=0), queue.place()
        with pytest.raises(DeadlineExceeded):
            queue.ask(second, "second")
    queue.ask(third, "third")
    assert queue.asked == ["first", "third"]


def test_slot_given_back_twice_counts_once(queue: Queue) -> None:
    with queue.slots.queue(0) as first:
        queue.ask(first, "first")
        first.leave()
    second, third = queue.place(), queue.place(seconds=0)
    with second.asking(), pytest.raises(DeadlineExceeded):
        queue.ask(third, "third")


def test_limit_after_the_end_keeps_no_slot(queue: Queue) -> None:
    with queue.slots.queue(time.monotonic() + PATIENCE_SECONDS) as late:
        queue.ask(late, "late")
    with pytest.raises(RateLimited):
        queue.ask(late, "later", RateLimited())
    queue.ask(queue.place(seconds=0), "next")
    assert queue.asked == ["late", "later", "next"]


def test_thread_of_an_ended_post_waits_no_longer(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, raised, has = threading.Event(), list[Exception](), Slots.has

    def noted(slots: Slots, place: threading.Event) -> bool:
        found = has(slots, place)
        begun.set()
        return found

    def ask(slot: Slot) -> None:
        try:
            queue.ask(slot, "ended")
        except DeadlineExceeded as error:
            raised.append(error)

    monkeypatch.setattr(Slots, "has", noted)
    queue.place()
    with queue.slots.queue(time.monotonic() + 10 * PATIENCE_SECONDS) as slot:
        thread = threading.Thread(target=ask, args=[slot], daemon=True)
        thread.start()
        assert begun.wait(PATIENCE_SECONDS)
    thread.join(PATIENCE_SECONDS)
    assert len(raised) == 1
    assert queue.asked == []
