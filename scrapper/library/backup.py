"""Backs up the media folder as one tar archive while the service runs.

The backup does not block the service. Databases are copied with SQLite's own backup function. All
files of a post are opened before the first one is read, so a refresh or sweep during the backup
cannot leave an incomplete post in the archive.
"""

import os
import sqlite3
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple
from urllib.parse import quote

from scrapper.library.listing import folders, is_stored
from scrapper.library.root import MediaRoot

__all__ = ["BackedUp", "back_up"]

_LEGACY = "legacy"
_DATABASE = ".sqlite3"
# The catalogue is only a cache, and the other two files are useless on another machine.
_EXCLUDED = ("posts.sqlite3", "clock.json", "lock")
_EXCLUDED_PARTS = ("-journal", "-wal", "-shm", ".new", ".damaged-")
_LOCK_TIMEOUT_SECONDS = 30.0
_BUFFER_BYTES = 1_000_000


class BackedUp(NamedTuple):
    """The number of posts in an archive, and the names of the state files in it."""

    posts: int
    state: frozenset[str]


def back_up(root: MediaRoot, stream: IO[bytes], *, with_posts: bool) -> BackedUp:
    """Write a tar archive of the media folder *root* to *stream*.

    The archive contains the state files and, if *with_posts* is true, the posts.

    Raises:
        OSError: a file cannot be read, or *stream* cannot be written.
        sqlite3.Error: a database is damaged, or stays locked for 30 seconds.
    """
    with tarfile.open(
        fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BUFFER_BYTES
    ) as archive:
        state = frozenset(_add_state(archive, root))
        posts = sum(
            _add_post(archive, root.path / shortcode)
            for shortcode, _ in (folders(root.path) if with_posts else ())
            if is_stored(root.path / shortcode)
        )
    return BackedUp(posts, state)


def _add_state(archive: tarfile.TarFile, root: MediaRoot) -> Iterator[str]:
    state = root.state
    _add(archive, state.name, state.stat())
    for path in sorted(state.iterdir()):
        name = path.name
        if name in _EXCLUDED or name.startswith("."):
            continue
        if any(part in name for part in _EXCLUDED_PARTS):
            continue
        # Opening anything but a regular file, such as a FIFO, could block.
        if name == _LEGACY and path.is_dir():
            _add(archive, f"{state.name}/{name}", path.stat())
            for mark in path.iterdir():
                with suppress(FileNotFoundError):
                    _add_file(archive, f"{state.name}/{name}/{mark.name}", mark)
        elif path.is_file():
            if name.endswith(_DATABASE):
                _add_database(archive, f"{state.name}/{name}", path, root.path / ".incoming")
            else:
                _add_file(archive, f"{state.name}/{name}", path)
            yield name


def _add_database(archive: tarfile.TarFile, name: str, path: Path, spare: Path) -> None:
    address = f"file:{quote(str(path))}?mode=rw"
    with tempfile.TemporaryDirectory(dir=spare, prefix="backup.") as folder:
        copy = Path(folder) / path.name
        with (
            closing(sqlite3.connect(address, uri=True, timeout=_LOCK_TIMEOUT_SECONDS)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        with copy.open("rb") as file:
            _add(archive, name, path.stat(), file, os.fstat(file.fileno()).st_size)


def _add_post(archive: tarfile.TarFile, folder: Path) -> bool:
    """Add the post in *folder* to the archive; return False if the post is gone."""
    while True:
        with ExitStack() as opened:
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                return False
            opened.callback(os.close, descriptor)
            there, files = os.fstat(descriptor), []
            for name in sorted(os.listdir(descriptor)):
                with suppress(OSError):
                    files.append((name, opened.enter_context(_open(name, descriptor))))
            try:
                now = folder.lstat()
            except FileNotFoundError:
                return False
            # If the post was replaced in the meantime, some files may be missing, so try again.
            if (now.st_dev, now.st_ino) == (there.st_dev, there.st_ino):
                _add(archive, folder.name, there)
                for name, file in files:
                    status = os.fstat(file.fileno())
                    if stat.S_ISREG(status.st_mode):
                        _add(archive, f"{folder.name}/{name}", status, file, status.st_size)
                return True


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> None:
    with _open(str(path)) as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            _add(archive, name, status, file, status.st_size)


def _open(name: str, folder: int | None = None) -> BinaryIO:
    # Follow links only for state files, which may be links to Docker secrets. A link in a post
    # could lead anywhere.
    no_follow = 0 if folder is None else os.O_NOFOLLOW
    return os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK | no_follow, dir_fd=folder), "rb")


def _add(
    archive: tarfile.TarFile,
    name: str,
    status: os.stat_result,
    file: BinaryIO | None = None,
    size: int = 0,
) -> None:
    """Add a folder, or a file of *size* bytes, with its owner, mode and exact modification time."""
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE if file is None else tarfile.REGTYPE
    entry.size, entry.mode = size, stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    # A manifest's modification time is the post's version. Without the exact time, plugins would
    # treat a restored post as new.
    entry.mtime, entry.pax_headers = seconds, {"mtime": f"{seconds}.{nanoseconds:09}"}
    archive.addfile(entry, file)
