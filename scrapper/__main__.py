"""``python -m scrapper``: run the service, or ``fetch`` posts without one."""

import argparse
import sys
from pathlib import Path

from scrapper.errors import SettingsError

__all__ = ["main"]

_EXIT_USAGE = 2


def main() -> int:
    """Do what the command line says; return the exit code, 2 where it or a setting is wrong."""
    options = _parser().parse_args()
    try:
        if options.command == "fetch":
            from scrapper.cli import fetch  # noqa: PLC0415

            return fetch(options.urls, options.into)
        # structlog would import it for coloured tracebacks: 3 MB that a service has no use for.
        sys.modules["rich"] = None  # type: ignore[assignment]
        from scrapper.server import serve  # noqa: PLC0415

        return serve()
    except SettingsError as error:
        print(f"Wrong settings:\n{error}", file=sys.stderr)
        return _EXIT_USAGE


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


if __name__ == "__main__":
    sys.exit(main())
