"""The command line, ``python -m scrapper`` or ``instagram-scrapper``."""

import argparse
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import NoReturn, TypeAlias

from scrapper import __version__
from scrapper.errors import SettingsError

__all__ = ["main", "run"]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_OWN_PACKAGES = ("scrapper", "middlewares")
_PACKAGE_IS_MISSING = """\
The Python package {name} is not installed. In a clone of the repository:
  make run                               installs everything and runs the service
  .venv/bin/python -m scrapper COMMAND   runs any command after that"""
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the command and return its exit code: 2 for wrong usage or an invalid setting."""
    _replace_closed_streams()
    _hide_module("charset_normalizer")
    warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
    parser, commands = _parser()
    try:
        _add_commands_of_plugins(commands)
        options = parser.parse_args()
        if options.func is None and options.command is not None:
            raise SettingsError(f"plugin: the command {options.command} does not set func")
        command = options.func or _serve
        if command not in (_serve, _work):
            # The service and the worker log the near misses instead of printing them.
            from scrapper.commands.output import print_near_misses  # noqa: PLC0415

            print_near_misses()
        returned = command(options)
        if returned is None or isinstance(returned, int):
            return returned or 0
        raise SettingsError(f"plugin: a command returned {returned!r}, not an exit code")
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except SettingsError as error:
        print(f"Invalid settings:\n{error}", file=sys.stderr)
        return _EXIT_USAGE
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in _OWN_PACKAGES:
            raise
        print(_PACKAGE_IS_MISSING.format(name=error.name), file=sys.stderr)
        return _EXIT_USAGE


# Each command imports only what it needs.


def _serve(_: argparse.Namespace) -> int:
    _hide_module("rich")
    from scrapper.commands.serve import serve  # noqa: PLC0415

    return serve()


def _work(_: argparse.Namespace) -> int:
    _hide_module("rich")
    from scrapper.commands.output import process_logs  # noqa: PLC0415
    from scrapper.settings import load_settings  # noqa: PLC0415

    with process_logs() as scrubber:
        # This reports missing Redis packages, so it must run before worker.py imports them.
        settings = load_settings()
        if not settings.redis_url.get_secret_value():
            raise SettingsError("REDIS_URL: must be set, because workers take posts from Redis")
        from scrapper.commands.worker import work  # noqa: PLC0415

        return work(settings, scrubber)


def _login(options: argparse.Namespace) -> int:
    from scrapper.commands.login import login  # noqa: PLC0415

    return login(options.file, forget=options.forget)


def _fetch(options: argparse.Namespace) -> int:
    if not (options.urls or options.files):
        options.parser.error("fetch needs a URL, or --from FILE")
    from scrapper.commands.fetch import FetchOptions, fetch  # noqa: PLC0415

    how = FetchOptions(
        options.into,
        ordered=options.ordered,
        wait=not options.no_wait,
        quality=options.quality,
        max_mb=options.max_mb,
    )
    return fetch(options.urls, options.files, how)


def _megabytes(text: str) -> float:
    from scrapper.library.post import MAX_MEGABYTES  # noqa: PLC0415

    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= MAX_MEGABYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of megabytes")
    return number


def _doctor(options: argparse.Namespace) -> int:
    from scrapper.commands.doctor import doctor  # noqa: PLC0415

    return doctor(options.link)


def _middlewares(_: argparse.Namespace) -> int:
    from scrapper.commands.middlewares import middlewares  # noqa: PLC0415

    return middlewares()


def _plugins(options: argparse.Namespace) -> int:
    from scrapper.commands.plugins import plugins  # noqa: PLC0415

    return plugins(again=options.again)


def _backup(options: argparse.Namespace) -> int:
    from scrapper.commands.backup import backup  # noqa: PLC0415

    return backup(options.file, with_posts=not options.no_posts)


def _replace_closed_streams() -> None:
    """Open /dev/null in place of standard streams that the shell closed, for example with ``>&-``.

    Otherwise, the next file or socket to be opened would get the closed stream's file descriptor,
    and the process would write its output there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the process's life
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123


def _hide_module(module: str) -> None:
    """Hide *module* from libraries that work without it.

    The service hides rich and charset_normalizer, each of which takes at least 3 MB of memory.
    structlog uses rich for coloured tracebacks, and requests uses charset_normalizer to guess
    encodings. Without charset_normalizer, requests assumes UTF-8, which is what Instagram sends.
    """
    sys.modules[module] = None  # type: ignore[assignment]


