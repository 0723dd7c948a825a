"""Post folders of release 0.2.0, which have no manifest.

That release let Instaloader write ``SHORTCODE/SHORTCODE.mp4`` or ``.jpg``, and for a carousel
``SHORTCODE_1.jpg`` and so on. Beside them are the caption (``SHORTCODE.txt``) and Instagram's
metadata (``SHORTCODE.json.xz``). Such a folder counts as a stale post: it appears in lists and
searches, its files are served, and it is downloaded again when a client requests it.

The files' modification time is when Instagram published the post, not when the post was stored. A
post's age therefore counts from the first sweep that saw it. The time of that sweep is the
modification time of an empty file under ``.state/legacy``.
"""

import json
import os
import re
import stat
import time
from collections.abc import Set
from pathlib import Path
from typing import Any, Literal

import structlog

from scrapper.library.post import Details, MediaItem, Post, moment
from scrapper.library.state_file import UNREADABLE

__all__ = ["first_seen", "legacy_post", "legacy_time", "record_seen"]

log = structlog.get_logger(__name__)

_MANIFEST = "post.json"
_SEEN = ".state/legacy"
_KINDS: dict[str, Literal["video", "image"]] = {
    ".mp4": "video",
    ".jpg": "image",
    ".jpeg": "image",
    ".png": "image",
    ".webp": "image",
}
_MAX_BYTES = 4_000_000
# Decompressing Instaloader's own files takes 9 MB of memory.
_DECOMPRESSION_BYTES = 32_000_000


def legacy_post(folder: Path) -> Post | None:
    """Return the post in *folder*; None if it contains no post of release 0.2.0.

    Symbolic links are not followed. A missing or unreadable caption or metadata file is ignored.
    """
    try:
        media = tuple(_item(path) for path in _files(folder))
    except OSError:
        return None
    # Instaloader writes a video's cover beside it, under the same name.
    videos = {Path(item.filename).stem for item in media if item.type == "video"}
    covers = [item for item in media if item.type != "video" and Path(item.filename).stem in videos]
    media = tuple(item for item in media if item not in covers)
    if not media:
        return None
    name = folder.name
    node = _node(folder / f"{name}.json.xz")
    owner = _part(node, "owner") or _part(node, "user")
    taken_at = node.get("taken_at_timestamp", node.get("date", node.get("taken_at")))
    return Post(
        shortcode=name,
        description=_caption(folder / f"{name}.txt"),
        owner=_text(owner.get("username")),
        taken_at=_moment(taken_at),
        original_url=f"https://www.instagram.com/p/{name}/",
        media=media,
        thumbnail=covers[0] if covers and media[0].type == "video" else None,
        details=Details(owner_name=_text(owner.get("full_name"))),
    )


def legacy_time(folder: Path) -> float | None:
    """Return the Unix time of the newest 0.2.0 file in *folder*; None if there is no such file."""
    try:
        times = [path.lstat().st_mtime for path in _files(folder)]
    except OSError:
        return None
    return max(0.0, *times) if times else None


def first_seen(folder: Path) -> float | None:
    """Return the Unix time at which a sweep first saw *folder*; None if no sweep has."""
    try:
        return (folder.parent / _SEEN / folder.name).lstat().st_mtime
    except OSError:
        return None


def record_seen(root: Path, shortcodes: Set[str]) -> Set[str]:
    """Record that the posts of release 0.2.0 with these *shortcodes* have been seen.

    A shortcode that was recorded earlier keeps the time at which it was first seen. Return the
    recorded shortcodes that are not among *shortcodes*, after removing their records.
    """
    seen, known = root / _SEEN, set[str]()
    try:
        if shortcodes:
            seen.mkdir(parents=True, exist_ok=True)
        known = set(os.listdir(seen))
        for gone in known - shortcodes:
            (seen / gone).unlink(missing_ok=True)
        for shortcode in shortcodes - known:
            (seen / shortcode).touch()
    except FileNotFoundError:
        pass
    except OSError as error:
        # Continue, because sweeps matter most when the disk is full.
        log.warning("posts of release 0.2.0 not recorded: keeping them", cause=str(error))
    return known - shortcodes


def _files(folder: Path) -> list[Path]:
    name = re.compile(rf"{re.escape(folder.name)}(?:_(\d{{1,2}}))?")
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == _MANIFEST:
                return []
            path = Path(entry.path)
            numbered = name.fullmatch(path.stem)
            usable = path.suffix in _KINDS and entry.is_file(follow_symlinks=False)
            if numbered and usable and entry.stat(follow_symlinks=False).st_size:
                found.append((int(numbered[1] or 0), path))
    return [path for _, path in sorted(found)]


def _item(path: Path) -> MediaItem:
    size = path.lstat().st_size
    return MediaItem(_KINDS[path.suffix], path.name, "", size, None, None)


def _caption(path: Path) -> str:
    try:
        return _read(path).decode(errors="replace").removesuffix("\n")
    except (OSError, ValueError):
        return ""


def _node(path: Path) -> dict[str, Any]:
    """Return Instagram's metadata of the post, in one of the formats that Instaloader has used."""
    # Imported here, because only posts of release 0.2.0 need it.
    import lzma  # noqa: PLC0415

    decompressor = lzma.LZMADecompressor(memlimit=_DECOMPRESSION_BYTES)
    try:
        text = decompressor.decompress(_read(path), max_length=_MAX_BYTES)
        return _part(json.loads(text), "node")
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, MemoryError, lzma.LZMAError, *UNREADABLE) as error:
        log.warning("metadata unreadable", file=path.name, cause=repr(error)[:200])
        return {}


def _read(path: Path) -> bytes:
    """Return the whole content of a regular file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a regular file, or is larger than 4 MB.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise ValueError("not a regular file, or too large")
        return file.read(_MAX_BYTES)


def _part(data: Any, key: str) -> dict[str, Any]:
    part = data.get(key) if isinstance(data, dict) else None
    return part if isinstance(part, dict) else {}


def _moment(value: Any) -> str | None:
    is_plausible = isinstance(value, int | float) and 0 <= value < time.time()
    return moment(value) if is_plausible else None


def _text(value: Any) -> str | None:
    # A lone surrogate, such as half of an emoji, cannot be encoded.
    return value.encode(errors="replace").decode() if isinstance(value, str) and value else None
