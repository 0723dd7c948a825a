"""The filenames of downloads and archives, from the template in ``DOWNLOAD_NAME``.

The names are safe on Windows, macOS and Linux. They are at most 200 bytes long. They contain no
reserved or invisible characters, such as direction marks, do not end with a dot or a space, and are
not reserved names.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from scrapper.library.post import MediaItem, Post

__all__ = ["DownloadNames", "disposition"]

_MAX_BYTES = 200
_NUMBER = "{number}"
_UNKNOWN = "unknown"
_OWN_NAME = re.compile(r"(?:_(?P<number>[0-9]+))?(?P<rest>[^.]*)(?P<extension>.*)", re.DOTALL)
_RESERVED_CHARACTERS = re.compile(r'[<>:"/\\|?*]')
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_RESERVED_NAMES = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|$)",
    re.IGNORECASE,
)


class DownloadNames:
    """Builds filenames from *template*.

    The template's fields are ``{shortcode}``, ``{owner}``, ``{date}``, ``{time}`` and ``{number}``.
    If the template has no ``{number}``, the item's number is appended to the name of each file of a
    carousel.
    """

    def __init__(self, template: str) -> None:
        self._template = template

    def of(self, post: Post, item: MediaItem) -> str:
        """Return the filename for *item* of *post*."""
        parts = _OWN_NAME.fullmatch(item.filename.removeprefix(post.shortcode))
        number, rest, extension = parts.groups() if parts else (None, "", "")
        if number and _NUMBER not in self._template:
            rest = f"_{number}{rest}"
        return self._named(post, number or "1", rest + extension)

    def of_all(self, post: Post, items: Sequence[MediaItem]) -> list[str]:
        """Return the filenames for *items* of *post*, distinct even if case is ignored."""
        return _distinct(self.of(post, item) for item in items)

    def of_archive(self, post: Post) -> str:
        """Return the filename for an archive of the post's files."""
        return self._named(post, "", ".zip", strip=" ._-")

    def of_folders(self, posts: Iterable[Post]) -> list[str]:
        """Return the names for the folders of *posts*, distinct even if case is ignored."""
        names = _distinct(self.of_archive(post) for post in posts)
        return [name.removesuffix(".zip") for name in names]

    def _named(self, post: Post, number: str, tail: str, *, strip: str = "") -> str:
        date = time = _UNKNOWN
        if post.taken_time is not None:
            moment = datetime.fromtimestamp(post.taken_time, UTC)
            date, time = f"{moment:%Y-%m-%d}", f"{moment:%H-%M-%S}"
        owner = post.owner or _UNKNOWN
        name = self._template.format(
            shortcode=post.shortcode, owner=owner, date=date, time=time, number=number
        )
        stem = (
            _truncated(_safe(name).rstrip(strip), _MAX_BYTES - len(tail.encode())) or post.shortcode
        )
        if _RESERVED_NAMES.match(stem + tail):
            stem = f"_{stem}"
        return stem + tail


def disposition(kind: str, name: str) -> str:
    """Return the value of ``Content-Disposition`` for a file called *name* (RFC 6266)."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    value = f'{kind}; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='')}"


def _distinct(names: Iterable[str]) -> list[str]:
    """Append a number to each name that is already taken, ignoring case."""
    distinct: dict[str, str] = {}
    for name in names:
        stem, dot, extension = name.rpartition(".")
        count = 1
        while name.casefold() in distinct:
            count += 1
            tail = f" ({count}){dot}{extension}"
            name = _truncated(stem, _MAX_BYTES - len(tail.encode())) + tail  # noqa: PLW2901
        distinct[name.casefold()] = name
    return list(distinct.values())


def _safe(text: str) -> str:
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    # Drop control, format, private-use and unassigned characters.
    visible = (character for character in text if unicodedata.category(character)[0] != "C")
    return _RESERVED_CHARACTERS.sub("_", "".join(visible)).strip(" .")


def _truncated(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore").rstrip(" .")
