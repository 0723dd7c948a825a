"""``python -m scrapper serve``: run the service."""

import asyncio
import gc
import sys
from ipaddress import ip_address

import structlog
from aiohttp import web

from scrapper.app import create_app
from scrapper.assembly import ServiceParts, assemble
from scrapper.commands.output import process_logs
from scrapper.handlers.resources import API_KEYS
from scrapper.serving.connections import raise_open_files, running_app
from scrapper.serving.listeners import listening
from scrapper.serving.request_path import path_warnings
from scrapper.settings import GRACE_SECONDS, LogSettings, Settings, load_settings
from scrapper.tasks import end_process_within, on_signal
from scrapper.telemetry.logs import merged
from scrapper.telemetry.tracing import tracing

__all__ = ["serve"]

log = structlog.get_logger("scrapper")

_SECONDS_TO_CLOSE = 3.0
_SHORT_KEY = 16
_GC_THRESHOLDS = 10_000, 20, 20


def serve() -> int:
    """Run until SIGTERM or SIGINT; return 0.

    After a signal, the service accepts no new connections. Requests in progress are given the
    timeout of a scrape, plus a few seconds, to finish. The process ends a few seconds after that,
    even if threads hang.

    Raises:
        SettingsError: a setting is invalid.
    """
    with (
        tracing(LogSettings.or_defaults().otel_traces_exporter) as processors,
        process_logs(processors) as scrubber,
    ):
        settings = load_settings()
        scrubber.follow(settings.secrets, tuple)
        parts = assemble(settings)
        app = create_app(parts)
        secrets = merged(lambda: parts.instagram.login.secrets, lambda: app[API_KEYS].secrets)
        scrubber.follow((), secrets)
        if any(len(key) < _SHORT_KEY for key in app[API_KEYS].secrets):
            log.warning("API key is short: it can be guessed", advice="openssl rand -hex 32")
        asyncio.run(_serve(app, parts))
        log.info("stopped")
    return 0


async def _serve(app: web.Application, parts: ServiceParts) -> None:
    settings = parts.settings
    grace = settings.scrape_timeout_seconds + GRACE_SECONDS
    ended = on_signal(grace + _SECONDS_TO_CLOSE)
    running = running_app(
        app,
        parts.metrics,
        max_connections=raise_open_files(settings.max_connections),
        head_timeout=settings.client_timeout_seconds,
        grace=grace,
    )
    try:
        async with running as connect:
            _tune_garbage_collection()
            # Listen only once the app is running, so that every client that connects is served.
            async with listening(settings, connect) as (host, port):
                _log_start(parts, host, port, needs_key=app[API_KEYS].needed)
                await ended.wait()
    finally:
        # At exit, asyncio waits for threads, which a plugin or a disk may block forever.
        end_process_within(_SECONDS_TO_CLOSE)


def _log_start(parts: ServiceParts, host: str, port: int, *, needs_key: bool) -> None:
    """Log the address that the service listens on, and warn if the service is open to anyone."""
    settings = parts.settings
    log.info(
        "listening",
        host=host,
        port=port,
        tls=settings.tls_cert_file is not None,
        unix_socket=settings.unix_socket and str(settings.unix_socket),
        media_root=str(settings.media_root),
        plugins=[plugin.name for plugin in parts.plugins],
    )
    if sys.stderr.isatty():
        print(f"The page: {_address(settings, host, port)}", file=sys.stderr)
    if not (needs_key or _is_loopback(host)):
        log.warning(
            "open to anyone who can reach the port", advice="set API_KEY, or HOST=127.0.0.1"
        )
    for text in path_warnings(settings, needs_key=needs_key):
        log.warning("request path is weak", cause=text)


def _address(settings: Settings, host: str, port: int) -> str:
    """Return the page's URL for a browser on this machine."""
    scheme = "https" if settings.tls_cert_file else "http"
    if ip_address(host.partition("%")[0]).is_unspecified:
        host = "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}{settings.base_path}/"


def _is_loopback(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _tune_garbage_collection() -> None:
    """Exclude existing objects from garbage collection, and collect less often.

    By default, each collection visits the objects of every connection: with 4,000 connections, a
    response took twice as much CPU time as with 64.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
