"""Creates and locks the media folder, and detects its replacement."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import structlog

from scrapper.errors import MediaFolderGone, ScrapeError, SettingsError
from scrapper.library.disk import identity, open_lock, try_lock
from scrapper.telemetry.log_throttle import LogThrottle

__all__ = ["MediaRoot"]

log = structlog.get_logger(__name__)

_LOCK = "lock"


class MediaRoot:
    """The media folder at *path*, opened before everything else and closed last.

    If *shared* is true, other processes that also share the folder can use it at the same time.
    ``was_unused`` is true if no other process was using the folder when it was opened. All methods
    block.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self.state = path / ".state"
        self._shared = shared
        self._identity: tuple[int, int] | None = None
        self._lock: int | None = None
        self._not_locked = LogThrottle()
        self.was_unused = False

    def open(self) -> None:
        """Create the folder if it is missing, and lock it.

        Raises:
            SettingsError: another process is using the folder, or the folder cannot be created or
                locked.
        """
        self.create()
        try:
            self._identity = identity(self.path)
            while not self._take_lock():
                # Another process has just removed the lock file; see close_and_clean_up().
                self.close()
        except OSError as error:
            raise SettingsError(
                f"MEDIA_ROOT: {self.path} cannot be locked: {error.strerror}"
            ) from error

    def create(self) -> None:
        """Create the folder if it is missing.

        Raises:
            SettingsError: the folder cannot be created.
        """
        try:
            self.state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"MEDIA_ROOT: {self.path} cannot be created or written ({error.strerror}): choose "
                "a folder on a writable disk"
            ) from error

    def _take_lock(self) -> bool:
        path = self.state / _LOCK
        self._lock = open_lock(path)
        self.was_unused = try_lock(self._lock, fcntl.LOCK_EX)
        ours = try_lock(self._lock, fcntl.LOCK_SH) if self._shared else self.was_unused
        if not ours:
            self.close()
            raise SettingsError(
                f"MEDIA_ROOT: another process is using {self.path}. Give each its own folder, or "
                "set REDIS_URL so that they can share one."
            )
        return _is_at(path, self._lock)

    def ensure_locked(self) -> None:
        """Lock the folder again if its lock file was removed."""
        lock = self._lock
        try:
            if lock is None or _is_at(self.state / _LOCK, lock):
                return
            self.check()
            self._take_lock()
        # Another process locked the folder first, or the lock file cannot be created.
        except (ScrapeError, SettingsError, OSError) as error:
            self._lock = lock
            if self._not_locked.is_due(str(error)):
                log.error("media folder not locked", cause=str(error))  # noqa: TRY400
        else:
            os.close(lock)
            self._not_locked.reset()
            log.warning("media folder locked again: its lock was removed")

    @property
    def used(self) -> bool:
        """Whether a service is using the folder, or has used it before."""
        return (self.state / _LOCK).exists() or (self.path / ".incoming").exists()

    def check(self) -> None:
        """Check that the folder is still the one that was opened.

        When a disk is unplugged, an empty folder on another disk may appear at the same path.

        Raises:
            MediaFolderGone: the folder is gone, or was replaced.
        """
        if self._identity is not None and identity(self.path) != self._identity:
            raise MediaFolderGone

    def close_and_clean_up(self) -> None:
        """Close the folder; if no other process uses it, remove its lock file and state folder.

        The state folder is removed only if it is empty.
        """
        if self._lock is not None and try_lock(self._lock, fcntl.LOCK_EX):
            (self.state / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                self.state.rmdir()
        self.close()

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _is_at(path: Path, descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return identity(path) == (status.st_dev, status.st_ino)
