"""The API keys: one without a name, several with names, and who has which limit."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web

from middlewares.api_key import digest, given_keys
from scrapper.errors import SettingsError
from scrapper.settings import Settings

__all__ = ["ApiKeys"]

log = structlog.get_logger(__name__)

_UNNAMED = "default"
_MAX_BYTES = 1_000_000
_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<key>[!-9;-~]{1,256})(?::(?P<limit>[0-9]{1,9}))?"
)


@dataclass(frozen=True, slots=True)
class _Key:
    name: str
    limit: int | None = None


class ApiKeys:
    """The keys of ``API_KEY``, ``API_KEY_FILE`` and ``API_KEYS_FILE``.

    A line of the latter is ``name:key`` or ``name:key:requests per window``. Empty lines, and those
    that begin with ``#``, count for nothing.

    Raises:
        SettingsError: the file cannot be read, or a line of it is something else.
    """

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.Lock()
        self._fixed = settings.key
        self._path = settings.api_keys_file
        self._stamp: tuple[int, ...] = ()
        self._keys: Mapping[str, _Key] = {}
        self._secrets: tuple[str, ...] = ()
        self._complaint = ""
        self._read()

    @property
    def needed(self) -> bool:
        """Whether requests need a key at all."""
        return bool(self._fixed) or self._path is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys themselves; another tuple once they changed."""
        return self._secrets

    def names(self) -> Mapping[str, str]:
        """The name of each key, by its digest."""
        return self._names

    def called(self, name: str) -> tuple[str, ...]:
        """The keys called *name*."""
        return tuple(key for key in self._secrets if self._names.get(digest(key)) == name)

    def own_limit(self, request: web.Request) -> tuple[str, int] | None:
        """The name of the request's key and its limit, if that key has one of its own."""
        if self._path is None:
            return None
        for key in map(digest, given_keys(request)):
            known = self._keys.get(key)
            if known is not None and known.limit is not None:
                return f"key {known.name}", known.limit
        return None

    def look(self) -> None:
        """Read the file if it changed; one that is damaged leaves things as they are."""
        try:
            with self._lock:
                self._read()
        except SettingsError as error:
            # The same complaint once a second would fill the log.
            if str(error) != self._complaint:
                log.warning("API keys unreadable: the old ones stay", cause=str(error))
            self._complaint = str(error)

    def _read(self) -> None:
        keys: dict[str, _Key] = {}
        if self._path is not None:
            stamp = _stamp_of(self._path)
            if stamp == self._stamp:
                return
            keys, secrets = _parse(self._path)
            self._stamp = stamp
        else:
            secrets = []
        if self._fixed:
            keys[digest(self._fixed)] = _Key(_UNNAMED)
            secrets.append(self._fixed)
        self._keys, self._secrets = keys, tuple(secrets)
        self._names = {hashed: key.name for hashed, key in keys.items()}
        self._complaint = ""


def _stamp_of(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        raise SettingsError(f"API_KEYS_FILE: {path}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def _parse(path: Path) -> tuple[dict[str, _Key], list[str]]:
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_BYTES).decode("ascii").splitlines()
    except OSError as error:
        raise SettingsError(f"API_KEYS_FILE: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"API_KEYS_FILE: {path}: not ASCII") from None
    keys: dict[str, _Key] = {}
    secrets: list[str] = []
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
        keys[digest(found["key"])] = _Key(found["name"], None if limit is None else int(limit))
        secrets.append(found["key"])
    if not keys:
        raise SettingsError(f"API_KEYS_FILE: {path} has no key in it")
    return keys, secrets
