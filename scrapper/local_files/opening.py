"""Opens files from outside: those that settings name, and those in the media folder.

Anything may be at such a path. Opening a FIFO or a device may block for ever, so only regular files
are opened, and links to them, as Docker's and Kubernetes' secrets are.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_file", "read_file"]


def open_file(path: Path) -> BinaryIO:
    """The regular file at *path*, to be read.

    Raises:
        OSError: something else is there, or it cannot be opened; the error names it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def read_file(
    path: Path, most: int, *, check: Callable[[os.stat_result], None] = lambda _: None
) -> bytes:
    """The content of the regular file at *path*, of at most *most* bytes; a longer one is refused.

    *check* raises if the file's owner or mode is not acceptable.

    Raises:
        OSError: it is longer, or cannot be read, or is no regular file; the error names it.
    """
    with open_file(path) as file:
        check(os.fstat(file.fileno()))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"Larger than {most} bytes", str(path))
    return content
