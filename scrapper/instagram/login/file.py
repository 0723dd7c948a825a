"""Stores the current login in a file, for restarts and for other processes."""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import structlog

from scrapper.errors import ScrapeError
from scrapper.instagram.login.cookie_texts import valid_cookies
from scrapper.instagram.login.cookies import SessionFileError, read_private
from scrapper.library.disk import locked, open_lock, write_atomically
from scrapper.library.state_file import UNREADABLE
from scrapper.local_files.watching import WatchedFile

__all__ = ["LoginFile", "LoginRecord", "State"]

log = structlog.get_logger(__name__)

State = Literal["none", "active", "expired", "challenged"]


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """A login and its state.

    ``id`` is unique to the login. ``since`` is the unix time at which the state began. ``imported``
    is the digest of the cookies file or session file named in the settings, as of the last time
    that the file was read. It shows whether the file has changed since then.
    """

    id: str = ""
    cookies: Mapping[str, str] = field(default_factory=dict)
    username: str = ""
    state: State = "none"
    since: float | None = None
    imported: str = ""


class LoginFile:
    """Stores the login's record in a file at *path*, or in memory if *path* is None.

    Only the file's owner can read it. At startup, a damaged file counts as no login. Later, a
    missing or damaged file is rewritten. *check* is called before each write, and raises an
    exception if the folder is missing or was replaced.
    """

    def __init__(self, path: Path | None, *, check: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._check = check
        self._file = WatchedFile(path, _read) if path else None
        self._loaded = self._record = LoginRecord()

    def load(self) -> LoginRecord:
        """Return the record, including changes by other processes."""
        if self._path is None or self._file is None:
            return self._record
        loaded = None
        with suppress(OSError):
            loaded = self._file.content()
        if loaded is None and self._record != LoginRecord():
            with suppress(OSError, ScrapeError):
                self._check()
                self._write(self._path, self._record)
                log.warning("stored login lost: written again")
        # A record that could not be stored stays in use until another process stores one.
        elif loaded is not None and loaded != self._loaded:
            self._loaded = self._record = loaded
        return self._record

    def update(
        self, change: Callable[[LoginRecord], LoginRecord], *, in_memory: bool = True
    ) -> LoginRecord:
        """Replace the record with the result of *change*, and return it.

        Raises:
            ScrapeError, OSError: the file cannot be written. If *in_memory* is true, the record in
                memory has changed anyway.
        """
        if self._path is None:
            self._record = change(self._record)
            return self._record
        try:
            self._check()
            with locked(open_lock(self._path.with_suffix(".lock"))):
                known = self.load()
                changed = change(known)
                if changed != known:
                    self._write(self._path, changed)
                self._record = changed
        except (OSError, ScrapeError):
            if in_memory:
                self._record = change(self._record)
            raise
        return self._record

    def _write(self, path: Path, record: LoginRecord) -> None:
        write_atomically(path, json.dumps(asdict(record)).encode())
        self._loaded = record


def _read(path: Path) -> LoginRecord | None:
    try:
        return _record(json.loads(read_private(path)))
    except (SessionFileError, *UNREADABLE) as error:
        # A JSON parser's error message may quote the file.
        cause = str(error) if isinstance(error, SessionFileError) else type(error).__name__
        log.warning("stored login unreadable", cause=cause)
        return None


def _record(data: Any) -> LoginRecord:
    since = data["since"]
    if since is not None and not math.isfinite(since := float(since)):
        raise ValueError("since is out of range")
    texts = [data[name] for name in ("id", "username", "imported")]
    cookies, state = valid_cookies(dict(data["cookies"])), data["state"]
    if state not in get_args(State) or not all(isinstance(text, str) for text in texts):
        raise ValueError("not a login")
    if state != "none" and not cookies.get("sessionid"):
        raise ValueError("a login without a session")
    return LoginRecord(texts[0], cookies, texts[1], state, since, texts[2])
