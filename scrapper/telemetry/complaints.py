"""Logs a repeated complaint once."""

import math
import time

__all__ = ["Complaint"]


class Complaint:
    """A complaint that is due if it is new, has another cause, or was logged *seconds* ago."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds
        self._cause = ""
        self._again_at = -math.inf

    def is_due(self, cause: object = "") -> bool:
        """Whether to log the complaint now; it counts as logged then."""
        now = time.monotonic()
        if str(cause) == self._cause and now < self._again_at:
            return False
        self._cause, self._again_at = str(cause), now + self._seconds
        return True

    def settle(self) -> None:
        """Note that the fault is over."""
        self._again_at = -math.inf
