"""Writes the logs of structlog and the standard library as JSON lines, or as text for a console."""

import io
import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import chain
from typing import Any, TextIO
from urllib.parse import unquote

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["Scrubber", "logs_to", "merged"]

_QUERY = re.compile(r"\?[^\s\"'<>)\\=?]*=[^\s\"'<>)\\]*")
_BACKLOG_LINES = 10_000
_GATHER_SECONDS = 0.02
_MAX_DEPTH = 8
_MAX_CHARACTERS = 20_000
# Shorter secrets may be ordinary words.
_LONG_SECRET_LENGTH = 8
# A token may directly follow a letter or digit only if that ends an escape, such as %3A or \n.
_BEFORE = (
    r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2})|(?<=\\[abfnrtv])"
    r"|(?<=\\x[0-9a-f]{2})|(?<=\\u[0-9a-f]{4}))"
)
_AFTER = r"(?![A-Za-z0-9])"
_NUMBERS = (int, float, datetime, type(None))
_UNSCRUBBED = frozenset({"level", "timestamp"})


class Scrubber:
    """Removes *secrets* and the queries of URLs from log events, before they are rendered.

    A secret is removed wherever it is a whole token, plain or percent-encoded. *more* returns the
    secrets that become known later, and must return a new tuple whenever they change.

    The query of a CDN URL contains a signature, so anyone who has the URL can download the file.
    Errors raised by Requests and Instaloader contain such URLs in full.
    """

    def __init__(
        self, secrets: Iterable[str] = (), more: Callable[[], tuple[str, ...]] = tuple
    ) -> None:
        self._fixed = tuple(secrets)
        self._more = more
        self._added: tuple[str, ...] | None = None
        self._known: list[tuple[str, bool]] = []

    def follow(self, secrets: Iterable[str], more: Callable[[], tuple[str, ...]]) -> None:
        """Add *secrets*, and from now on call *more* for secrets that become known later."""
        self._fixed, self._more, self._added = (*self._fixed, *secrets), more, None

    def event(self, event: EventDict, *, constant: bool) -> EventDict:
        """Return *event* without secrets.

        If *constant* is true, the event's text is a constant in the code, and short secrets are not
        removed from it.
        """
        self._refresh()
        # Most events contain no secrets. Searching all values at once takes a third of the time.
        texts = [value for value in event.values() if not isinstance(value, _NUMBERS)]
        if all(isinstance(text, str) for text in texts):
            whole = _plain("\0".join(texts))
            if "?" not in whole and not any(secret in whole for secret, _ in self._known):
                return event
        return {
            str(name): value
            if name in _UNSCRUBBED
            else self._scrubbed(value, short=not constant or name != "event")
            for name, value in event.items()
        }

    def text(self, text: str, *, short: bool = True) -> str:
        """Return *text* without secrets; if *short* is false, remove only long ones."""
        self._refresh()
        plain = _plain(text)
        for secret, is_short in self._known:
            if secret in plain and (short or not is_short):
                text = _pattern(secret).sub("[secret]", text)
        return _QUERY.sub("?[scrubbed]", text) if "?" in text else text

    def _refresh(self) -> None:
        if (now := self._more()) is not self._added:
            self._added = now
            known = {_plain(secret) for secret in (*self._fixed, *now)} - {""}
            by_length = sorted(known, key=len, reverse=True)
            self._known = [(secret, len(secret) < _LONG_SECRET_LENGTH) for secret in by_length]

    def _scrubbed(self, value: Any, *, short: bool, depth: int = 0) -> Any:
        if isinstance(value, str):
            return self.text(value, short=short)
        if isinstance(value, _NUMBERS):
            return value
        deeper = partial(self._scrubbed, short=short, depth=depth + 1)
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            return {self.text(str(name)): deeper(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)) and depth < _MAX_DEPTH:
            return [deeper(inner) for inner in value]
        return self.text(repr(value), short=short)


def _shortened(value: Any) -> Any:
    """Cut the middle out of long texts in *value*, such as errors that quote an answer."""
    if isinstance(value, str) and len(value) > _MAX_CHARACTERS:
        half = _MAX_CHARACTERS // 2
        return f"{value[:half]} [{len(value) - 2 * half} characters] {value[-half:]}"
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    return value


def _plain(text: str) -> str:
    """Return *text* without percent-encoding and backslashes, for a fast substring search."""
    for _ in range(3):
        if "%" not in text:
            break
        text = unquote(text, errors="surrogateescape")
    return text.replace("\\", "") if "\\" in text else text


