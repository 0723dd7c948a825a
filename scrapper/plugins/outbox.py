"""Stores notifications until they are sent.

Each target gets at most one notification of each kind per hour, even across restarts.
"""

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
_MAX_BODY_LENGTH = 1000
_INTERVAL_SECONDS = 60 * 60
_BACKOFF_SECONDS = (5, 30, 300, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Message:
    """A notification about *count* events of one *kind*, with the text of the last event."""

    kind: str
    title: str
    body: str
    count: int = 1

    @property
    def text(self) -> str:
        """The body, followed by the number of earlier notifications that were held back."""
        earlier = self.count - 1
        if not earlier:
            return self.body
        were = "notification was" if earlier == 1 else "notifications were"
        return f"{self.body}\n\n{earlier} earlier {were} held back: at most one is sent per hour."


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The unsent events of one kind for one target; *sent_at* and *next_try* are Unix times."""

    title: str = ""
    body: str = ""
    count: int = 0
    sent_at: float = 0.0
    tries: int = 0
    next_try: float = 0.0

    def is_due(self, now: float) -> bool:
        # Times too far in the future come from a clock that was wrong, so they are ignored.
        held_back = 0 <= now - self.sent_at < _INTERVAL_SECONDS
        backs_off = now < self.next_try <= now + _BACKOFF_SECONDS[-1]
        return self.count > 0 and not (held_back or backs_off)


@dataclass(frozen=True, slots=True)
class _State:
    """The waiting events by target and kind, and the last event of each source.

    A source's last event is stored with the ID of the process that added it.
    """

    waiting: Mapping[str, Mapping[str, _Waiting]] = field(default_factory=dict)
    last: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def with_waiting(self, target: str, kind: str, waiting: _Waiting) -> "_State":
        kinds = {**self.waiting.get(target, {}), kind: waiting}
        return replace(self, waiting={**self.waiting, target: kinds})


class Outbox:
    """The messages in the file at *path*, which several processes may share.

    The methods block, and are thread-safe. For each target and kind, at most one message waits. It
    has the text of the last event and the number of events. The message is due at once, or an hour
    after the previous one was sent. After a failure, it is retried with a backoff of up to an hour.
    If the file cannot be written, the state in memory is used.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._file = StateFile(path, max_bytes=_MAX_BYTES)
        self._watched = WatchedFile(path, lambda _: self._file.read(_parse))
        self._now = now
        self._process = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._loaded = self._state = _State()

    def add(self, source: str, event: str, messages: Iterable[tuple[str, Message]]) -> None:
        """Add the *messages* about an *event* of *source*, each with its target.

        A source adds one event at a time. If the process is killed before it has recorded that the
        event was added, the next process adds the event again. Adding it a second time has no
        effect.

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
                body = message.body[:_MAX_BODY_LENGTH]
                waiting = replace(
                    waiting, title=message.title, body=body, count=waiting.count + message.count
                )
                state = state.with_waiting(target, message.kind, waiting)
            return state

        self._change(change)

    def amend(self, kind: str, body: str) -> None:
        """Replace the outdated text of all waiting messages of this *kind* with *body*.

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
            self._reload()
            kinds = self._state.waiting.get(target, {})
        now = self._now()
        return [
            Message(kind, waiting.title, waiting.body, waiting.count)
            for kind, waiting in kinds.items()
            if waiting.is_due(now)
        ]

    def record_sent(self, target: str, message: Message) -> None:
        """Record that the *message* was sent to *target*."""

        def change(waiting: _Waiting) -> _Waiting:
            # More events may have been added in the meantime.
            left = max(0, waiting.count - message.count)
            return replace(waiting, count=left, sent_at=self._now(), tries=0, next_try=0.0)

        self._change_one(target, message.kind, change)

    def record_failed(self, target: str, message: Message) -> float:
        """Record that sending *message* failed; return the seconds until the next attempt."""
        pause = 0.0

        def change(waiting: _Waiting) -> _Waiting:
            nonlocal pause
            pause = _BACKOFF_SECONDS[min(waiting.tries, len(_BACKOFF_SECONDS) - 1)]
            return replace(waiting, tries=waiting.tries + 1, next_try=self._now() + pause)

        self._change_one(target, message.kind, change)
        return pause

    def retry_now(self) -> None:
        """Make all failed messages due now, because the cause of the failures may be gone."""

        def change(state: _State) -> _State:
            for target, kinds in state.waiting.items():
                for kind, waiting in kinds.items():
                    retried = replace(waiting, tries=0, next_try=0.0)
                    state = state.with_waiting(target, kind, retried)
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
            # Keep the change in memory. Otherwise the message would be sent again and again.
            self._state = change(self._state)

    def _change(self, change: Callable[[_State], _State]) -> None:
        with self._lock, self._file.locked():
            self._reload()
            changed = change(self._state)
            if changed != self._state:
                self._write(changed)

    def _reload(self) -> None:
        """Reload the file if another process changed it. If the file is gone, write it again."""
        loaded = None
        with suppress(OSError):
            loaded = self._watched.content()
        if loaded is None:
            if self._state != _State():
                with suppress(OSError, ScrapeError):
                    self._write(self._state)
        # A state that could not be written is kept until another process writes the file.
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