def _add_commands_of_plugins(commands: Commands) -> None:
    """Add the commands of plugins if the user runs one of them or asks for help.

    Other commands must work even if a plugin's module is missing.

    Raises:
        SettingsError: a plugin cannot be loaded.
    """
    asked_for_help = not {"-h", "--help"}.isdisjoint(sys.argv)
    command = next((word for word in sys.argv[1:2] if not word.startswith("-")), None)
    if not asked_for_help and (command is None or command in commands.choices):
        return
    from scrapper.plugins.loading import Plugins  # noqa: PLC0415

    names = os.environ.get("PLUGINS", "").split(",")
    try:
        Plugins([name.strip() for name in names if name.strip()]).add_commands(commands)
    except SettingsError as error:
        if asked_for_help:
            print(error, file=sys.stderr)
        else:
            raise


def _program() -> str:
    """Return the command that the user typed to run this program."""
    name = Path(sys.argv[0]).name
    return "python -m scrapper" if name == "__main__.py" else name


def _parser() -> tuple[argparse.ArgumentParser, Commands]:
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="Download Instagram posts as files. Without a command, run the service.",
        epilog="Settings are environment variables; see docs/settings.md.",
    )
    parser.add_argument("--version", action="version", version=f"instagram-scrapper {__version__}")
    parser.set_defaults(func=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the service (the default)")
    serve.set_defaults(func=_serve)
    worker = commands.add_parser(
        "worker", help="run a worker, which downloads the posts of jobs; needs REDIS_URL"
    )
    worker.set_defaults(func=_work)
    login = commands.add_parser(
        "login",
        help="log the service in to Instagram with an existing session",
        epilog="A running service picks up the session within a second. Exit codes: 0 "
        "success, 2 no session in the file, 4 refused by Instagram, 5 rate limit, 6 unreachable.",
    )
    login.set_defaults(func=_login)
    given = login.add_mutually_exclusive_group()
    given.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="a file with a browser's cookies, or an Instaloader session file; - for standard "
        "input; default: INSTAGRAM_COOKIES_FILE or INSTAGRAM_SESSION_FILE",
    )
    given.add_argument("--forget", action="store_true", help="log the service out instead")
    fetch = commands.add_parser(
        "fetch",
        help="download posts without a service",
        epilog="Exit codes: 0 success, 1 unexpected answer from Instagram or failure to write a "
        "file, 2 wrong usage, 3 not found, 4 login needed, 5 rate limit, 6 unreachable or timed "
        "out.",
    )
    fetch.set_defaults(func=_fetch, parser=parser)
    fetch.add_argument(
        "urls", nargs="*", metavar="URL", help="a post's URL; - for a list on standard input"
    )
    fetch.add_argument(
        "--from",
        action="append",
        default=[],
        dest="files",
        metavar="FILE",
        help="a list of URLs, one per line; # begins a comment",
    )
    fetch.add_argument(
        "--ordered", action="store_true", help="print the outcomes in the order of the URLs"
    )
    fetch.add_argument(
        "--no-wait",
        action="store_true",
        help="fail immediately if a limit is reached, instead of waiting",
    )
    fetch.add_argument(
        "--quality",
        choices=("compatible", "best"),
        help="video quality; best needs ffmpeg; default: VIDEO_QUALITY",
    )
    fetch.add_argument(
        "--max-mb",
        type=_megabytes,
        metavar="N",
        help="maximum size of each file in megabytes; the largest version that fits is downloaded",
    )
    fetch.add_argument(
        "--into",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for the posts; default: the current folder",
    )
    doctor = commands.add_parser(
        "doctor",
        help="show what Instagram answers for a post, and how this machine is set up",
        epilog="Each source is queried once, and the account is used only if the post needs a "
        "login. Attach the output to bug reports. Exit codes: 0 if a source has the post, "
        "otherwise as for fetch.",
    )
    doctor.set_defaults(func=_doctor)
    doctor.add_argument("link", metavar="LINK", help="the link to a public post")
    path = commands.add_parser("middlewares", help="show the middlewares, outermost first")
    path.set_defaults(func=_middlewares)
    plugins = commands.add_parser("plugins", help="show the plugins and the progress of each")
    plugins.set_defaults(func=_plugins)
    plugins.add_argument("--again", metavar="NAME", help="run this plugin over the whole library")
    backup = commands.add_parser(
        "backup", help="archive the posts and the state, even while the service is running"
    )
    backup.set_defaults(func=_backup)
    backup.add_argument(
        "file", type=Path, metavar="FILE", help="a tar archive; - for standard output"
    )
    backup.add_argument("--no-posts", action="store_true", help="archive only the state")
    return parser, commands


def run() -> NoReturn:
    """Run the command, and exit the process with the exit code that the command returned."""
    _end(main())


def _end(code: int) -> NoReturn:
    """Exit even if a plugin's threads hang. A normal exit may wait for them."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # The reader of a pipe is gone. A normal exit would flush again and print an error.
        os._exit(code)
    # Python waits for the threads of executors, even if they are daemons.
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
