"""The order in which sources are tried. Sources that recently refused a post come last."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

__all__ = ["SourceOrder"]

log = structlog.get_logger(__name__)

_FIRST_BACKOFF_SECONDS = 10 * 60
_MAX_BACKOFF_SECONDS = 6 * 60 * 60
_SCOUT_SECONDS = 3.0
_SCOUT_SHARE = 0.25


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Source = TypeVar("Source", bound=_Named)


@dataclass(slots=True)
class _Backoff:
    """The number of consecutive failures of a source, and the end of its current backoff."""

    failures: int = 0
    until: float = 0.0

    def fail(self, now: float) -> bool:
        """Count a failure and return True, or return False if the backoff is still running."""
        if now < self.until:
            return False
        self.until = now + min(_FIRST_BACKOFF_SECONDS * 2**self.failures, _MAX_BACKOFF_SECONDS)
        self.failures += 1
        return True


class SourceOrder:
    """The order of the sources of one login state; thread-safe.

    If a source refuses a post that another source had, the refusing source is tried last for 10
    minutes, and then returns to its usual place. Each further consecutive refusal doubles that
    time, up to 6 hours. A source that had no larger pictures is skipped in later searches for them,
    for periods that grow in the same way.

    If many posts are requested at once, :meth:`scout` lets one of them find out which source works
    before the others start.
    """

    def __init__(self, name: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._now = now
        self._lock = threading.Lock()
        self._scouting = threading.Lock()
        self._refusals: dict[str, _Backoff] = {}
        self._nothing_larger: dict[str, _Backoff] = {}
        self._known = False

    def sorted(self, sources: Iterable[Source]) -> list[Source]:
        """Return *sources* in the order in which to try them now."""
        with self._lock:
            now = self._now()
            return sorted(sources, key=lambda source: self._is_last(source.name, now))

    def record_success(self, name: str, refused: Collection[str]) -> None:
        """Record that the source *name* had a post that the sources in *refused* had refused."""
        with self._lock:
            now, self._known = self._now(), True
            self._refusals.pop(name, None)
            backoffs = [(name, self._refusals.setdefault(name, _Backoff())) for name in refused]
            changed = [name for name, backoff in backoffs if backoff.fail(now)]
        if changed:
            log.info("source order changed", login=self._name, first=name, last=changed)

    def source_of_larger(self, sources: Iterable[Source]) -> Source | None:
        """Return the first of *sources* that may have larger pictures, or None if there is none.

        The backoff of the returned source starts now, and :meth:`record_larger` ends it. If many
        posts are requested at once, this lets only one of them try the source.
        """
        with self._lock:
            now = self._now()
            for source in sources:
                backoff = self._nothing_larger.setdefault(source.name, _Backoff())
                if not self._is_last(source.name, now) and backoff.fail(now):
                    return source
        return None

    def record_larger(self, name: str, others: Collection[str]) -> None:
        """Record that source *name* had larger pictures than *others*, and put *others* last."""
        with self._lock:
            self._nothing_larger.pop(name, None)
        self.record_success(name, others)

    def restore(self, names: Iterable[str]) -> None:
        """Move the sources *names* back to their usual places, because they should work again."""
        with self._lock:
            for name in names:
                self._refusals.pop(name, None)

    @contextmanager
    def scout(self, seconds: float) -> Iterator[None]:
        """Run the block in one thread at a time until a source is known to work.

        Then all waiting threads run at once. *seconds* is the time that the calling thread has
        left. That thread waits for at most a quarter of this time, and for at most three seconds,
        because the running thread may hang.
        """
        if self._known:
            yield
            return
        scouting = self._scouting.acquire(
            timeout=max(0.0, min(seconds * _SCOUT_SHARE, _SCOUT_SECONDS))
        )
        try:
            if scouting and self._known:
                self._scouting.release()
                scouting = False
            yield
        finally:
            if scouting:
                self._scouting.release()

    def _is_last(self, name: str, now: float) -> bool:
        backoff = self._refusals.get(name)
        return backoff is not None and now < backoff.until
