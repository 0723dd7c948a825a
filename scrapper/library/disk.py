"""Helpers for the media folder's disk: free space, errors, locks and atomic changes."""

import errno
import fcntl
import glob
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scrapper.errors import DiskFull, DiskReadOnly

__all__ = [
    "check_room",
    "converting_disk_errors",
    "delete",
    "exchange",
    "flush",
    "free_bytes",
    "identity",
    "is_there",
    "is_whole",
    "locked",
    "open_lock",
    "set_aside",
    "try_lock",
    "write_atomically",
]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_MAX_SET_ASIDE = 4


def check_room(folder: Path, *, keep_free: int, extra_bytes: int = 0) -> None:
    """Check that writing *extra_bytes* to *folder* would leave at least *keep_free* bytes free.

    Raises:
        DiskFull: fewer bytes would be left.
        OSError: *folder* does not exist.
    """
    if shutil.disk_usage(folder).free - extra_bytes < keep_free:
        raise DiskFull


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes on the disk of *folder*; None if the folder does not exist."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def is_whole(path: str | Path, size: int) -> bool:
    """Return whether *path* is a regular file of *size* bytes.

    A symbolic link does not count, because it could lead anywhere.

    Raises:
        OSError: nothing exists at *path*.
    """
    status = os.lstat(path)
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def is_there(path: str | Path, size: int) -> bool:
    """Return the result of :func:`is_whole`, or False if it raises OSError."""
    try:
        return is_whole(path, size)
    except OSError:
        return False


@contextmanager
def converting_disk_errors() -> Iterator[None]:
    """Convert OSErrors caused by a full or read-only disk; other errors pass through.

    Raises:
        DiskFull: the disk is full, or the quota is used up.
        DiskReadOnly: the disk is read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull from error
        if error.errno == errno.EROFS:
            raise DiskReadOnly from error
        raise


def identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at *path*, following links; None on an error."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def set_aside(path: Path, suffixes: Iterable[str] = ()) -> Path:
    """Rename whatever is at *path*, and at *path* plus each of the *suffixes*.

    Return the new path, which is *path* plus ``.damaged-`` and the time. Only the latest five such
    files are kept. It is not an error if nothing exists at *path*.

    Raises:
        OSError: a file cannot be renamed.
    """
    known = sorted(path.parent.glob(f"{glob.escape(path.name)}.damaged-*"))
    for old in known[:-_MAX_SET_ASIDE]:
        # Never delete a folder, because the service did not create its contents.
        if not old.is_dir() or old.is_symlink():
            old.unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in (*suffixes, ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def open_lock(path: Path) -> int:
    """Open the file at *path* for locking; if it is not a regular file, set it aside first.

    Raises:
        OSError: the file cannot be opened.
    """
    if os.path.lexists(path) and not path.is_file():
        set_aside(path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)


@contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Lock an open file or folder while the block runs, then close it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock the file without waiting; return False if another process holds a conflicting lock."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at *path* with one that has *content* and is readable only by its owner.

    After a crash, the file has either the old content or the new. A folder at *path* is set aside.

    Raises:
        OSError: the file cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir() and not path.is_symlink():
            set_aside(path)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically with renameat2(2) (Linux 3.15); return False if that fails."""
    if sys.platform != "linux":
        return False
    # ctypes takes half a megabyte of memory, and only replacing a stored post needs it.
    import ctypes  # noqa: PLC0415

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    result: int = renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    return result == 0


def delete(path: Path) -> None:
    """Delete a file, a link, or a folder with everything in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
