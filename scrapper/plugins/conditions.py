"""The states that plugins can follow: the login's state, and conditions such as a full disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scrapper.instagram.login.session import Login, LoginState
from scrapper.library.disk import free_bytes
from scrapper.scraping.refusals import Refusals
from scrapper.settings import Settings

__all__ = ["Condition", "ConditionName", "Conditions"]

ConditionName = Literal["disk_nearly_full", "instagram_refuses"]
"""``disk_nearly_full``: storing one more file of ``MAX_MEDIA_MB`` would leave less than
``MIN_FREE_DISK_MB`` free. ``instagram_refuses``: Instagram has rate-limited every request for at
least an hour."""

# Without hysteresis, the condition would flap while the free space is close to the limit.
_HYSTERESIS = 1.1


@dataclass(frozen=True, slots=True)
class Condition:
    """The *name* of a condition, and whether it *holds* now."""

    name: ConditionName
    holds: bool


class Conditions:
    """The current states of the *login* and of the conditions. The methods block."""

    def __init__(
        self,
        settings: Settings,
        login: Login,
        refusals: Refusals,
        *,
        free: Callable[[Path], int | None] = free_bytes,
    ) -> None:
        self._root = settings.media_root
        self._required_bytes = settings.min_free_bytes + settings.max_media_bytes
        self._login = login
        self._refusals = refusals
        self._free = free
        self._disk_nearly_full = False

    def now(self) -> Mapping[str, LoginState | Condition]:
        """Return the current states: the login under the key ``login``, each condition by name."""
        free = self._free(self._root)
        if free is not None:
            factor = _HYSTERESIS if self._disk_nearly_full else 1
            self._disk_nearly_full = free < self._required_bytes * factor
        # session() reloads the files, which another process may have changed.
        self._login.session()
        conditions = (
            Condition("disk_nearly_full", self._disk_nearly_full),
            Condition("instagram_refuses", self._refusals.have_lasted),
        )
        return {"login": self._login.state, **{one.name: one for one in conditions}}
