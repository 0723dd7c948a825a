"""Opens files that a setting names, or that are in the media folder, without blocking.

The path may lead to anything, and opening a FIFO or a device may block forever. Therefore only
regular files are opened. Links to regular files are followed, because Docker and Kubernetes provide
secrets as links.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_file", "read_file"]

_CHUNK_BYTES = 16_384


def open_file(path: str | Path) -> BinaryIO:
    """Open the regular file at *path* for reading.

    Raises:
        OSError: the file cannot be opened, or is not a regular file; the error contains the path.
    """
    return os.fdopen(_open(path)[0], "rb")


def read_file(
    path: str | Path, max_bytes: int, *, check: Callable[[os.stat_result], None] = lambda _: None
) -> bytes:
    """Return the content of the regular file at *path*, which may have at most *max_bytes* bytes.

    *check* receives the file's status, and raises an exception if the owner or the mode of the file
    is not acceptable.

    Raises:
        OSError: the file is too large, cannot be read, or is not a regular file; the error contains
            the path.
    """
    descriptor, status = _open(path)
    try:
        check(status)
        content = bytearray()
        # A buffered file would be slower, and posts are read thousands of times a second.
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            content += chunk
            if len(content) > max_bytes:
                raise OSError(errno.EFBIG, f"Larger than {max_bytes} bytes", str(path))
        return bytes(content)
    finally:
        os.close(descriptor)


def _open(path: str | Path) -> tuple[int, os.stat_result]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    raise OSError(errno.EINVAL, "Not a regular file", str(path))
