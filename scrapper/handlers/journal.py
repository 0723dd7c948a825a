"""The latest events, as bytes of a stream, for streams that read them at their own pace."""

import re
import secrets
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

__all__ = ["Journal", "Pieces", "event"]

_MOST_BYTES = 4_000_000
_PIECE_BYTES = 64 * 1024
_PIECE_OVERHEAD = 300
_ID = re.compile(r"([0-9a-f]{8})-([0-9]{1,15})")


class _Event(NamedTuple):
    """An event; a ``private`` one is for its ``owner``, and for viewers who see everything."""

    text: bytes
    owner: str | None
    private: bool


class Pieces:
    """Pieces of a stream, and where each ends, each made once for all readers.

    Only the latest 4 MB stay: readers that begin at different events get different pieces.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[bytes, int]] = {}
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], tuple[bytes, int]]) -> tuple[bytes, int]:
        """The piece under *key*, which *make* makes if it is not there."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
            self._bytes += _PIECE_OVERHEAD + len(made[0])
            while self._bytes > _MOST_BYTES and len(self._made) > 1:
                piece, _ = self._made.pop(next(iter(self._made)))
                self._bytes -= _PIECE_OVERHEAD + len(piece)
        return made

    def clear(self) -> None:
        """Forget all pieces."""
        self._made.clear()
        self._bytes = 0


class Journal:
    """The latest events, 4 MB of them, numbered.

    A reader knows the number of the last event that it saw, and can resume there while the next
    event is still in the journal.
    """

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)
        self._events: deque[_Event] = deque()
        self._before_first = 0
        self._bytes = 0
        self._pieces = Pieces()

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._before_first + len(self._events)

    def add(
        self, name: str, data: bytes, *, private: bool = False, owner: str | None = None
    ) -> None:
        """Note an event with *data*, JSON; *private* ones are for *owner* and those who see all."""
        text = event(name, data, self._id(self.last + 1))
        self._events.append(_Event(text, owner, private))
        self._bytes += len(text)
        while self._bytes > _MOST_BYTES and len(self._events) > 1:
            self._bytes -= len(self._events.popleft().text)
            self._before_first += 1
        self._pieces.clear()

    def begin_anew(self) -> None:
        """Force every reader to start over: events may have been lost."""
        self._before_first = self.last + 1
        self._events.clear()
        self._bytes = 0
        self._pieces.clear()

    def place_of(self, event_id: str) -> int | None:
        """The number in the ID of an event, if a reader can resume there."""
        found = _ID.fullmatch(event_id)
        place = int(found[2]) if found and found[1] == self._epoch else None
        return place if place is not None and self.goes_on_from(place) else None

    def goes_on_from(self, place: int) -> bool:
        """Whether the event after number *place* is still here, or is the next to come."""
        return self._before_first <= place <= self.last

    def reset(self) -> bytes:
        """The event that begins a stream which cannot resume."""
        return event("reset", b"{}", self._id(self.last))

    def after(self, place: int, viewer: str | None) -> tuple[bytes, int]:
        """The events after number *place* that *viewer* may see, and the number of the last.

        At most 64 KB of events, or one larger event: a slow reader holds no more in memory.
        *viewer* is None if the client sees everything.
        """
        return self._pieces.get((place, viewer), lambda: self._make(place, viewer))

    def _make(self, place: int, viewer: str | None) -> tuple[bytes, int]:
        texts: list[bytes] = []
        size = 0
        # By index: a deque finds the item from its nearer end.
        while place < self.last and size < _PIECE_BYTES:
            text, owner, private = self._events[place - self._before_first]
            if not private or viewer in (None, owner):
                if texts and size + len(text) > _PIECE_BYTES:
                    break
                texts.append(text)
                size += len(text)
            place += 1
        return b"".join(texts), place

    def _id(self, number: int) -> str:
        return f"{self._epoch}-{number}"


def event(name: str, data: bytes, id_: str = "") -> bytes:
    """One event of a stream: HTML Living Standard, section 9.2."""
    head = f"id: {id_}\r\n" if id_ else ""
    return b"%bevent: %b\r\ndata: %b\r\n\r\n" % (head.encode(), name.encode(), data)
