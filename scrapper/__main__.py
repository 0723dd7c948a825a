"""``python -m scrapper``: read the settings, run the service; or ``fetch`` without one."""

import argparse
import socket
import sys
from pathlib import Path

import structlog
from aiohttp import web

from scrapper.app import INSTAGRAM, create_app
from scrapper.errors import SettingsError
from scrapper.settings import Settings, load_settings
from scrapper.telemetry import logs_to

__all__ = ["main"]

_EXIT_SETTINGS = 2
_BACKLOG = 1024
_SHUTDOWN_GRACE = 5.0


def main() -> int:
    """Do what the command line says; return the exit code, 2 where it or a setting is wrong."""
    options = _parser().parse_args()
    try:
        if options.command == "fetch":
            # Brings in a library for terminals, which the service has no use for.
            from scrapper.cli import fetch  # noqa: PLC0415

            return fetch(options.urls, options.into)
        return _serve()
    except SettingsError as error:
        print(f"Wrong settings:\n{error}", file=sys.stderr)
        return _EXIT_SETTINGS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scrapper",
        description="Instagram posts as files. Without a command: run the service.",
        epilog="The settings come from the environment; see the README.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    fetch = commands.add_parser(
        "fetch",
        help="download posts without a service",
        epilog="Exit codes: 0 all is well, 1 Instagram's answer made no sense, 2 wrong usage, "
        "3 not found, 4 forbidden, 5 rate limit, 6 unreachable or too late.",
    )
    fetch.add_argument("urls", nargs="+", metavar="URL", help="a post's URL")
    fetch.add_argument(
        "--into",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder; the current one if not given",
    )
    return parser


def _serve() -> int:
    """Run until SIGTERM or SIGINT; return 0.

    After a signal no new connection is taken, and what runs may finish within the deadline of
    a scrape.
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


if __name__ == "__main__":
    sys.exit(main())
