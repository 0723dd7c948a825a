"""The disk under the media folder: free space, its errors, and atomic changes."""

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
    "storing",
    "try_lock",
    "write_atomically",
]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_MOST_ASIDE = 4


def check_room(folder: Path, *, keep_free: int, coming: int = 0) -> None:
    """Check that *keep_free* bytes stay free when *coming* more bytes are in *folder*.

    Raises:
        DiskFull: fewer bytes would stay free.
        OSError: *folder* is not there.
    """
    if shutil.disk_usage(folder).free - coming < keep_free:
        raise DiskFull


def free_bytes(folder: Path) -> int | None:
    """Free bytes on the disk of *folder*; None if it is not there."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def is_whole(path: str | Path, size: int) -> bool:
    """Whether *path* is a file of *size* bytes, and not a link, which could lead anywhere.

    Raises:
        OSError: nothing is there.
    """
    status = os.lstat(path)
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def is_there(path: str | Path, size: int) -> bool:
    """Like :func:`is_whole`, but False instead of an OSError."""
    try:
        return is_whole(path, size)
    except OSError:
        return False


@contextmanager
def storing() -> Iterator[None]:
    """Distinguish a disk that is full or read-only from a fault of ours.

    Raises:
        DiskFull: the disk, or our quota, has no room.
        DiskReadOnly: the disk takes no writes.
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
    """The device and inode of the file at *path*, or of the file that a link leads to."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def set_aside(path: Path, suffixes: Iterable[str] = ()) -> Path:
    """Rename what is at *path*, if anything, and the files with its name plus one of *suffixes*.

    Return the new path: the name with ``.damaged-`` and the time. Only the latest of the files that
    were set aside stay.

    Raises:
        OSError: the file cannot be renamed.
    """
    known = sorted(path.parent.glob(f"{glob.escape(path.name)}.damaged-*"))
    for old in known[:-_MOST_ASIDE]:
        # A folder's contents are not ours to remove.
        if not old.is_dir() or old.is_symlink():
            old.unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in (*suffixes, ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def open_lock(path: Path) -> int:
    """A descriptor of the file at *path*, to lock it; anything but a regular file is set aside.

    Raises:
        OSError: the file cannot be opened.
    """
    if os.path.lexists(path) and not path.is_file():
        set_aside(path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)


@contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold the lock of an open file or folder while the block runs, then close it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock the file, unless another process has a lock that forbids it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Put a file of *content*, readable only by its owner, at *path*.

    After a crash at any instant the old content is there, or the new one. A folder in its place is
    set aside.

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
    """Write a file, or the entries of a folder, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically: renameat2(2), Linux 3.15; return False where that fails."""
    if sys.platform != "linux":
        return False
    # ctypes takes half a megabyte, and is needed only to replace a stored post.
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
    """Remove a file, a link, or a folder with everything in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
