"""Recent changes to stored posts, for clients that follow the library."""

from collections import deque
from typing import Literal, NamedTuple, Protocol

__all__ = ["Change", "LocalPostChanges", "PostChange", "PostChanges"]

Change = Literal["stored", "changed", "removed"]
"""``stored`` means that the post was stored, perhaps not for the first time. ``changed`` means that
it was kept or released, or that a plugin added something to it.
"""

_MAX_CHANGES = 10_000


class PostChange(NamedTuple):
    """A change to one post."""

    shortcode: str
    change: Change


class PostChanges(Protocol):
    """The latest changes to posts, made by any process."""

    def record(self, shortcode: str, change: Change) -> None:
        """Record a change; call this on the event loop."""

    async def place(self) -> str:
        """Return the position after the latest change."""

    async def since(self, place: str) -> tuple[str, list[PostChange] | None]:
        """Return two values: the position after the latest change, and the changes since *place*.

        The second value is None if some of these changes are no longer available.
        """


class LocalPostChanges:
    """An implementation of :class:`PostChanges` with only this process's changes."""

    def __init__(self) -> None:
        self._changes: deque[PostChange] = deque(maxlen=_MAX_CHANGES)
        self._last = 0

    def record(self, shortcode: str, change: Change) -> None:
        self._changes.append(PostChange(shortcode, change))
        self._last += 1

    async def place(self) -> str:
        return str(self._last)

    async def since(self, place: str) -> tuple[str, list[PostChange] | None]:
        number = self._last - int(place)
        if number > len(self._changes):
            return str(self._last), None
        return str(self._last), [self._changes[-index] for index in range(number, 0, -1)]
