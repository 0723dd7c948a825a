"""``python -m scrapper login``: give the service an Instagram session, or remove it."""

import sys
import time
from pathlib import Path

from scrapper.assembly import assemble_login
from scrapper.commands.output import EXIT_CODES, EXIT_USAGE, logs_if_enabled, print_folder
from scrapper.errors import ScrapeError, response_to
from scrapper.instagram.login.cookie_texts import parse_cookies
from scrapper.instagram.login.cookies import (
    SessionFileError,
    read_cookies_file,
    read_session_file,
)
from scrapper.library.root import MediaRoot
from scrapper.local_files.opening import open_file
from scrapper.settings import load_settings

__all__ = ["login"]

_STANDARD_INPUT = Path("-")
_PICKLE = b"\x80"


def login(file: Path | None, *, forget: bool) -> int:
    """Give the service at ``MEDIA_ROOT`` the session in *file*; return the exit code.

    *file* contains a browser's cookies in any supported format, or a session saved by
    ``instaloader --login``. If *file* is ``-``, the cookies are read from standard input. If *file*
    is None, the file named in the settings is used. One query checks that the session is alive. A
    running service uses the new session within a second. If *forget* is true, the service is logged
    out instead.

    Raises:
        SettingsError: a setting is invalid.
    """
    settings = load_settings()
    print_folder(MediaRoot(settings.media_root), must_be_used=False)
    instagram = assemble_login(settings)
    with logs_if_enabled(settings, lambda: instagram.login.secrets):
        try:
            if forget:
                instagram.login.forget()
                print("Logged out.")
                return 0
            cookies = _cookies(file or settings.session_file)
            used = instagram.log_in(cookies, time.monotonic() + settings.scrape_timeout_seconds)
        except SessionFileError as error:
            print(error, file=sys.stderr)
            return EXIT_USAGE
        except ScrapeError as error:
            status, _, message = response_to(error)
            print(message, file=sys.stderr)
            return EXIT_CODES.get(status, 1)
        except OSError as error:
            print(f"The login cannot be stored: {error}", file=sys.stderr)
            return 1
        finally:
            instagram.close()
    print(f"Logged in as {used.username}." if used.username else "Logged in; user name unknown.")
    return 0


def _cookies(file: Path | None) -> dict[str, str]:
    if file is None:
        raise SessionFileError(
            "Name the file with the cookies: python -m scrapper login cookies.txt"
        )
    if file == _STANDARD_INPUT:
        try:
            return parse_cookies(sys.stdin.buffer.read())
        except ValueError as error:
            raise SessionFileError(f"standard input: {error}") from None
    try:
        with open_file(file) as opened:
            is_pickle = opened.read(1) == _PICKLE
    except OSError as error:
        raise SessionFileError(f"{file}: {error.strerror}") from error
    return read_session_file(file) if is_pickle else read_cookies_file(file)
