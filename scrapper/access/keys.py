"""The API keys: one without a name or several with names, and the limit of each."""

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
    """An API key; ``limit`` is its requests per window, None if the limit of addresses applies.

    ``sees_all`` is true of ``API_KEY`` alone: with another key, a client sees only its own jobs.
    """

    name: str
    key: str
    limit: int | None = None
    sees_all: bool = False

    @property
    def owner(self) -> str | None:
        """The owner whose jobs the key sees; None if the key sees everybody's."""
        return None if self.sees_all else self.name


class ApiKeys:
    """The keys of ``API_KEY``, ``API_KEY_FILE`` and ``API_KEYS_FILE``.

    A line of ``API_KEYS_FILE`` is ``name:key`` or ``name:key:requests per window``. Empty lines,
    and those that begin with ``#``, are ignored.

    Raises:
        SettingsError: a file cannot be read, or a line has another form.
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
        self._complaint = ""
        self._read()

    @property
    def needed(self) -> bool:
        """Whether requests need a key at all, or a proxy that signs their sender in."""
        return bool(self._fixed) or self._file is not None or self._has_proxies

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys themselves; a new tuple after each change."""
        return self._secrets

    def names(self) -> Mapping[str, str]:
        """The name of each key, by its digest."""
        return self._names

    def called(self, name: str) -> Iterator[Key]:
        """The keys called *name*."""
        return (known for known in self._known.values() if known.name == name)

    def carried_by(self, request: web.Request) -> Key | None:
        """The key in the headers of *request*; None if there is none, or a wrong one."""
        return next(known_keys(request, self._known), None)

    def look(self) -> None:
        """Read the file if it changed; if it is damaged, the old keys stay."""
        try:
            with self._lock:
                self._read()
        except SettingsError as error:
            # The same complaint once a second would fill the log.
            if str(error) != self._complaint:
                log.warning("API keys unreadable: the old ones stay", cause=str(error))
            self._complaint = str(error)

    def _read(self) -> None:
        try:
            keys = self._file.content() if self._file else []
        except OSError as error:
            raise SettingsError(f"API_KEYS_FILE: {self._path}: {error.strerror}") from error
        if self._fixed:
            keys = [*keys, Key(_UNNAMED, self._fixed, sees_all=True)]
        self._complaint = ""
        if keys == self._keys:
            # Keep the tuple: the scrubber compares tuples of secrets by identity.
            return
        self._keys = keys
        self._secrets = tuple(known.key for known in keys)
        self._known = {digest(known.key): known for known in keys}
        self._names = {known_by: known.name for known_by, known in self._known.items()}


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
        raise SettingsError(f"API_KEYS_FILE: {path} has no key in it")
    return keys
