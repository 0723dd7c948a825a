"""The service as a process: its parts, its logs, its end."""

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
from scrapper.serving.request_path import weak_spots
from scrapper.settings import GRACE_SECONDS, LogSettings, Settings, load_settings
from scrapper.tasks import end_process_within, on_signal
from scrapper.telemetry.logs import merged
from scrapper.telemetry.tracing import tracing

__all__ = ["serve"]

log = structlog.get_logger("scrapper")

_SECONDS_TO_CLOSE = 3.0
_SHORT_KEY = 16
_COLLECT_AFTER = 10_000, 20, 20


def serve() -> int:
    """Run until SIGTERM or SIGINT; return 0.

    After a signal the service takes no new connection, and lets running requests finish within
    the deadline of a scrape. Some seconds later the process ends, whatever its threads do.

    Raises:
        SettingsError: a setting is wrong.
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
        most=raise_open_files(settings.max_connections),
        head_timeout=settings.client_timeout_seconds,
        grace=grace,
    )
    try:
        async with running as connect:
            _collect_less()
            # Listen last, so that every client that can connect gets an answer.
            async with listening(settings, connect) as (host, port):
                _report_start(parts, host, port, keyed=app[API_KEYS].needed)
                await ended.wait()
    finally:
        # asyncio, too, waits for threads, which a plugin or a disk may hold up.
        end_process_within(_SECONDS_TO_CLOSE)


def _report_start(parts: ServiceParts, host: str, port: int, *, keyed: bool) -> None:
    """Log where the service listens, and what the operator should know of that."""
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
    if not (keyed or _is_loopback(host)):
        log.warning(
            "open to everybody who reaches the port", advice="set API_KEY, or HOST=127.0.0.1"
        )
    for text in weak_spots(settings, keyed=keyed):
        log.warning("request path is weak", cause=text)


def _address(settings: Settings, host: str, port: int) -> str:
    """Where a browser on this machine finds the page."""
    scheme = "https" if settings.tls_cert_file else "http"
    if ip_address(host.partition("%")[0]).is_unspecified:
        host = "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}{settings.base_path}/"


def _is_loopback(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _collect_less() -> None:
    """Exclude present objects from garbage collections, and collect less often.

    Otherwise each collection looks at every connection: with 4,000 of them a response took twice as
    much CPU as with 64.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
