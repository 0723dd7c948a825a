"""Limits how often the same problem is logged."""

import math
import time

__all__ = ["LogThrottle"]


class LogThrottle:
    """Decides when to log a recurring problem.

    A message is due when the problem begins, when its cause changes, and *seconds* seconds after it
    was last logged.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds
        self._cause = ""
        self._again_at = -math.inf

    def is_due(self, cause: object = "") -> bool:
        """Return whether the message is due; if it is, the caller must log it now."""
        now = time.monotonic()
        if str(cause) == self._cause and now < self._again_at:
            return False
        self._cause, self._again_at = str(cause), now + self._seconds
        return True

    def reset(self) -> None:
        """Make the next message due at once; call this when the problem is solved."""
        self._again_at = -math.inf
