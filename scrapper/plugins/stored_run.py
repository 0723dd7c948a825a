"""Calls a plugin for one stored post after another, in one thread.

During downloads, the event loop and the interpreter's lock are busy. A plugin that had to wait for
them between two posts fell far behind, however fast it was. So the plugin's thread does everything
itself: it loads the post, records in the ledger that the call begins, makes the call, and records
its success.
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
"""Calls within this time are recorded together, because each record waits for the disk."""
_BEGUN: Outcome = "begun"
_DONE: Outcome = "done"
_MAY_RETURN = "post_stored may return Additions or None, other hooks only None"


class _UnreadablePost(Exception):
    """A stored post cannot be read."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call of ``post_stored`` with its outcome, which is an *error* or a *result*.

    If it is *noted*, the ledger has its outcome. It was not *made* if the post changed first, or if
    the call was stopped.
    """

    shortcode: str
    version: int
    result: Additions | None = None
    error: Exception | None = None
    noted: bool = False
    made: bool = True

    @property
    def succeeded(self) -> bool:
        """Whether the call succeeded, and only has to be recorded in the ledger."""
        return self.made and not self.noted and self.error is None and self.result is None


class StoredRun:
    """The work of a :class:`~scrapper.plugins.calls.Call`: *posts*, with their versions.

    The run ends when *ours* becomes false, because another process then has the turn.
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
        """How many calls are recorded together. The number grows while calls are short."""
        self._begun = 0

    @property
    def remaining(self) -> Sequence[tuple[str, int]]:
        """The posts without a call so far."""
        return self._posts[len(self.called) :]

    @property
    def last(self) -> str:
        """The shortcode of the post of the latest call."""
        return self._posts[self._begun - 1][0]

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
        while self.remaining and not call.stopped and self._ours:
            batch = self.remaining[: self.batch_size]
            # However the call ends, the plugin must be notified of a later removal.
            self._record([(shortcode, NO_VERSION, _BEGUN) for shortcode, _ in batch])
            began_at = time.monotonic()
            for shortcode, version in batch:
                self._begun += 1
                self.called.append(self._call_with(call, shortcode, version))
                took = time.monotonic() - began_at
                if took > _BATCH_SECONDS or call.stopped or not self._ours:
                    break
            if took > _BATCH_SECONDS:
                self.batch_size = max(1, self.batch_size // 2)
            elif len(batch) == self.batch_size:
                self.batch_size *= 2
        self._record([])

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
        """Record which calls begin, and which ones succeeded and returned nothing."""
        done = {
            number: replace(called, noted=True)
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
        TypeError: it is not.
    """
    if result is not None and not (hook == "post_stored" and isinstance(result, Additions)):
        raise TypeError(f"{hook} returned {type(result).__name__}: {_MAY_RETURN}")
