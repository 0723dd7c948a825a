"""The service as a process: its socket, its logs, its end."""

import socket
import sys

import structlog
from aiohttp import web

from scrapper.app import INSTAGRAM, create_app
from scrapper.errors import SettingsError
from scrapper.settings import Settings, load_settings
from scrapper.telemetry import logs_to

__all__ = ["serve"]

_BACKLOG = 1024
_SHUTDOWN_GRACE = 5.0


def serve() -> int:
    """Run until SIGTERM or SIGINT; return 0.

    After a signal no new connection is taken, and what runs may finish within the deadline of
    a scrape.

    Raises:
        SettingsError: some are wrong.
    """
    settings = load_settings()
    app = create_app(settings)
    listener = _listen(settings)
    with logs_to(
        sys.stdout,
        level=settings.log_level,
        style=settings.log_format,
        secrets=(settings.key, *app[INSTAGRAM].secrets),
    ):
        log = structlog.get_logger("scrapper")

        async def tell(_app: web.Application) -> None:
            host, port, *_ = listener.getsockname()
            log.info("listening", host=host, port=port, media_root=str(settings.media_root))

        app.on_startup.append(tell)
        web.run_app(
            app,
            sock=listener,
            shutdown_timeout=settings.scrape_timeout_seconds + _SHUTDOWN_GRACE,
            backlog=_BACKLOG,
            access_log=None,
            print=None,
        )
        log.info("stopped")
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"HOST, PORT: cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
