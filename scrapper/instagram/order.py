"""The order in which sources are asked: first those that gave a post recently."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

__all__ = ["SourceOrder"]

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 10 * 60
_MAX_PAUSE_SECONDS = 6 * 60 * 60
_SCOUT_SECONDS = 3.0
_SCOUT_SHARE = 4


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Source = TypeVar("Source", bound=_Named)


@dataclass(slots=True)
class _Setback:
    """How often in a row a source refused what another gave, and until when it comes last."""

    times: int = 0
    until: float = 0.0

    def add(self, now: float) -> bool:
        """Count one more, unless the last one still counts; return whether it was counted."""
        if now < self.until:
            return False
        self.until = now + min(_FIRST_PAUSE_SECONDS * 2**self.times, _MAX_PAUSE_SECONDS)
        self.times += 1
        return True


class SourceOrder:
    """The order of the sources of one login state; safe to share between threads.

    A source that refused what another one gave is asked last: for 10 minutes the first time, for
    twice as long each further time in a row, up to 6 hours. After that it is tried again in its
    own place. A source that had no larger pictures is not asked for any for just as long.

    :meth:`scout` lets one scrape of a burst find out for all of them which source works.
    """

    def __init__(self, name: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._now = now
        self._lock = threading.Lock()
        self._scouting = threading.Lock()
        self._setbacks: dict[str, _Setback] = {}
        self._vain: dict[str, _Setback] = {}
        self._known = False

    def sorted(self, sources: Iterable[Source]) -> list[Source]:
        """*sources* in the order in which they are to be asked now."""
        with self._lock:
            now = self._now()
            return sorted(sources, key=lambda source: self._comes_last(source.name, now))

    def gave(self, name: str, refused: Collection[str]) -> None:
        """Note that the source *name* gave a post's media after the *refused* ones had none."""
        with self._lock:
            now, self._known = self._now(), True
            self._setbacks.pop(name, None)
            setbacks = [(name, self._setbacks.setdefault(name, _Setback())) for name in refused]
            changed = [name for name, setback in setbacks if setback.add(now)]
        if changed:
            log.info("source order changed", login=self._name, first=name, last=changed)

    def helper(self, sources: Iterable[Source]) -> Source | None:
        """The first of *sources* that may have larger pictures; None if none is worth a request.

        Until :meth:`helped`, other posts of a burst get no helper: one post finds out for all.
        """
        with self._lock:
            now = self._now()
            for source in sources:
                vain = self._vain.setdefault(source.name, _Setback())
                if not self._comes_last(source.name, now) and vain.add(now):
                    return source
        return None

    def helped(self, name: str, others: Collection[str]) -> None:
        """Note that the source *name* had larger pictures than the *others*: it comes first."""
        with self._lock:
            self._vain.pop(name, None)
        self.gave(name, others)

    def restore(self, names: Iterable[str]) -> None:
        """Put the sources *names* back in their own place: the cause of their refusals is gone."""
        with self._lock:
            for name in names:
                self._setbacks.pop(name, None)

    @contextmanager
    def scout(self, seconds: float) -> Iterator[None]:
        """Run the block alone while it is unknown which source works; otherwise at once.

        The other threads wait, and go on together as soon as the scout knows. It may be stuck,
        so they wait for three seconds at most, and for no more than a quarter of their *seconds*.
        """
        if self._known:
            yield
            return
        scouting = self._scouting.acquire(
            timeout=max(0.0, min(seconds / _SCOUT_SHARE, _SCOUT_SECONDS))
        )
        try:
            if scouting and self._known:
                self._scouting.release()
                scouting = False
            yield
        finally:
            if scouting:
                self._scouting.release()

    def _comes_last(self, name: str, now: float) -> bool:
        setback = self._setbacks.get(name)
        return setback is not None and now < setback.until
