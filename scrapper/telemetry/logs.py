"""Logs: one JSON object a line, from structlog's loggers and Python's own."""

import io
import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["logs_to", "merged", "scrubber"]

_QUERY = re.compile(r"\?[\w.%~+-]+=[^\s\"'<>)\\]*")
_BACKLOG_LINES = 10_000
_GATHER_SECONDS = 0.02


def scrubber(
    secrets: Iterable[str], more: Callable[[], tuple[str, ...]] = tuple
) -> Callable[[str], str]:
    """A function that removes *secrets* and the queries of URLs from a rendered log line.

    *more* returns secrets that come up later; whenever it returns another tuple, these are removed
    as well. The query of a CDN URL is its signature: whoever has it may download the file. Errors
    of requests and Instaloader quote such URLs in full.
    """
    fixed, added = tuple(secrets), more()
    known = _forms(fixed + added)

    def scrub(line: str) -> str:
        nonlocal added, known
        if (now := more()) is not added:
            added, known = now, _forms(fixed + now)
        for secret in known:
            if secret in line:
                line = line.replace(secret, "[secret]")
        return _QUERY.sub("?[scrubbed]", line) if "?" in line else line

    return scrub


def merged(*sources: Callable[[], tuple[str, ...]]) -> Callable[[], tuple[str, ...]]:
    """What all *sources* return, as one tuple: the same one until that changes."""
    known: list[tuple[str, ...]] = []
    together: tuple[str, ...] = ()

    def current() -> tuple[str, ...]:
        nonlocal known, together
        now = [source() for source in sources]
        if now != known:
            together = tuple(chain.from_iterable(now))
        # Comparing a tuple with itself costs nothing, comparing it with its equal does.
        known = now
        return together

    return current


def _forms(secrets: Iterable[str]) -> list[str]:
    """The *secrets* as a log line may have them, the longest first."""
    forms = {form for secret in secrets if secret for form in (secret, _to_json(secret)[1:-1])}
    return sorted(forms, key=len, reverse=True)


def _to_json(data: Any, default: Callable[[Any], Any] = repr) -> str:
    try:
        return orjson.dumps(data, default, orjson.OPT_UTC_Z).decode()
    except TypeError:
        # A path may hold bytes that are not UTF-8; Python keeps them as lone surrogates.
        return json.dumps(data, default=lambda value: _iso(value) or default(value))


def _iso(value: Any) -> str | None:
    return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else None


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # orjson takes a fraction of the time of structlog's TimeStamper.
    event["timestamp"] = datetime.now(UTC)
    return event


class _BackgroundWriter:
    """Writes lines to *stream* in a thread of its own, many at a time.

    A collector that does not read its pipe must not block the event loop. While the backlog is
    full, lines are dropped; once there is room, their number is logged.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # A stream of ASCII must not fail over the first other character.
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
        """Do nothing: the thread flushes what it writes."""

    def close(self) -> None:
        """Write the waiting lines, for 5 s at most."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _write_all(self) -> None:
        while not self._closed or self._lines:
            self._wake.wait()
            if not self._closed:
                # One wake-up and one write for many lines: each takes the interpreter's
                # lock from the loop.
                time.sleep(_GATHER_SECONDS)
            self._wake.clear()
            self._write_backlog()

    def _write_backlog(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        # The disk may be full, or the reader gone, or the stream broken in any other way: the
        # service goes on without these lines, and the next ones may get through.
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
    secrets: Iterable[str] = (),
    more_secrets: Callable[[], tuple[str, ...]] = tuple,
    processors: Iterable[Processor] = (),
) -> Any:
    """Send all logs to *stream* while the block runs, from *level* on.

    *style* is ``json``: one object a line with ``timestamp`` (ISO 8601, UTC), ``level``,
    ``event``, the bound context such as ``request_id``, and ``exception`` with a traceback; or
    ``console``, for people. Further *processors* may add to each line. Warnings and the records
    of :mod:`logging` are written in the same form. *secrets* and *more_secrets* are those of
    :func:`scrubber`.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        *processors,
        structlog.stdlib.add_log_level,
        _add_time if style == "json" else structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    scrub = scrubber(secrets, more_secrets)
    render: Any
    if style == "json":
        render = structlog.processors.JSONRenderer(serializer=_to_json)
    else:
        render = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> str:
        return scrub(render(logger, method, event))

    numeric_level = logging.getLevelNamesMapping()[level.upper()]
    writer = _BackgroundWriter(stream)
    structlog.configure(
        processors=[*shared, rendered],
        wrapper_class=structlog.make_filtering_bound_logger(numeric_level),
        logger_factory=structlog.WriteLoggerFactory(writer),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, rendered],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(numeric_level)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        structlog.reset_defaults()
        writer.close()
