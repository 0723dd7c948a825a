"""``python -m scrapper``: run the service, a ``worker`` of it, or ``fetch`` posts without one."""

import argparse
import os
import sys
import warnings
from pathlib import Path

from scrapper import __version__
from scrapper.errors import SettingsError

__all__ = ["main"]

_EXIT_USAGE = 2


def main() -> int:
    """Do what the command line says; return the exit code, 2 where it or a setting is wrong."""
    options = _parser().parse_args()
    _leave_out("charset_normalizer")
    warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
    try:
        if options.command == "fetch":
            from scrapper.commands.fetch import fetch  # noqa: PLC0415

            return fetch(options.urls, options.into)
        _leave_out("rich")
        if options.command == "worker":
            from scrapper.settings import load_settings  # noqa: PLC0415

            # First of all: it tells if what a worker needs is not installed.
            settings = load_settings()
            if not settings.redis_url.get_secret_value():
                raise SettingsError("REDIS_URL: a worker takes its posts from there")
            from scrapper.commands.worker import work  # noqa: PLC0415

            return work(settings)
        if not os.environ.get("REDIS_URL"):
            _leave_out("redis")
        from scrapper.commands.serve import serve  # noqa: PLC0415

        return serve()
    except SettingsError as error:
        print(f"Wrong settings:\n{error}", file=sys.stderr)
        return _EXIT_USAGE


def _leave_out(module: str) -> None:
    """Have a *module* not found by the libraries that can do without it.

    Each of these is 3 MB or more: rich, of which structlog makes coloured tracebacks; redis, which
    throttled-py imports wherever it is installed; and charset_normalizer, by which requests
    guesses the encoding of a text that names none. Without it that is UTF-8, as all of
    Instagram's are.
    """
    sys.modules[module] = None  # type: ignore[assignment]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scrapper",
        description="Instagram posts as files. Without a command: run the service.",
        epilog="The settings come from the environment; see the README.",
    )
    parser.add_argument("--version", action="version", version=f"instagram-scrapper {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "worker", help="do the jobs that replicas of the service take; needs REDIS_URL"
    )
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


if __name__ == "__main__":
    sys.exit(main())
