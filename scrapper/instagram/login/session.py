"""Loads the session of an Instagram account, and tracks whether the session is alive."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import structlog

from scrapper.errors import ScrapeError, SettingsError
from scrapper.instagram.login.cookie_texts import SECRET_COOKIES, valid_cookies
from scrapper.instagram.login.cookies import (
    SessionFileError,
    read_cookies_file,
    read_private,
    read_session_file,
)
from scrapper.instagram.login.file import LoginFile, LoginRecord, State
from scrapper.library.disk import converting_disk_errors
from scrapper.local_files.watching import WatchedFile

__all__ = ["Login", "LoginState", "Session"]

log = structlog.get_logger(__name__)

_MAX_SECRETS = 50
_SECONDS_BETWEEN_RELOADS = 1.0
_SECONDS_BETWEEN_CHECKS = 60 * 60


@dataclass(frozen=True, slots=True)
class LoginState:
    """The public state of the login; ``since`` is the unix time at which the state began."""

    state: State
    username: str | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Session:
    """The cookies of one login; ``id`` identifies the login."""

    id: str
    cookies: Mapping[str, str]
    username: str


class Login:
    """The session for posts that need one; thread-safe.

    *stored* holds the login in use, which other processes may change at any time. :meth:`use`
    replaces the login, and so does any change to *cookies_file* (a browser's cookies.txt) or
    *session_file* (Instaloader's format). If that file becomes damaged, it is ignored. A session
    that Instagram has ended, or whose account must be confirmed in a browser, is not used again.

    Raises:
        SettingsError: the configured file is unreadable, contains no session, or can be modified by
            other users.
    """

    def __init__(
        self,
        *,
        stored: LoginFile | None = None,
        cookies_file: Path | None = None,
        session_file: Path | None = None,
        username: str = "",
    ) -> None:
        self._lock = threading.Lock()
        self._stored = stored or LoginFile(None)
        self._path = cookies_file or session_file
        self._read: Callable[[Path], dict[str, str]] = (
            read_cookies_file if cookies_file else read_session_file
        )
        self._username = username
        self._record = LoginRecord()
        self._secrets: tuple[str, ...] = ()
        self._check_at = 0.0
        self._reload_at = 0.0
        self._last_error = ""
        self._watched = WatchedFile(self._path, _digest) if self._path else None
        try:
            self._reload()
        except SessionFileError as error:
            name = "INSTAGRAM_COOKIES_FILE" if cookies_file else "INSTAGRAM_SESSION_FILE"
            raise SettingsError(f"{name}: {error}") from error

    @property
    def secrets(self) -> tuple[str, ...]:
        """The current and past values of the secret cookies; a new tuple after each change."""
        return self._secrets

    @property
    def state(self) -> LoginState:
        """The public state of the login, as of the last reload."""
        record = self._record
        return LoginState(record.state, record.username or None, record.since)

    def session(self) -> Session | None:
        """Return the session, or None if it is missing, has ended, or needs its account confirmed.

        The file named in the settings is checked at most once a second. The stored login is loaded
        every time, so that no process uses an account after another process has found that it must
        be confirmed.
        """
        with self._lock:
            if time.monotonic() >= self._reload_at:
                self._try_reload()
            else:
                self._adopt(self._stored.load())
            record = self._record
        if record.state != "active":
            return None
        return Session(record.id, record.cookies, record.username)

    def use(self, cookies: Mapping[str, str], username: str) -> LoginState:
        """Use *cookies* as the session from now on, and return the new state.

        Raises:
            ScrapeError: the disk is full or read-only.
            OSError: the login cannot be stored.
        """
        return self._replace(cookies=dict(cookies), username=username or self._username)

    def forget(self) -> LoginState:
        """Log out until the file named in the settings changes, and return the new state.

        Raises:
            ScrapeError: the disk is full or read-only.
            OSError: the change cannot be stored.
        """
        return self._replace(cookies={}, username="")

    def record_ended(self, session: Session) -> None:
        """Record that Instagram has ended *session*."""
        self._note(session, "expired")

    def record_challenged(self, session: Session) -> None:
        """Record that the account of *session* must be confirmed in a browser."""
        self._note(session, "challenged")

    def record_cookies(self, session: Session, cookies: Mapping[str, str]) -> None:
        """Store the *cookies* that Instagram rotated."""
        valid = valid_cookies(cookies)
        if valid.get("sessionid") and valid != session.cookies:
            self._change(session, lambda record: replace(record, cookies=valid))

    def check_is_due(self) -> bool:
        """Return True once an hour, when it is time to check that the session is alive."""
        with self._lock:
            now = time.monotonic()
            if now < self._check_at:
                return False
            self._check_at = now + _SECONDS_BETWEEN_CHECKS
            return True

    def _try_reload(self) -> None:
        try:
            self._reload()
        except SessionFileError as error:
            # Logging the same error once a second would fill the log.
            if str(error) != self._last_error:
                log.warning("instagram login unreadable", cause=str(error))
            self._last_error = str(error)
        else:
            self._last_error = ""

    def _reload(self) -> None:
        """Load the stored login, and the file named in the settings if it has changed."""
        self._reload_at = time.monotonic() + _SECONDS_BETWEEN_RELOADS
        self._adopt(self._stored.load())
        digest = self._file_digest()
        if self._path and digest != self._record.imported:
            cookies = self._read(self._path)
            self._store(lambda _: _record_of(cookies, self._username, digest))

    def _file_digest(self) -> str:
        """Return the digest of the file named in the settings, or "" if no file is named.

        The modification time cannot be used instead, because it differs between containers that
        mount the same secret.
        """
        try:
            return self._watched.content() if self._watched else ""
        except OSError as error:
            raise SessionFileError(f"{self._path}: {error.strerror}") from error

    def _replace(self, *, cookies: dict[str, str], username: str) -> LoginState:
        with self._lock:
            try:
                digest = self._file_digest()
            except SessionFileError:
                digest = self._record.imported
            with converting_disk_errors():
                record = _record_of(cookies, username, digest)
                self._adopt(self._stored.update(lambda _: record, in_memory=False))
            self._check_at = 0.0
            return self.state

    def _note(self, session: Session, state: State) -> None:
        def change(record: LoginRecord) -> LoginRecord:
            return record if record.state == state else replace(record, state=state, since=_now())

        if self._change(session, change):
            log.error("instagram login lost", state=state, username=session.username)

    def _change(self, session: Session, change: Callable[[LoginRecord], LoginRecord]) -> bool:
        """Apply *change* if the record belongs to *session*; return whether the record changed."""
        with self._lock:
            before = self._record
            self._store(lambda record: change(record) if record.id == session.id else record)
            return before.id == session.id == self._record.id and before != self._record

    def _store(self, change: Callable[[LoginRecord], LoginRecord]) -> None:
        try:
            record = self._stored.update(change)
        except (OSError, ScrapeError) as error:
            # The change applies in memory only. A restart restores the last stored state.
            log.warning("instagram login not stored", cause=repr(error))
            record = self._stored.load()
        self._adopt(record)

    def _adopt(self, record: LoginRecord) -> None:
        self._record = record
        values = [record.cookies[name] for name in SECRET_COOKIES if record.cookies.get(name)]
        new = [value for value in values if value not in self._secrets]
        if new:
            self._secrets = (*self._secrets, *new)[-_MAX_SECRETS:]


def _record_of(cookies: Mapping[str, str], username: str, digest: str) -> LoginRecord:
    state: State = "active" if cookies else "none"
    return LoginRecord(secrets.token_hex(8), cookies, username, state, _now(), digest)


def _digest(path: Path) -> str:
    return sha256(read_private(path)).hexdigest()


def _now() -> float:
    return time.time()
