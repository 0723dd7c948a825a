"""Provides exit codes, notices and logs for the commands."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import structlog
from structlog.typing import Processor

from scrapper.errors import SettingsError
from scrapper.library.root import MediaRoot
from scrapper.settings import LogSettings, Settings, near_misses
from scrapper.telemetry.logs import Scrubber, logs_to

__all__ = [
    "EXIT_CODES",
    "EXIT_USAGE",
    "logs_if_enabled",
    "print_folder",
    "print_near_misses",
    "process_logs",
]

log = structlog.get_logger(__name__)

EXIT_USAGE = 2
EXIT_CODES: Mapping[int, int] = {200: 0, 404: 3, 403: 4, 429: 5, 503: 6}
"""The exit code for each status of ``POST /scrape``. Any other status means exit code 1."""


def print_folder(root: MediaRoot, *, must_be_used: bool) -> None:
    """Print the media folder in use, and a warning if no service has used it yet.

    Raises:
        SettingsError: *must_be_used* is true, but no service has used the folder yet.
    """
    print(f"Media folder: {root.path}", file=sys.stderr)
    if not root.used:
        text = f"no service has used {root.path} yet: is this the service's MEDIA_ROOT?"
        if must_be_used:
            raise SettingsError(f"MEDIA_ROOT: {text}")
        print(text[0].upper() + text[1:], file=sys.stderr)


def print_near_misses() -> None:
    """Print a warning for each environment variable that looks like a misspelled setting."""
    for name, setting in near_misses(os.environ):
        print(f"{name} is not a setting: did you mean {setting}?", file=sys.stderr)


@contextmanager
def process_logs(processors: Iterable[Processor] = ()) -> Iterator[Scrubber]:
    """Log to standard output while the block runs.

    The first lines warn about environment variables that look like misspelled settings. Yield the
    log's scrubber, so that the block can add secrets to it.
    """
    scrubber, logging = Scrubber(), LogSettings.or_defaults()
    with logs_to(
        sys.stdout,
        level=logging.log_level,
        style=logging.log_format,
        scrubber=scrubber,
        processors=processors,
    ):
        for name, setting in near_misses(os.environ):
            log.warning("unknown variable ignored", name=name, nearest=setting)
        yield scrubber


def logs_if_enabled(
    settings: Settings, more_secrets: Callable[[], tuple[str, ...]]
) -> AbstractContextManager[None]:
    """Log to standard error while the block runs, if ``LOG_LEVEL`` is set.

    Otherwise, log only critical events, because the commands print failures themselves.
    """
    level = settings.log_level if "log_level" in settings.model_fields_set else "critical"
    return logs_to(sys.stderr, level=level, style="console", scrubber=Scrubber(more=more_secrets))
