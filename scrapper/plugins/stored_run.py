"""Calls a plugin for one stored post after another, in one thread.

During downloads, the event loop and the global interpreter lock are busy. If a plugin had to wait
for them between posts, even a fast one would fall far behind. The plugin's thread therefore does
everything itself: it records in the ledger that a call has begun, loads the post, makes the call,
and records that the call succeeded.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scrapper.library.additions import Additions, check_additions
from scrapper.library.store import Library
from scrapper.plugins.calls import Call
from scrapper.plugins.ledger import NO_VERSION, Ledger, Outcome
from scrapper.plugins.loading import Plugin

__all__ = ["StoredCall", "StoredRun", "check_result"]

_BATCH_SECONDS = 0.2
"""Calls within this time are recorded together, because each ledger write waits for the disk."""
_BEGUN: Outcome = "begun"
_DONE: Outcome = "done"
_MAY_RETURN = "post_stored may return Additions or None, other hooks only None"


class _UnreadablePost(Exception):
    """A stored post cannot be read."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call of ``post_stored`` and its outcome, which is an *error* or a *result*.

    *recorded* is true if the outcome is in the ledger. *made* is false if the post changed before
    the plugin could be called, or if the plugin returned too late.
    """

    shortcode: str
    version: int
    result: Additions | None = None
    error: Exception | None = None
    recorded: bool = False
    made: bool = True

    @property
    def succeeded(self) -> bool:
        """Whether the call succeeded and only needs to be recorded in the ledger."""
        return self.made and not self.recorded and self.error is None and self.result is None


class StoredRun:
    """The work of a :class:`~scrapper.plugins.calls.Call` that covers several *posts*.

    *posts* are pairs of a shortcode and a version. The run ends when *ours* becomes false, which
    means that another process has the turn. It also ends after a call that returned additions, so
    that they are stored before the plugin is called again.
    """

    def __init__(
        self,
        plugin: Plugin,
        library: Library,
        ledger: Ledger,
        posts: Sequence[tuple[str, int]],
        ours: object,
        *,
        batch_size: int = 1,
    ) -> None:
        self._plugin = plugin
        self._library = library
        self._ledger = ledger
        self._posts = posts
        self._ours = ours
        self.called: list[StoredCall] = []
        """The calls so far."""
        self.batch_size = batch_size
        """How many calls are recorded together. Grows while calls are short and add nothing."""
        self._begun = 0

    @property
    def remaining(self) -> Sequence[tuple[str, int]]:
        """The posts for which the plugin has not been called yet."""
        return self._posts[len(self.called) :]

    @property
    def last(self) -> str:
        """The shortcode of the post in the latest call."""
        return self._posts[self._begun - 1][0]

    @property
    def _has_additions(self) -> bool:
        return bool(self.called) and self.called[-1].result is not None

    def fail(self, error: Exception) -> None:
        """Mark the latest call as failed with *error*."""
        number = self._begun - 1
        self.called[number:] = [StoredCall(*self._posts[number], error=error)]

    def __call__(self, call: Call) -> None:
        """Call the plugin for one post after another.

        Raises:
            MediaFolderGone: the media folder is gone.
            sqlite3.Error, ScrapeError, OSError: the ledger cannot be used.
        """
        while self.remaining and not self._must_end(call):
            batch = self.remaining[: self.batch_size]
            # Whatever the outcome of the calls, the plugin must be notified of a later removal.
            self._record([(shortcode, NO_VERSION, _BEGUN) for shortcode, _ in batch])
            began_at = time.monotonic()
            for shortcode, version in batch:
                self._begun += 1
                self.called.append(self._call_with(call, shortcode, version))
                took = time.monotonic() - began_at
                if took > _BATCH_SECONDS or self._must_end(call):
                    break
            if took > _BATCH_SECONDS or self._has_additions:
                self.batch_size = max(1, self.batch_size // 2)
            elif len(batch) == self.batch_size:
                self.batch_size *= 2
        self._record([])

    def _must_end(self, call: Call) -> bool:
        return call.stopped or not self._ours or self._has_additions

    def _call_with(self, call: Call, shortcode: str, version: int) -> StoredCall:
        stored = self._library.load(shortcode, version)
        if stored is None and self._library.has_version(shortcode, version):
            return StoredCall(shortcode, version, error=_UnreadablePost(shortcode))
        if stored is None:
            return StoredCall(shortcode, version, made=False)
        impl = self._plugin.hooks["post_stored"]
        values = {"post": stored.post, "folder": self._library.root / shortcode}
        try:
            result = call.invoke(impl.function, *[values[name] for name in impl.argnames])
            check_result("post_stored", result)
            if result is not None:
                check_additions(result, stored.post)
        # A plugin may raise anything.
        except Exception as error:  # noqa: BLE001
            return StoredCall(shortcode, version, error=error)
        # If the call was stopped, it returned too late, so its result does not count.
        return StoredCall(shortcode, version, result=result, made=not call.stopped)

    def _record(self, begun: Sequence[tuple[str, int, Outcome]]) -> None:
        """Record the *begun* calls, and the calls that succeeded and returned nothing."""
        done = {
            number: replace(called, recorded=True)
            for number, called in enumerate(self.called)
            if called.succeeded and self._library.has_version(called.shortcode, called.version)
        }
        rows = [(called.shortcode, called.version, _DONE) for called in done.values()]
        if rows or begun:
            self._ledger.record(self._plugin.name, *rows, *begun)
        for number, called in done.items():
            self.called[number] = called


def check_result(hook: str, result: object) -> None:
    """Check that *result* is a valid return value of the *hook*.

    Raises:
        TypeError: *result* is not valid.
    """
    if result is not None and not (hook == "post_stored" and isinstance(result, Additions)):
        raise TypeError(f"{hook} returned {type(result).__name__}: {_MAY_RETURN}")
