"""Folders of release 0.2.0: a post's files without a manifest.

That release let Instaloader write ``SHORTCODE/SHORTCODE.mp4`` or ``.jpg``, and for a carousel
``SHORTCODE_1.jpg`` and so on, beside texts and compressed JSON. Such a folder is no post here: it
is in no listing, and a scrape fetches the post anew. But its files are served, and sweeps remove
it by its age.
"""

import os
import re
from pathlib import Path
from typing import Literal

from scrapper.library.post import MediaItem, Post

__all__ = ["legacy_post", "legacy_time"]

_MANIFEST = "post.json"
_KINDS: dict[str, Literal["video", "image"]] = {
    ".mp4": "video",
    ".jpg": "image",
    ".jpeg": "image",
    ".png": "image",
    ".webp": "image",
}


def legacy_post(folder: Path) -> Post | None:
    """The files in *folder* as a post without any data; None if it holds none of that release.

    Links are not followed.
    """
    try:
        files = _files(folder)
    except OSError:
        return None
    media = tuple(_item(path) for path in files)
    # Instaloader writes a video's cover beside it, under the same name.
    videos = {Path(item.filename).stem for item in media if item.type == "video"}
    media = tuple(
        item for item in media if item.type == "video" or Path(item.filename).stem not in videos
    )
    if not media:
        return None
    return Post(
        shortcode=folder.name,
        description="",
        owner=None,
        taken_at=None,
        original_url="",
        media=media,
    )


def legacy_time(folder: Path) -> float | None:
    """When the newest file of *folder* was written (unix time); None if it is none of 0.2.0's."""
    try:
        times = [path.lstat().st_mtime for path in _files(folder)]
    except OSError:
        return None
    return max(times, default=None)


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
