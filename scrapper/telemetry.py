"""Logs: one JSON object a line on stdout, of structlog's loggers and of Python's alike."""

import json
import logging
import queue
import re
import sys
import threading
from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["logs_to", "scrubber"]

_QUERY = re.compile(r"\?[\w.%~+-]+=[^\s\"'<>)]*")
_QUEUED_LINES = 10_000


def scrubber(secrets: Iterable[str]) -> Processor:
    """A structlog processor that takes *secrets* and the queries of URLs out of every text.

    The query of a CDN URL is its signature: who has it may download the file. Errors of
    requests and Instaloader quote such URLs whole.
    """
    known = tuple(sorted({secret for secret in secrets if secret}, key=len, reverse=True))

    def scrub_text(text: str) -> str:
        for secret in known:
            if secret in text:
                text = text.replace(secret, "[secret]")
        return _QUERY.sub("?[scrubbed]", text) if "?" in text else text

    def scrub(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = scrub_text(value)
            elif not isinstance(value, int | float | None) and not name.startswith("_"):
                event[name] = scrub_text(str(value))
        return event

    return scrub


class _BackgroundWriter:
    """Writes lines to *stream* in a thread of its own.

    A collector that does not read its pipe must not hold the event loop. When its backlog is
    full lines are dropped, and their number is told once there is room.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_QUEUED_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Nothing: the thread flushes when its backlog is empty."""

    def close(self) -> None:
        """Write what waits, for 5 s at most."""
        try:
            self._lines.put(None, timeout=5)
        except queue.Full:
            return
        self._thread.join(timeout=5)

    def _write_all(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._stream.write(line)
                if self._lines.empty():
                    self._stream.flush()
                    if self._dropped:
                        dropped, self._dropped = self._dropped, 0
                        log = structlog.get_logger(__name__)
                        log.warning("log lines dropped", lines=dropped)
            self._stream.flush()
        except OSError:
            # Nobody reads the log any more; the service goes on without.
            return


@contextmanager
def logs_to(stream: TextIO, *, level: str, style: str, secrets: Iterable[str] = ()) -> Any:
    """Send all logs to *stream* while the block runs, from *level* on.

    *style* is ``json``: one object a line with ``timestamp`` (ISO 8601, UTC), ``level``,
    ``event``, the bound context such as ``request_id``, and ``exception`` with a traceback; or
    ``console``, for people. Warnings and the records of :mod:`logging` take the same way.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrubber(secrets),
    ]
    render: Processor
    if style == "json":
        render = structlog.processors.JSONRenderer(serializer=json.dumps)
    else:
        render = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    numeric_level = logging.getLevelNamesMapping()[level.upper()]
    writer = _BackgroundWriter(stream)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(numeric_level),
        logger_factory=structlog.WriteLoggerFactory(writer),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
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
