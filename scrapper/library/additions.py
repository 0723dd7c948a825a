"""Stores what plugins add to a post: extra files, and the URLs of copies.

A file in the post's folder records the additions. They are removed with the post, and when a
refresh replaces the post's files.
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
_MAX_PLUGINS = 10
_TYPES = ("video", "image", "audio")


@dataclass(frozen=True, slots=True)
class Additions:
    """What one plugin adds to a post.

    ``media`` lists the added files. ``small`` is a small picture for a post that has none. All of
    these files must already be in the post's folder, and their names must begin with the shortcode.
    ``object_urls`` maps filenames to the URLs of copies.
    """

    media: tuple[MediaItem, ...] = ()
    object_urls: Mapping[str, str] = field(default_factory=dict)
    small: MediaItem | None = None

    @property
    def files(self) -> tuple[MediaItem, ...]:
        """All added files."""
        return self.media if self.small is None else (*self.media, self.small)


def add(folder: Path, name: str, additions: Additions, version: int) -> None:
    """Store what the plugin *name* adds to the post in *folder*.

    The new *additions* replace the plugin's earlier ones. They are valid only as long as the post's
    version is *version*.

    Raises:
        FileNotFoundError: the post is gone.
        OSError: the additions cannot be stored.
    """
    with _locked(folder):
        by_plugin = _read(folder)
        by_plugin[name] = {"version": version, **asdict(additions)}
        write_atomically(folder / _FILE, json.dumps(by_plugin).encode())


def check_additions(additions: Additions, post: Post) -> None:
    """Check that *additions* can become part of *post*.

    Raises:
        ValueError: the additions are too large, or a filename does not belong to the post.
        TypeError: a value has the wrong type.
    """
    text = json.dumps(asdict(additions))
    if len(text) > _MAX_BYTES // _MAX_PLUGINS:
        raise ValueError("additions too large")
    read = _parse(json.loads(text), post)
    for item in read.files:
        if type(item.size) is not int or item.size < 0 or item.type not in _TYPES:
            raise TypeError(f"not a media item: {item}")
    # Clients receive the additions as JSON, so orjson must be able to encode them.
    orjson.dumps(read)


def with_additions(post: Post, folder: Path, version: int) -> Post:
    """Return *post* with the additions of all plugins.

    Additions to versions other than *version* are left out, and so are missing or incomplete files.
    """
    by_plugin = _read(folder)
    small = post.small if post.small and _is_there(folder, post.small) else None
    if not by_plugin and small is post.small:
        return post
    media: dict[str, MediaItem] = {}
    object_urls: dict[str, str] = {}
    for data in by_plugin.values():
        try:
            if data["version"] != version:
                # These additions belong to an earlier version of the post.
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
        raise TypeError("object_urls must map strings to strings")
    return additions


def _read(folder: Path) -> dict[str, Any]:
    try:
        by_plugin = json.loads(read_file(f"{folder}/{_FILE}", _MAX_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, *UNREADABLE) as error:
        log.warning("additions unreadable", shortcode=folder.name, cause=repr(error))
        return {}
    return by_plugin if isinstance(by_plugin, dict) else {}


def _is_there(folder: Path, item: MediaItem) -> bool:
    return is_there(folder / item.filename, item.size)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Prevent other plugins and processes from changing the file while the block runs."""
    with locked(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)):
        yield
