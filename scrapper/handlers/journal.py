"""The latest events, rendered for event streams that progress at different speeds."""

import re
import secrets
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

__all__ = ["Journal", "Pieces", "event"]

_MAX_BYTES = 4_000_000
_PIECE_BYTES = 64 * 1024
_PIECE_OVERHEAD = 300
_ID = re.compile(r"([0-9a-f]{8})-([0-9]{1,15})")


class _Event(NamedTuple):
    """An event. If ``private``, only its ``owner`` and viewers who see everything may see it."""

    text: bytes
    owner: str | None
    private: bool


class Pieces:
    """A cache of a stream's rendered pieces, each with the number of its last event.

    All readers share the cache. Readers that start at different events need different pieces, so
    the cache is limited to the latest 4 MB.
    """

    def __init__(self) -> None:
        self._rendered: dict[Hashable, tuple[bytes, int]] = {}
        self._bytes = 0

    def get(self, key: Hashable, render: Callable[[], tuple[bytes, int]]) -> tuple[bytes, int]:
        """Return two values: the piece under *key*, and the number of its last event.

        If the piece is not cached, both come from *render* and are then cached.
        """
        rendered = self._rendered.get(key)
        if rendered is None:
            rendered = self._rendered[key] = render()
            self._bytes += _PIECE_OVERHEAD + len(rendered[0])
            while self._bytes > _MAX_BYTES and len(self._rendered) > 1:
                piece, _ = self._rendered.pop(next(iter(self._rendered)))
                self._bytes -= _PIECE_OVERHEAD + len(piece)
        return rendered

    def clear(self) -> None:
        """Drop all pieces."""
        self._rendered.clear()
        self._bytes = 0


class Journal:
    """The latest 4 MB of events, numbered in sequence.

    A reader that knows the number of the last event it received can resume as long as the next
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
        """Add an event called *name* with the JSON *data*.

        If *private* is true, only *owner* and viewers who see everything may see the event.
        """
        text = event(name, data, self._id(self.last + 1))
        self._events.append(_Event(text, owner, private))
        self._bytes += len(text)
        while self._bytes > _MAX_BYTES and len(self._events) > 1:
            self._bytes -= len(self._events.popleft().text)
            self._before_first += 1
        self._pieces.clear()

    def restart(self) -> None:
        """Force every reader to start over, because events may have been lost."""
        self._before_first = self.last + 1
        self._events.clear()
        self._bytes = 0
        self._pieces.clear()

    def number_of(self, event_id: str) -> int | None:
        """Return the number in *event_id*, or None if a reader cannot resume after that event."""
        found = _ID.fullmatch(event_id)
        number = int(found[2]) if found and found[1] == self._epoch else None
        return number if number is not None and self.can_resume_after(number) else None

    def can_resume_after(self, number: int) -> bool:
        """Return whether event *number* + 1 is in the journal, or is the next to be added."""
        return self._before_first <= number <= self.last

    def reset(self) -> bytes:
        """Return a ``reset`` event, for a reader that cannot resume."""
        return event("reset", b"{}", self._id(self.last))

    def after(self, number: int, viewer: str | None) -> tuple[bytes, int]:
        """Return the events after *number* that *viewer* may see, and the number to continue after.

        Events that *viewer* may not see are skipped, so the second value may be the number of a
        skipped event. To limit the memory that a slow reader takes, at most 64 KB of events are
        returned, or a single larger event. *viewer* is None if the client sees everything.
        """
        return self._pieces.get((number, viewer), lambda: self._render(number, viewer))

    def _render(self, number: int, viewer: str | None) -> tuple[bytes, int]:
        texts: list[bytes] = []
        size = 0
        # Indexing a deque is fast near both ends, and most readers are near the latest event.
        while number < self.last and size < _PIECE_BYTES:
            text, owner, private = self._events[number - self._before_first]
            if not private or viewer in (None, owner):
                if texts and size + len(text) > _PIECE_BYTES:
                    break
                texts.append(text)
                size += len(text)
            number += 1
        return b"".join(texts), number

    def _id(self, number: int) -> str:
        return f"{self._epoch}-{number}"


def event(name: str, data: bytes, id_: str = "") -> bytes:
    """Render one server-sent event (HTML Living Standard, section 9.2)."""
    head = f"id: {id_}\r\n" if id_ else ""
    return b"%bevent: %b\r\ndata: %b\r\n\r\n" % (head.encode(), name.encode(), data)
