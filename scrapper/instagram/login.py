"""The session of an Instagram account: where it comes from, and whether it is alive."""

import pickle
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import structlog

from scrapper.errors import SettingsError

__all__ = ["Login", "LoginState", "Session", "State"]

log = structlog.get_logger(__name__)

State = Literal["none", "active", "expired", "challenged"]

_SECRET_COOKIES = ("sessionid", "csrftoken")


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


class _TextsUnpickler(pickle.Unpickler):
    """Unpickles what holds no object but dictionaries and texts."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not a text")


class Login:
    """The session that posts which need a login are asked with; safe to share between threads.

    A session that Instagram ended, or whose account must be confirmed in a browser, is not used
    again by this process.

    Raises:
        SettingsError: the session file holds no session.
    """

    def __init__(self, *, session_file: Path | None = None, username: str = "") -> None:
        self._lock = threading.Lock()
        cookies = _read_session_file(session_file) if session_file else None
        self._session = Session(1, cookies, username) if cookies else None
        self._state: State = "none" if cookies is None else "active"
        self._since = time.time() if cookies else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of the cookies that open the account to whoever has them."""
        cookies = self._session.cookies if self._session else {}
        return tuple(cookies[name] for name in _SECRET_COOKIES if cookies.get(name))

    @property
    def state(self) -> LoginState:
        """What clients may know of the login."""
        with self._lock:
            username = self._session.username if self._session else None
            return LoginState(self._state, username, self._since)

    def session(self) -> Session | None:
        """The session; None if there is none, or it ended, or its account needs a person."""
        with self._lock:
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

    def _note(self, session: Session, state: State) -> None:
        with self._lock:
            if self._session is None or self._session.number != session.number:
                return
            if self._state == state:
                return
            self._state, self._since = state, time.time()
        log.error("instagram login lost", state=state, username=session.username)


def _read_session_file(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            return _texts_of(file)
    except (OSError, ValueError, pickle.UnpicklingError, EOFError, LookupError) as error:
        raise SettingsError(f"INSTAGRAM_SESSION_FILE: {type(error).__name__}: {error}") from error


def _texts_of(file: IO[bytes]) -> dict[str, str]:
    data = _TextsUnpickler(file).load()
    if not isinstance(data, dict) or not all(
        isinstance(text, str) for pair in data.items() for text in pair
    ):
        raise ValueError("not a dictionary of texts")
    return data
