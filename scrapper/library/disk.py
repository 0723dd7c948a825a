"""The disk under the media root: how much room is left, and what its refusals mean."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scrapper.errors import DiskFull, DiskReadOnly

__all__ = ["check_room", "storing"]


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
