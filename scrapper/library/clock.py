"""Detects jumps of the wall clock, which could make every stored post look old."""

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
    """The times of the wall clock and of a clock that cannot be set, read at the same moment.

    ``wall`` is the Unix time of the wall clock. ``running`` is the number of seconds since boot,
    including sleep, according to the other clock. ``boot`` is the boot ID, or empty if unknown, as
    in some sandboxes.
    """

    wall: float
    running: float
    boot: str

    def in_step_with(self, earlier: "Reading") -> bool:
        """Return whether both clocks agree on how much time has passed since *earlier*.

        After a reboot, there is no way to know how long the machine was off. Up to a day counts as
        plausible.
        """
        since = self.wall - earlier.wall
        if self.boot and self.boot == earlier.boot:
            return abs(since - (self.running - earlier.running)) <= _TOLERANCE_SECONDS
        return -_TOLERANCE_SECONDS <= since <= self.running + _DAY


def read_clocks() -> Reading:
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    # CLOCK_BOOTTIME, which only Linux has, keeps running while a laptop sleeps.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Reading(time.time(), time.clock_gettime(clock), boot)


class ClockWatch:
    """Compares the clocks with the last trusted reading, which is stored in the file at *path*.

    If the clocks do not agree on how much time has passed since that reading, the wall clock is not
    trusted. It is trusted again as soon as they agree. It is also trusted again after the two
    clocks have run in step for a day, even if they still disagree on the time since that reading:
    the machine may have been off for a long time, or its clock may have been corrected. *check* is
    called before each change to the file, and raises if its folder is gone. All methods block.
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
        self._trusted: Reading | None = None
        self._suspect: Reading | None = None

    def is_trusted(self) -> bool:
        """Return whether the wall clock can be trusted now.

        Raises:
            MediaFolderGone: the folder is gone.
        """
        # The file may be deleted while the clock is not trusted.
        now, trusted = self._read(), self._file.read(_parse_reading) or self._trusted
        suspect = self._suspect
        agreed = suspect is not None and now.in_step_with(suspect)
        settled = suspect is not None and agreed and now.running - suspect.running >= _DAY
        if trusted is None or now.in_step_with(trusted) or settled:
            self._suspect, self._trusted = None, now
            try:
                self._file.write(asdict(now))
            except OSError as error:
                # Continue, because sweeps matter most when the disk is full.
                log.warning("clock reading not saved", cause=str(error))
            return True
        if not agreed:
            self._suspect = now
        log.warning(
            "clock not trusted",
            wall_seconds=round(now.wall - trusted.wall),
            running_seconds=round(now.running - trusted.running),
        )
        return False


def _parse_reading(data: Any) -> Reading:
    wall, running = float(data["wall"]), float(data["running"])
    if not (math.isfinite(wall) and math.isfinite(running)):
        raise ValueError("out of range")
    return Reading(wall, running, str(data["boot"]))
