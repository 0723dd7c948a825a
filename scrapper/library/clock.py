"""Whether the wall clock can be trusted: a wrong one could make every stored post look old."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from scrapper.library.state_file import StateFile

__all__ = ["ClockWatch", "Reading", "read_clocks"]

log = structlog.get_logger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TOLERANCE_SECONDS = 60.0
_DAY = 24 * 60 * 60.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one moment.

    ``wall`` is a unix time. ``running`` counts the seconds since the machine was started, sleep
    included, and cannot be set; ``boot`` names one start of the machine, and is empty
    where that is unknown, as in a sandbox that hides it.
    """

    wall: float
    running: float
    boot: str

    def in_step_with(self, earlier: "Reading") -> bool:
        """Whether both clocks agree on the time since *earlier*.

        After a restart of the machine nobody knows how long it was off: up to a day is plausible.
        """
        since = self.wall - earlier.wall
        if self.boot and self.boot == earlier.boot:
            return abs(since - (self.running - earlier.running)) <= _TOLERANCE_SECONDS
        return -_TOLERANCE_SECONDS <= since <= self.running + _DAY


def read_clocks() -> Reading:
    """Both clocks now."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    # CLOCK_BOOTTIME, which only Linux has, goes on while a laptop sleeps.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Reading(time.time(), time.clock_gettime(clock), boot)


class ClockWatch:
    """Compares the clocks with those of the last look, which the file at *path* keeps; blocking.

    While they differ, the wall clock is not trusted. It is trusted again once they match the last
    trusted look, or have agreed with each other for a day: then the machine was off for long, or
    its clock was corrected. *check* is called before each change of the file, and raises where its
    folder is gone.
    """

    def __init__(
        self,
        path: Path,
        *,
        check: Callable[[], None] = lambda: None,
        read: Callable[[], Reading] = read_clocks,
    ) -> None:
        self._file = StateFile(path, check=check)
        self._read = read
        self._known: Reading | None = None
        self._doubted: Reading | None = None

    def is_right(self) -> bool:
        """Whether the wall clock can be trusted now.

        Raises:
            MediaFolderGone: the folder is gone.
        """
        # The file may vanish while the clock is in doubt.
        now, known = self._read(), self._file.read(_reading) or self._known
        doubted = self._doubted
        agreed = doubted is not None and now.in_step_with(doubted)
        settled = doubted is not None and agreed and now.running - doubted.running >= _DAY
        if known is None or now.in_step_with(known) or settled:
            self._doubted, self._known = None, now
            try:
                self._file.write(asdict(now))
            except OSError as error:
                # Go on: a full disk needs a sweep most.
                log.warning("last look at the clock not stored", cause=str(error))
            return True
        if not agreed:
            self._doubted = now
        log.warning(
            "clock in doubt",
            wall_seconds=round(now.wall - known.wall),
            running_seconds=round(now.running - known.running),
        )
        return False


def _reading(data: Any) -> Reading:
    wall, running = float(data["wall"]), float(data["running"])
    if not (math.isfinite(wall) and math.isfinite(running)):
        raise ValueError("out of range")
    return Reading(wall, running, str(data["boot"]))
