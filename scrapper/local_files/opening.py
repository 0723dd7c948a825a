"""Open files from outside: what a setting names, or what is found in the media folder.

Anything may be at such a path. Whoever opens a FIFO or a device may wait forever, so only regular
files are opened, and links to them, as Docker's and Kubernetes' secrets are.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_file", "read_file"]

_PIECE = 16_384


def open_file(path: str | Path) -> BinaryIO:
    """The regular file at *path*, to be read.

    Raises:
        OSError: something else is there, or it cannot be opened; the error names it.
    """
    return os.fdopen(_open(path)[0], "rb")


def read_file(
    path: str | Path, most: int, *, check: Callable[[os.stat_result], None] = lambda _: None
) -> bytes:
    """The content of the regular file at *path*, of at most *most* bytes; a longer one is refused.

    *check* gets the file's status, and raises if its owner or mode is not acceptable.

    Raises:
        OSError: the file is longer, cannot be read, or is not a regular file; the error names it.
    """
    descriptor, status = _open(path)
    try:
        check(status)
        content = bytearray()
        # Read without a buffered file: a stored post is read thousands of times a second.
        while piece := os.read(descriptor, _PIECE):
            content += piece
            if len(content) > most:
                raise OSError(errno.EFBIG, f"Larger than {most} bytes", str(path))
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
