"""Reads the API keys, each with its name and rate limit."""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog
from aiohttp import web

from middlewares.api_key import digest, known_keys
from scrapper.errors import SettingsError
from scrapper.local_files.opening import read_file
from scrapper.local_files.watching import WatchedFile
from scrapper.settings import Settings

__all__ = ["ApiKeys", "Key"]

log = structlog.get_logger(__name__)

_UNNAMED = "default"
_MAX_BYTES = 1_000_000
_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<key>[!-9;-~]{1,256})(?::(?P<limit>[0-9]{1,9}))?"
)


class Key(NamedTuple):
    """An API key.

    ``limit`` is the number of requests that the key allows per window, or None if the limit per
    address applies. ``sees_all`` is true only for the key from ``API_KEY`` or ``API_KEY_FILE``.
    Clients with other keys see only their own jobs.
    """

    name: str
    key: str
    limit: int | None = None
    sees_all: bool = False

    @property
    def owner(self) -> str | None:
        """The owner of the jobs that clients with this key see, or None if they see all jobs."""
        return None if self.sees_all else self.name


class ApiKeys:
    """The keys of ``API_KEY``, ``API_KEY_FILE`` and ``API_KEYS_FILE``.

    Each line of ``API_KEYS_FILE`` is ``name:key`` or ``name:key:limit``, where the limit is in
    requests per window. Empty lines and lines that start with ``#`` are ignored.

    Raises:
        SettingsError: a file cannot be read, or a line has the wrong format.
    """

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.Lock()
        self._fixed = settings.key
        self._has_proxies = bool(settings.auth_proxies)
        self._path = path = settings.api_keys_file
        self._file = None if path is None else WatchedFile(path, _parse)
        self._keys: Sequence[Key] = ()
        self._secrets: tuple[str, ...] = ()
        self._known: Mapping[str, Key] = {}
        self._names: Mapping[str, str] = {}
        self._logged_cause = ""
        self._read()

    @property
    def needed(self) -> bool:
        """Whether requests need a key, a session or a sign-in by a proxy."""
        return bool(self._fixed) or self._file is not None or self._has_proxies

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys as strings, in a tuple that is replaced when the keys change."""
        return self._secrets

    def names(self) -> Mapping[str, str]:
        """Return a mapping from the digest of each key to its name."""
        return self._names

    def called(self, name: str) -> Iterator[Key]:
        return (known for known in self._known.values() if known.name == name)

    def carried_by(self, request: web.Request) -> Key | None:
        """Return the key in the headers of *request*, or None if they contain no valid key."""
        return next(known_keys(request, self._known), None)

    def reload_if_changed(self) -> None:
        """Reload the file if it changed. If it is unusable, keep the old keys. Blocking."""
        try:
            with self._lock:
                self._read()
        except SettingsError as error:
            # This runs every second, and repeated warnings would fill the log.
            if str(error) != self._logged_cause:
                log.warning("API keys unreadable: keeping the old ones", cause=str(error))
            self._logged_cause = str(error)

    def _read(self) -> None:
        try:
            keys = self._file.content() if self._file else []
        except OSError as error:
            raise SettingsError(f"API_KEYS_FILE: {self._path}: {error.strerror}") from error
        if self._fixed:
            keys = [*keys, Key(_UNNAMED, self._fixed, sees_all=True)]
        self._logged_cause = ""
        if keys == self._keys:
            # Keep the old tuple, because the scrubber compares tuples of secrets by identity.
            return
        self._keys = keys
        self._secrets = tuple(known.key for known in keys)
        self._known = {digest(known.key): known for known in keys}
        self._names = {hashed: known.name for hashed, known in self._known.items()}


def _parse(path: Path) -> list[Key]:
    try:
        lines = read_file(path, _MAX_BYTES).decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise SettingsError(f"API_KEYS_FILE: {path}: not ASCII") from None
    keys = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            # The line itself may be a secret.
            raise SettingsError(
                f"API_KEYS_FILE: {path}, line {number}: write name:key or name:key:limit"
            )
        limit = found["limit"]
        keys.append(Key(found["name"], found["key"], None if limit is None else int(limit)))
    if not keys:
        raise SettingsError(f"API_KEYS_FILE: {path} contains no keys")
    return keys
