"""Reads a command's links from its arguments, files, and standard input."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scrapper.errors import InvalidURL, UnsupportedLink
from scrapper.links import clean_link, read_link

__all__ = ["InvalidLinks", "read_links"]

_MAX_BYTES = 50_000_000
_STANDARD_INPUT = "-"


class InvalidLinks(Exception):
    """Some links do not lead to a post, or a file cannot be read.

    The message has one line per problem.
    """


def read_links(arguments: Sequence[str], files: Sequence[str], *, max_url_length: int) -> list[str]:
    """Return the URLs in *arguments* and *files*, in order; ``-`` is standard input.

    A file has one link per line, with any line endings. Empty lines are ignored. A ``#`` at the
    start of a line or after a space begins a comment.

    Raises:
        InvalidLinks: some links do not lead to a post, or a file cannot be read.
    """
    urls, invalid = [], []
    for where, text in _texts(arguments, files):
        url = clean_link(text)
        try:
            read_link(url, max_length=max_url_length)
            urls.append(url)
        except (InvalidURL, UnsupportedLink):
            invalid.append(f"{where}Not the URL of an Instagram post: {url[:max_url_length]}")
    if invalid:
        raise InvalidLinks("\n".join(invalid))
    return urls


def _texts(arguments: Sequence[str], files: Sequence[str]) -> Iterator[tuple[str, str]]:
    for argument in arguments:
        if argument == _STANDARD_INPUT:
            yield from _lines(argument)
        else:
            yield "", argument
    for file in files:
        yield from _lines(file)


def _lines(file: str) -> Iterator[tuple[str, str]]:
    name = "standard input" if file == _STANDARD_INPUT else file
    for number, line in enumerate(_read(file, name).splitlines(), start=1):
        words = f" {line}".partition(" #")[0].split()
        if words:
            yield f"{name}, line {number}: ", " ".join(words)


def _read(file: str, name: str) -> str:
    try:
        if file == _STANDARD_INPUT:
            content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidLinks(f"{name}: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise InvalidLinks(f"{name}: larger than {_MAX_BYTES // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidLinks(f"{name}: not a text file") from None
