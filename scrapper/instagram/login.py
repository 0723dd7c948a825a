"""The session of an Instagram account: where it comes from, and whether it is alive."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import structlog

from scrapper.errors import SettingsError
from scrapper.instagram.cookies_file import (
    SessionFileError,
    read_cookies_file,
    read_session_file,
)

__all__ = ["Login", "LoginState", "Session", "State"]

log = structlog.get_logger(__name__)

State = Literal["none", "active", "expired", "challenged"]

_SECRET_COOKIES = ("sessionid", "csrftoken")
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True, slots=True)
class LoginState:
    """What clients may know of the login; ``since`` is a unix time."""

    state: State
    username: str | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Session:
    """The cookies of one login; another login has another ``number``."""

    number: int
    cookies: Mapping[str, str]
    username: str


class Login:
    """The session for posts that need one; safe to share between threads.

    It comes from *cookies_file*, a browser's cookies.txt, or from *session_file*, Instaloader's
    own. The file is read again when it changes; one that is damaged then leaves things as they
    are. A session that Instagram ended, or whose account must be confirmed in a browser, is left
    alone until the file changes.

    Raises:
        SettingsError: the file holds no session, or others could have written it.
    """

    def __init__(
        self,
        *,
        cookies_file: Path | None = None,
        session_file: Path | None = None,
        username: str = "",
    ) -> None:
        self._lock = threading.Lock()
        self._path = cookies_file or session_file
        self._read: Callable[[Path], dict[str, str]] = (
            read_cookies_file if cookies_file else read_session_file
        )
        self._username = username
        self._session: Session | None = None
        self._state: State = "none"
        self._since: float | None = None
        self._stamp: tuple[int, ...] = ()
        self._look_at = 0.0
        try:
            self._look()
        except SessionFileError as error:
            name = "INSTAGRAM_COOKIES_FILE" if cookies_file else "INSTAGRAM_SESSION_FILE"
            raise SettingsError(f"{name}: {error}") from error

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of the cookies that open the account to whoever has them."""
        with self._lock:
            cookies = self._session.cookies if self._session else {}
        return tuple(cookies[name] for name in _SECRET_COOKIES if cookies.get(name))

    @property
    def state(self) -> LoginState:
        """What clients may know of the login."""
        with self._lock:
            username = self._session.username if self._session else None
            return LoginState(self._state, username or None, self._since)

    def session(self) -> Session | None:
        """The session; None if there is none, or it ended, or its account needs a person."""
        with self._lock:
            if time.monotonic() >= self._look_at:
                try:
                    self._look()
                except SessionFileError as error:
                    log.warning("instagram login unreadable", cause=str(error))
            return self._session if self._state == "active" else None

    def note_ended(self, session: Session) -> None:
        """Note that Instagram ended the *session*."""
        self._note(session, "expired")

    def note_challenged(self, session: Session) -> None:
        """Note that the account must be confirmed in a browser."""
        self._note(session, "challenged")

    def note_cookies(self, session: Session, cookies: Mapping[str, str]) -> None:
        """Keep the *cookies* that Instagram rotated."""
        with self._lock:
            if self._session is not None and self._session.number == session.number:
                self._session = replace(self._session, cookies=dict(cookies))

    def _look(self) -> None:
        """Read the file if it changed since the last look."""
        if self._path is None:
            self._look_at = float("inf")
            return
        self._look_at = time.monotonic() + _SECONDS_BETWEEN_LOOKS
        try:
            status = self._path.stat()
        except OSError as error:
            raise SessionFileError(f"{self._path}: {error.strerror}") from error
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        cookies = self._read(self._path)
        number = self._session.number + 1 if self._session else 1
        self._session = Session(number, cookies, self._username)
        self._state, self._since = "active", time.time()

    def _note(self, session: Session, state: State) -> None:
        with self._lock:
            if self._session is None or self._session.number != session.number:
                return
            if self._state == state:
                return
            self._state, self._since = state, time.time()
        log.error("instagram login lost", state=state, username=session.username)
