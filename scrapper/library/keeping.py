"""Marks posts as kept, so that sweeps leave them alone.

The mark is a file in the post's folder, so no database is needed. To replace or remove a post, the
service renames its folder. A mark that is set at that moment must not be lost.
"""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["carry_over", "is_kept", "keep", "release"]

_MARK = "kept"


def keep(folder: Path) -> bool:
    """Mark the post in *folder* as kept; return False if there is no such folder.

    Raises:
        OSError: the post cannot be marked.
    """
    while True:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            # Anything with this name counts as a mark.
            with suppress(FileExistsError):
                os.close(os.open(_MARK, flags, 0o644, dir_fd=descriptor))
            os.fsync(descriptor)
            marked = os.fstat(descriptor)
        # The folder was removed in the meantime.
        except FileNotFoundError:
            continue
        finally:
            os.close(descriptor)
        with suppress(FileNotFoundError):
            there = folder.stat()
            if (there.st_dev, there.st_ino) == (marked.st_dev, marked.st_ino):
                return True


def release(folder: Path) -> None:
    """Remove the mark of the post in *folder*, if it has one.

    Raises:
        OSError: the mark cannot be removed.
    """
    (folder / _MARK).unlink(missing_ok=True)


def is_kept(folder: Path) -> bool:
    """Return whether the post in *folder* is marked as kept."""
    return os.path.lexists(f"{folder}/{_MARK}")


def carry_over(old: Path, new: Path) -> None:
    """Mark the post in *new* as kept if the post in *old* is.

    Raises:
        OSError: the post cannot be marked.
    """
    if is_kept(old):
        keep(new)
