"""A clock whose time tests set."""

__all__ = ["Clock"]


class Clock:
    """Returns ``now``, in seconds, when called."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
