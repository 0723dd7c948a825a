"""What plugins add to a stored post: further files, and the addresses of copies.

A file in the post's folder holds them. They are removed with the post, and by a refresh, which
brings other files.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from scrapper.library.disk import is_there, locked, write_atomically
from scrapper.library.post import MediaItem, Post, is_own_file
from scrapper.library.state_file import UNREADABLE
from scrapper.local_files.opening import read_file

__all__ = ["Additions", "add", "check_additions", "with_additions"]

log = structlog.get_logger(__name__)

_FILE = "added.json"
_MAX_BYTES = 1_000_000
_MOST_PLUGINS = 10
_TYPES = ("video", "image", "audio")


@dataclass(frozen=True, slots=True)
class Additions:
    """What one plugin adds to a post.

    ``media`` are files that are in the post's folder by now, and whose names begin with the
    shortcode. ``object_urls`` has the address of the copy of each file, by the file's name.
    ``small``, another such file, is a small picture of a post that has none.
    """

    media: tuple[MediaItem, ...] = ()
    object_urls: Mapping[str, str] = field(default_factory=dict)
    small: MediaItem | None = None

    @property
    def files(self) -> tuple[MediaItem, ...]:
        """All files that are added."""
        return self.media if self.small is None else (*self.media, self.small)


def add(folder: Path, name: str, additions: Additions, version: int) -> None:
    """Store the *additions* of the plugin *name* to the post in *folder*, replacing earlier ones.

    They are part of the post as long as it has this *version*.

    Raises:
        FileNotFoundError: the post is gone.
        OSError: the additions cannot be stored.
    """
    with _locked(folder):
        known = _read(folder)
        known[name] = {"version": version, **asdict(additions)}
        write_atomically(folder / _FILE, json.dumps(known).encode())


def check_additions(additions: Additions, post: Post) -> None:
    """Check that *additions* can become part of *post*.

    Raises:
        ValueError, TypeError: a value has another type, or a file another name.
    """
    text = json.dumps(asdict(additions))
    if len(text) > _MAX_BYTES // _MOST_PLUGINS:
        raise ValueError("too much to add")
    read = _parse(json.loads(text), post)
    for item in read.files:
        if type(item.size) is not int or item.size < 0 or item.type not in _TYPES:
            raise TypeError(f"not a media item: {item}")
    # Clients get the additions as JSON.
    orjson.dumps(read)


def with_additions(post: Post, folder: Path, version: int) -> Post:
    """*post* of this *version* with what was added to it; files that are not whole are left out."""
    known = _read(folder)
    small = post.small if post.small and _is_there(folder, post.small) else None
    if not known and small is post.small:
        return post
    media: dict[str, MediaItem] = {}
    object_urls: dict[str, str] = {}
    for data in known.values():
        try:
            if data["version"] != version:
                # These additions were made from earlier files of the post.
                continue
            additions = _parse(data, post)
            orjson.dumps(additions)
        except UNREADABLE as error:
            log.warning("additions unreadable", shortcode=post.shortcode, cause=repr(error))
            continue
        media |= {item.filename: item for item in additions.media if _is_there(folder, item)}
        object_urls |= additions.object_urls
        if additions.small is not None and _is_there(folder, additions.small):
            small = small or additions.small
    return replace(post, added=tuple(media.values()), object_urls=object_urls, small=small)


def _parse(data: Any, post: Post) -> Additions:
    media = tuple(MediaItem(**item) for item in data["media"])
    small = data.get("small")
    additions = Additions(media, data["object_urls"], MediaItem(**small) if small else None)
    if not all(is_own_file(item.filename, post.shortcode) for item in additions.files):
        raise ValueError("files of another post")
    if not all(isinstance(text, str) for pair in additions.object_urls.items() for text in pair):
        raise TypeError("object_urls are not texts")
    return additions


def _read(folder: Path) -> dict[str, Any]:
    try:
        known = json.loads(read_file(f"{folder}/{_FILE}", _MAX_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, *UNREADABLE) as error:
        log.warning("additions unreadable", shortcode=folder.name, cause=repr(error))
        return {}
    return known if isinstance(known, dict) else {}


def _is_there(folder: Path, item: MediaItem) -> bool:
    return is_there(folder / item.filename, item.size)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other plugins and processes from changing the file meanwhile."""
    with locked(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)):
        yield
