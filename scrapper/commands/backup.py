"""``python -m scrapper backup``: archive the media folder while the service runs."""

import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scrapper.commands.output import EXIT_USAGE, print_folder
from scrapper.library.backup import back_up
from scrapper.library.disk import flush
from scrapper.library.root import MediaRoot
from scrapper.settings import load_settings

__all__ = ["backup"]

_STANDARD_OUTPUT = Path("-")


def backup(file: Path, *, with_posts: bool) -> int:
    """Write an archive of the media folder to *file*, or to standard output if *file* is ``-``.

    The file is readable only by its owner, and does not appear until it is complete. Return 0 on
    success, 1 if something cannot be read or written, or 2 if standard output is a terminal.

    Raises:
        SettingsError: a setting is invalid, or no service has used the folder yet.
    """
    root = MediaRoot(load_settings().media_root)
    print_folder(root, must_be_used=True)
    if file == _STANDARD_OUTPUT and sys.stdout.isatty():
        print(
            "An archive cannot be written to a terminal: name a file, or redirect the output",
            file=sys.stderr,
        )
        return EXIT_USAGE
    try:
        with _output(file) as stream:
            done = back_up(root, stream, with_posts=with_posts)
    except (OSError, sqlite3.Error) as error:
        print(f"No backup was made: {error}", file=sys.stderr)
        return 1
    print(f"Backed up: {done.posts} posts; {', '.join(sorted(done.state))}.", file=sys.stderr)
    if "login.json" in done.state:
        print(
            "The backup contains the Instagram login: anyone who can read it can use the account.",
            file=sys.stderr,
        )
    return 0


@contextmanager
def _output(file: Path) -> Iterator[IO[bytes]]:
    if file == _STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.lexists(file) and not file.is_file():
        raise FileExistsError(f"{file} is not a regular file")
    # mkstemp makes the file readable only by its owner.
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise OSError(f"{file.parent} is not writable: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
        flush(file.parent)
    finally:
        Path(name).unlink(missing_ok=True)
