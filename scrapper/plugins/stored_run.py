"""Calls a plugin with one stored post after the other, in its own thread.

While posts download, the event loop and the interpreter's lock are in demand. A plugin that waited
for them between two posts fell far behind, however fast it was. So the thread itself looks at the
post, notes in the ledger that the call begins, calls, and notes that it worked.
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

_SECONDS_TOGETHER = 0.2
"""Calls within this time are noted together, since each note waits for the disk."""
_BEGUN: Outcome = "begun"
_DONE: Outcome = "done"
_MAY_RETURN = "post_stored may return Additions or None, the others None"


class _UnreadablePost(Exception):
    """A post is stored, but cannot be read."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call of ``post_stored``, and its outcome: an *error*, or a *result*.

    If the call is *noted*, it is in the ledger. It was not *made* if the post changed first.
    """

    shortcode: str
    version: int
    result: Additions | None = None
    error: Exception | None = None
    noted: bool = False
    made: bool = True

    @property
    def worked(self) -> bool:
        """Whether the call worked, and only has to be noted in the ledger."""
        return self.made and not self.noted and self.error is None and self.result is None


class StoredRun:
    """The work of a :class:`~scrapper.plugins.calls.Call`, with *posts* and their versions.

    The run ends once *ours* is false.
    """

    def __init__(
        self,
        plugin: Plugin,
        library: Library,
        ledger: Ledger,
        posts: Sequence[tuple[str, int]],
        ours: object,
        *,
        together: int = 1,
    ) -> None:
        self._plugin = plugin
        self._library = library
        self._ledger = ledger
        self._posts = posts
        self._ours = ours
        self.called: list[StoredCall] = []
        """The calls so far."""
        self.together = together
        """How many calls are noted together: the shorter they are, the more."""
        self._begun = 0

    @property
    def left(self) -> Sequence[tuple[str, int]]:
        """The posts that were not reached."""
        return self._posts[len(self.called) :]

    @property
    def last(self) -> str:
        """The shortcode of the post that the plugin was called with last."""
        return self._posts[self._begun - 1][0]

    def fail(self, error: Exception) -> None:
        """Count the last call that began as failed."""
        number = self._begun - 1
        self.called[number:] = [StoredCall(*self._posts[number], error=error)]

    def __call__(self, call: Call) -> None:
        """Call the plugin with one post after the other.

        Raises:
            MediaFolderGone: the media folder is gone.
            sqlite3.Error, ScrapeError, OSError: the ledger cannot be used.
        """
        while self.left and not call.stopped and self._ours:
            some = self.left[: self.together]
            # However a call ends, the plugin must get the post's later removal.
            self._note([(shortcode, NO_VERSION, _BEGUN) for shortcode, _ in some])
            began_at = time.monotonic()
            for shortcode, version in some:
                self._begun += 1
                self.called.append(self._call_with(call, shortcode, version))
                took = time.monotonic() - began_at
                if took > _SECONDS_TOGETHER or call.stopped or not self._ours:
                    break
            if took > _SECONDS_TOGETHER:
                self.together = max(1, self.together // 2)
            elif len(some) == self.together:
                self.together *= 2
        self._note([])

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
        # A call that returns too late has failed.
        return StoredCall(shortcode, version, result=result, made=not call.stopped)

    def _note(self, begun: Sequence[tuple[str, int, Outcome]]) -> None:
        """Note in the ledger which calls begin, and which worked and returned nothing."""
        done = {
            number: replace(called, noted=True)
            for number, called in enumerate(self.called)
            if called.worked and self._library.has_version(called.shortcode, called.version)
        }
        rows = [(called.shortcode, called.version, _DONE) for called in done.values()]
        if rows or begun:
            self._ledger.note(self._plugin.name, *rows, *begun)
        for number, called in done.items():
            self.called[number] = called


def check_result(hook: str, result: object) -> None:
    """Check that the *hook* may return *result*.

    Raises:
        TypeError: the hook may not.
    """
    if result is not None and not (hook == "post_stored" and isinstance(result, Additions)):
        raise TypeError(f"{hook} returned {type(result).__name__}: {_MAY_RETURN}")
