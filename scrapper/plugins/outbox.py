"""Notifications on their way: at most one an hour of each kind for each target, across restarts."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from scrapper.errors import ScrapeError
from scrapper.library.state_file import StateFile
from scrapper.local_files.watching import WatchedFile

__all__ = ["Message", "Outbox"]

log = structlog.get_logger(__name__)

_MAX_BYTES = 2_000_000
_MOST_CHARACTERS = 1000
_SECONDS_BETWEEN = 60 * 60
_PAUSES = (5, 30, 300, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Message:
    """What a target will get: *count* events of one *kind*, and the text of the last of them."""

    kind: str
    title: str
    body: str
    count: int = 1

    @property
    def text(self) -> str:
        """The body, with the number of events that were held back before it."""
        earlier = self.count - 1
        if not earlier:
            return self.body
        were = "notification was" if earlier == 1 else "notifications were"
        return f"{self.body}\n\n{earlier} earlier {were} held back: at most one an hour is sent."


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The events of a kind for a target since the last one that was sent; times are unix times."""

    title: str = ""
    body: str = ""
    count: int = 0
    sent_at: float = 0.0
    tries: int = 0
    next_try: float = 0.0

    def is_due(self, now: float) -> bool:
        # Times that are too far away come from a wrong clock, and do not count.
        held_back = 0 <= now - self.sent_at < _SECONDS_BETWEEN
        pauses = now < self.next_try <= now + _PAUSES[-1]
        return self.count > 0 and not (held_back or pauses)


@dataclass(frozen=True, slots=True)
class _State:
    """What waits, by target and kind; each source's last event, and the process that noted it."""

    waiting: Mapping[str, Mapping[str, _Waiting]] = field(default_factory=dict)
    last: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def with_waiting(self, target: str, kind: str, waiting: _Waiting) -> "_State":
        kinds = {**self.waiting.get(target, {}), kind: waiting}
        return replace(self, waiting={**self.waiting, target: kinds})


class Outbox:
    """The messages in the file at *path*, which processes share; blocking, and for any thread.

    One message waits for each target and kind, however many events there were: the last one, with
    their number. It is due at once, or an hour after the one before; after a failure, once a pause
    is over, which grows to an hour. If the file cannot be written, the state in memory counts.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._file = StateFile(path, max_bytes=_MAX_BYTES)
        self._watched = WatchedFile(path, lambda _: self._file.read(_parse))
        self._now = now
        self._process = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._loaded = self._state = _State()

    def add(self, source: str, event: str, messages: Iterable[tuple[str, Message]]) -> None:
        """Note the *messages* of an *event* of *source*, each with its target.

        A source has one event at a time. If the process is killed before the source knows that its
        event was noted, the event comes again in the next process, which ignores it.

        Raises:
            OSError, ScrapeError: the messages cannot be stored.
        """

        def change(state: _State) -> _State:
            known, process = state.last.get(source, ("", ""))
            if known == event and process != self._process:
                return state
            state = replace(state, last={**state.last, source: (event, self._process)})
            for target, message in messages:
                waiting = state.waiting.get(target, {}).get(message.kind, _Waiting())
                body = message.body[:_MOST_CHARACTERS]
                waiting = replace(
                    waiting, title=message.title, body=body, count=waiting.count + message.count
                )
                state = state.with_waiting(target, message.kind, waiting)
            return state

        self._change(change)

    def amend(self, kind: str, body: str) -> None:
        """Replace the text of all waiting messages of this *kind*, which is outdated.

        Raises:
            OSError, ScrapeError: the change cannot be stored.
        """

        def change(state: _State) -> _State:
            for target, kinds in state.waiting.items():
                waiting = kinds.get(kind, _Waiting())
                if waiting.count:
                    state = state.with_waiting(target, kind, replace(waiting, body=body))
            return state

        self._change(change)

    def due(self, target: str) -> list[Message]:
        """Return the messages to send to *target* now."""
        with self._lock:
            self._look()
            kinds = self._state.waiting.get(target, {})
        now = self._now()
        return [
            Message(kind, waiting.title, waiting.body, waiting.count)
            for kind, waiting in kinds.items()
            if waiting.is_due(now)
        ]

    def note_sent(self, target: str, message: Message) -> None:
        """Note that *target* got the *message*."""

        def change(waiting: _Waiting) -> _Waiting:
            # Further events may have come meanwhile.
            left = max(0, waiting.count - message.count)
            return replace(waiting, count=left, sent_at=self._now(), tries=0, next_try=0.0)

        self._change_one(target, message.kind, change)

    def note_failed(self, target: str, message: Message) -> float:
        """Note that *target* did not take the *message*; return the seconds to the next try."""
        pause = 0.0

        def change(waiting: _Waiting) -> _Waiting:
            nonlocal pause
            pause = _PAUSES[min(waiting.tries, len(_PAUSES) - 1)]
            return replace(waiting, tries=waiting.tries + 1, next_try=self._now() + pause)

        self._change_one(target, message.kind, change)
        return pause

    def hasten(self) -> None:
        """Retry at once what failed: the cause may be gone."""

        def change(state: _State) -> _State:
            for target, kinds in state.waiting.items():
                for kind, waiting in kinds.items():
                    hastened = replace(waiting, tries=0, next_try=0.0)
                    state = state.with_waiting(target, kind, hastened)
            return state

        self._change_safely(change)

    def _change_one(self, target: str, kind: str, how: Callable[[_Waiting], _Waiting]) -> None:
        def change(state: _State) -> _State:
            waiting = state.waiting.get(target, {}).get(kind, _Waiting())
            return state.with_waiting(target, kind, how(waiting))

        self._change_safely(change)

    def _change_safely(self, change: Callable[[_State], _State]) -> None:
        try:
            self._change(change)
        except (OSError, ScrapeError) as error:
            log.warning("notifications not stored", cause=repr(error))
            # The message must not be sent again and again meanwhile.
            self._state = change(self._state)

    def _change(self, change: Callable[[_State], _State]) -> None:
        with self._lock, self._file.locked():
            self._look()
            changed = change(self._state)
            if changed != self._state:
                self._write(changed)

    def _look(self) -> None:
        """Read the file if another process changed it; if it is lost, write it again."""
        loaded = None
        with suppress(OSError):
            loaded = self._watched.content()
        if loaded is None:
            if self._state != _State():
                with suppress(OSError, ScrapeError):
                    self._write(self._state)
        # What could not be written counts until another process writes something.
        elif loaded != self._loaded:
            self._loaded = self._state = loaded

    def _write(self, state: _State) -> None:
        self._file.write(asdict(state))
        self._loaded = self._state = state


def _parse(data: Any) -> _State:
    waiting = {
        str(target): {str(kind): _waiting(fields) for kind, fields in kinds.items()}
        for target, kinds in data["waiting"].items()
    }
    last = {str(source): (str(one), str(other)) for source, (one, other) in data["last"].items()}
    return _State(waiting, last)


def _waiting(data: Any) -> _Waiting:
    return _Waiting(
        str(data["title"]),
        str(data["body"]),
        int(data["count"]),
        float(data["sent_at"]),
        int(data["tries"]),
        float(data["next_try"]),
    )