@lru_cache(maxsize=100)
def _pattern(secret: str) -> re.Pattern[str]:
    """Return a pattern that finds *secret*, an output of :func:`_plain`, in any encoding."""
    return re.compile(_BEFORE + "".join(map(_character, secret)) + _AFTER)


def _character(character: str) -> str:
    encoded = character.encode("utf-8", "surrogateescape")
    escaped = "".join(f"%(?:25)*(?i:{byte:02x})" for byte in encoded)
    return rf"\\*(?:{re.escape(character)}|{escaped})"


def merged(*sources: Callable[[], tuple[str, ...]]) -> Callable[[], tuple[str, ...]]:
    """Combine *sources* of secrets into a single source.

    The combined source returns the same tuple until a secret changes.
    """
    known: list[tuple[str, ...]] = []
    joined: tuple[str, ...] = ()

    def current() -> tuple[str, ...]:
        nonlocal known, joined
        now = [source() for source in sources]
        if now != known:
            joined = tuple(chain.from_iterable(now))
        # Keep these tuples: comparing a tuple with itself takes no time.
        known = now
        return joined

    return current


def _to_json(data: Any, default: Callable[[Any], Any] = repr) -> str:
    try:
        return orjson.dumps(data, default, orjson.OPT_UTC_Z).decode()
    except TypeError:
        # A path may contain bytes that are not UTF-8, which Python decodes as lone surrogates.
        return json.dumps(data, default=lambda value: _iso(value) or default(value))


def _iso(value: Any) -> str | None:
    return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else None


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # orjson formats the time, and is many times as fast as structlog's TimeStamper.
    event["timestamp"] = datetime.now(UTC)
    return event


class _BackgroundWriter:
    """Writes lines to *stream* in batches, in its own thread.

    A log collector that does not read its pipe therefore cannot block the event loop. While the
    backlog is full, lines are dropped. Their number is logged once writing succeeds again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Without this, writing a non-ASCII character to an ASCII stream would raise an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        if len(self._lines) >= _BACKLOG_LINES:
            self._dropped += 1
            return
        self._lines.append(text)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self) -> None:
        """Do nothing, because the thread flushes after each batch."""

    def close(self) -> None:
        """Wait at most 5 seconds for the remaining lines to be written."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _write_all(self) -> None:
        while not self._closed or self._lines:
            self._wake.wait()
            if not self._closed:
                # Collect lines for one write, because each wake-up takes the GIL from the event
                # loop.
                time.sleep(_GATHER_SECONDS)
            self._wake.clear()
            self._write_backlog()

    def _write_backlog(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        # The disk may be full, the reader gone, or the stream broken in some other way. Drop these
        # lines and continue, because it may be possible to write the next ones.
        except Exception:  # noqa: BLE001
            self._dropped += len(lines)
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            structlog.get_logger(__name__).warning("log lines dropped", lines=dropped)


@contextmanager
def logs_to(
    stream: TextIO,
    *,
    level: str,
    style: str,
    scrubber: Scrubber | None = None,
    processors: Iterable[Processor] = (),
) -> Iterator[None]:
    """Write all logs of at least *level* to *stream* while the block runs.

    *style* is ``json``, or ``console``, which is easier for people to read. With ``json``, each
    line is an object with ``timestamp`` (ISO 8601, UTC), ``level``, ``event``, the bound context
    such as ``request_id``, and ``exception`` with a traceback. *processors* may add keys to each
    line. Messages from :mod:`warnings` and :mod:`logging` have the same format. The *scrubber*
    removes secrets. The middle of texts longer than 20,000 characters is left out.
    """
    # At levels below ERROR, urllib3 logs signed URLs, and headers with new cookies.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        *processors,
        structlog.stdlib.add_log_level,
        _add_time if style == "json" else structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    scrub = scrubber or Scrubber()
    render: Any
    if style == "json":
        render = structlog.processors.JSONRenderer(serializer=_to_json)
    else:
        render = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())

    def rendered(logger: WrappedLogger, method: str, event: EventDict, constant: bool) -> str:
        # Scrub the text first, because half a secret would not be found.
        text: str = render(logger, method, _shortened(scrub.event(event, constant=constant)))
        return text

    numeric_level = logging.getLevelNamesMapping()[level.upper()]
    writer = _BackgroundWriter(stream)
    structlog.configure(
        processors=[*shared, partial(rendered, constant=True)],
        wrapper_class=structlog.make_filtering_bound_logger(numeric_level),
        logger_factory=structlog.WriteLoggerFactory(writer),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                partial(rendered, constant=False),
            ],
        )
    )
    root = logging.getLogger()
    old_level = root.level
    root.addHandler(handler)
    root.setLevel(numeric_level)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(old_level)
        structlog.reset_defaults()
        writer.close()
