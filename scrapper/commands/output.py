"""What commands report: exit codes, and a log if ``LOG_LEVEL`` asks for one."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from scrapper.settings import Settings
from scrapper.telemetry.logs import Scrubber, logs_to

__all__ = ["EXIT_CODES", "EXIT_USAGE", "logs_if_asked"]

EXIT_USAGE = 2
EXIT_CODES: Mapping[int, int] = {200: 0, 404: 3, 403: 4, 429: 5, 503: 6}
"""Exit code by the status that ``POST /scrape`` would give; 1 for any other."""


def logs_if_asked(
    settings: Settings, more_secrets: Callable[[], tuple[str, ...]]
) -> AbstractContextManager[None]:
    """Log to standard error while the block runs, if ``LOG_LEVEL`` is set.

    Failures are printed anyway.
    """
    level = settings.log_level if "log_level" in settings.model_fields_set else "critical"
    return logs_to(sys.stderr, level=level, style="console", scrubber=Scrubber(more=more_secrets))
