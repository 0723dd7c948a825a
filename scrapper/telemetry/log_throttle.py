"""Log messages that are not repeated while their cause stays the same."""

import math
import time

__all__ = ["LogThrottle"]


class LogThrottle:
    """A message to log if it is new, its cause changed, or it was logged *seconds* ago."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds
        self._cause = ""
        self._again_at = -math.inf

    def is_due(self, cause: object = "") -> bool:
        """Return whether to log the message now; if so, it counts as logged."""
        now = time.monotonic()
        if str(cause) == self._cause and now < self._again_at:
            return False
        self._cause, self._again_at = str(cause), now + self._seconds
        return True

    def reset(self) -> None:
        """Reset this when the fault is over, so that the next message is logged at once."""
        self._again_at = -math.inf
