"""Which posts changed recently, for clients that follow the library."""

from collections import deque
from typing import Literal, NamedTuple, Protocol

__all__ = ["Change", "LocalNews", "News", "PostChange"]

Change = Literal["stored", "changed", "removed"]
"""A post was stored, or stored again; its mark or its additions changed; or it was removed."""

_MOST_CHANGES = 10_000


class PostChange(NamedTuple):
    """What became of a post."""

    shortcode: str
    change: Change


class News(Protocol):
    """The latest changes of posts, by any process."""

    def note(self, shortcode: str, change: Change) -> None:
        """Note a change, on the event loop."""

    async def place(self) -> str:
        """The place after the last change."""

    async def since(self, place: str) -> tuple[str, list[PostChange] | None]:
        """The changes after a *place*, and the place after them; None if some are lost."""


class LocalNews:
    """:class:`News` of this process only."""

    def __init__(self) -> None:
        self._changes: deque[PostChange] = deque(maxlen=_MOST_CHANGES)
        self._last = 0

    def note(self, shortcode: str, change: Change) -> None:
        self._changes.append(PostChange(shortcode, change))
        self._last += 1

    async def place(self) -> str:
        return str(self._last)

    async def since(self, place: str) -> tuple[str, list[PostChange] | None]:
        number = self._last - int(place)
        lost = number > len(self._changes)
        changes = [self._changes[-index] for index in range(number, 0, -1)] if not lost else None
        return str(self._last), changes
