"""``python -m scrapper``: read the settings, run the service."""

import socket
import sys

import structlog
from aiohttp import web

from scrapper.app import create_app
from scrapper.instagram import Instagram, SessionFileError
from scrapper.settings import Settings, SettingsError, load_settings
from scrapper.telemetry import logs_to

__all__ = ["main"]

_EXIT_SETTINGS = 2
_BACKLOG = 1024
_SHUTDOWN_GRACE = 5.0


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code.

    0 after a stop in good order, 2 where settings are wrong. After a signal no new connection
    is taken, and what runs may finish within the deadline of a scrape.
    """
    try:
        settings = load_settings()
        instagram = _instagram(settings)
        listener = _listen(settings)
    except SettingsError as error:
        print(f"Wrong settings:\n{error}", file=sys.stderr)
        return _EXIT_SETTINGS
    with logs_to(
        sys.stdout,
        level=settings.log_level,
        style=settings.log_format,
        secrets=(settings.key, *instagram.secrets),
    ):
        log = structlog.get_logger("scrapper")
        host, port, *_ = listener.getsockname()
        log.info("listening", host=host, port=port, media_root=str(settings.media_root))
        web.run_app(
            create_app(settings, instagram),
            sock=listener,
            shutdown_timeout=settings.scrape_timeout_seconds + _SHUTDOWN_GRACE,
            backlog=_BACKLOG,
            access_log=None,
            print=None,
        )
        log.info("stopped")
    return 0


def _instagram(settings: Settings) -> Instagram:
    try:
        return Instagram(
            max_queries=settings.instagram_max_queries,
            window=settings.instagram_window_seconds,
            session_file=settings.instagram_session_file,
            username=settings.instagram_username,
        )
    except SessionFileError as error:
        raise SettingsError(f"INSTAGRAM_SESSION_FILE: {error}") from error


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"HOST, PORT: cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
