"""The disk under the media root: how much room is left, and what its refusals mean."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scrapper.errors import DiskFull, DiskReadOnly

__all__ = ["check_room", "storing", "write_atomically"]


def check_room(folder: Path, *, keep_free: int, coming: int = 0) -> None:
    """See that *keep_free* bytes stay free when *coming* bytes more are in *folder*.

    Raises:
        DiskFull: they would not.
        OSError: *folder* is not there.
    """
    if shutil.disk_usage(folder).free - coming < keep_free:
        raise DiskFull


@contextmanager
def storing() -> Iterator[None]:
    """Tell a disk that is full or read-only from what is a fault of ours.

    Raises:
        DiskFull: the disk, or our quota, has no room.
        DiskReadOnly: it takes no writes.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull from error
        if error.errno == errno.EROFS:
            raise DiskReadOnly from error
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Put a file of *content*, readable by its owner alone, in the place of *path*.

    After a crash at any instant the old content is there, or the new one. The folder is made
    if it is missing.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
