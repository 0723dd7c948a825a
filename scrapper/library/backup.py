"""A backup of the media folder as one tar archive, written while the service runs.

Nothing waits for a backup: SQLite copies its own files, and all files of a post are opened before
the first is read, so a refresh or a sweep meanwhile does no harm.
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
# A cache, values of this machine alone, and leftovers of locks and transactions.
_LEFT_OUT = ("posts.sqlite3", "clock.json", "lock")
_REMAINS = ("-journal", "-wal", "-shm", ".new", ".damaged-")
_SECONDS_TO_WAIT = 30.0
_BYTES_AT_ONCE = 1_000_000


class BackedUp(NamedTuple):
    """How many posts an archive holds, and the names of the state files in it."""

    posts: int
    state: frozenset[str]


def back_up(root: MediaRoot, stream: IO[bytes], *, with_posts: bool) -> BackedUp:
    """Write an archive of the state in *root*, and of its posts, to *stream*.

    Raises:
        OSError: something cannot be read or written.
        sqlite3.Error: a database is damaged, or locked for long.
    """
    with tarfile.open(
        fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BYTES_AT_ONCE
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
        if name in _LEFT_OUT or name.startswith(".") or any(part in name for part in _REMAINS):
            continue
        # Nothing is opened that could block, such as a FIFO.
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
            closing(sqlite3.connect(address, uri=True, timeout=_SECONDS_TO_WAIT)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        with copy.open("rb") as file:
            _add(archive, name, path.stat(), file, os.fstat(file.fileno()).st_size)


def _add_post(archive: tarfile.TarFile, folder: Path) -> bool:
    """Add the post in *folder*; return whether it was there, and whole."""
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
            # Otherwise the post was replaced meanwhile, and its files may be incomplete.
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
    # A state file may be a link, as a secret of Docker's is. A link in a post could lead anywhere.
    link = 0 if folder is None else os.O_NOFOLLOW
    return os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK | link, dir_fd=folder), "rb")


def _add(
    archive: tarfile.TarFile,
    name: str,
    status: os.stat_result,
    file: BinaryIO | None = None,
    size: int = 0,
) -> None:
    """Add a file of *size* bytes, or a folder, with its owner, its mode and its exact time."""
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE if file is None else tarfile.REGTYPE
    entry.size, entry.mode = size, stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    # A post's time is its version: plugins must not take a restored post for another one.
    entry.mtime, entry.pax_headers = seconds, {"mtime": f"{seconds}.{nanoseconds:09}"}
    archive.addfile(entry, file)
