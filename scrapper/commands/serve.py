"""The service as a process: its socket, its logs, its end."""

import asyncio
import os
import signal
import socket
import sys
import threading
from typing import cast

import structlog
from aiohttp import web

from scrapper.app import create_app
from scrapper.assembly import ServiceParts, assemble
from scrapper.errors import SettingsError
from scrapper.handlers.resources import API_KEYS
from scrapper.serving.connections import connections, raise_open_files
from scrapper.serving.request_path import weak_spots
from scrapper.settings import Settings, load_settings
from scrapper.telemetry.logs import logs_to, merged
from scrapper.telemetry.tracing import tracing

__all__ = ["serve"]

log = structlog.get_logger("scrapper")

_BACKLOG = 1024
_SHUTDOWN_GRACE = 5.0
_SHORT_KEY = 16
_SECONDS_TO_END = 10.0


def serve() -> int:
    """Run until SIGTERM or SIGINT; return 0.

    After a signal the service takes no new connection, and lets running requests finish within
    the deadline of a scrape.

    Raises:
        SettingsError: some are wrong.
    """
    settings = load_settings()
    with tracing(settings.otel_traces_exporter) as processors:
        parts = assemble(settings)
        app = create_app(parts)
        with logs_to(
            sys.stdout,
            level=settings.log_level,
            style=settings.log_format,
            secrets=settings.secrets,
            more_secrets=merged(
                lambda: parts.instagram.login.secrets, lambda: app[API_KEYS].secrets
            ),
            processors=processors,
        ):
            if any(len(key) < _SHORT_KEY for key in app[API_KEYS].secrets):
                log.warning("API key is short: it can be guessed", advice="openssl rand -hex 32")
            asyncio.run(_serve(app, parts))
            log.info("stopped")
    return 0


async def _serve(app: web.Application, parts: ServiceParts) -> None:
    settings = parts.settings
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    runner = web.AppRunner(app, shutdown_timeout=settings.scrape_timeout_seconds + _SHUTDOWN_GRACE)
    try:
        await runner.setup()
        # Listen last, so that whoever can connect gets an answer.
        listener = _listen(settings)
        server = await loop.create_server(
            connections(
                cast(web.Server, runner.server),
                parts.metrics,
                most=raise_open_files(settings.max_connections),
                head_timeout=settings.client_timeout_seconds,
            ),
            sock=listener,
            backlog=_BACKLOG,
        )
        host, port, *_ = listener.getsockname()
        log.info(
            "listening",
            host=host,
            port=port,
            media_root=str(settings.media_root),
            plugins=[plugin.name for plugin in parts.plugins],
        )
        for text in weak_spots(settings, keyed=app[API_KEYS].needed):
            log.warning("request path is weak", cause=text)
        await ended.wait()
        server.close()
    finally:
        await runner.cleanup()
        if any(parts.plugins):
            _end_soon()


def _end_soon() -> None:
    """End the process in some seconds, whatever a plugin's threads do: asyncio waits for some."""

    def end() -> None:
        log.warning("stopped: a thread of a plugin hangs")
        sys.stdout.flush()
        os._exit(0)

    timer = threading.Timer(_SECONDS_TO_END, end)
    timer.daemon = True
    timer.start()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"HOST, PORT: cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
