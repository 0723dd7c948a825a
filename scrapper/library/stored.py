"""Reads stored posts from their folders."""

import json
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from scrapper.library.additions import with_additions
from scrapper.library.disk import is_whole
from scrapper.library.keeping import is_kept
from scrapper.library.legacy import first_seen, legacy_post, legacy_time
from scrapper.library.post import Post
from scrapper.library.response import RenderedPost
from scrapper.library.state_file import UNREADABLE
from scrapper.local_files.opening import read_file

__all__ = ["MANIFEST", "StoredPost", "fence_of", "load"]

log = structlog.get_logger(__name__)

MANIFEST = "post.json"
"""The manifest's filename; a folder holds a complete post if, and only if, it has a manifest."""

_MAX_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class StoredPost:
    """A post in the library.

    ``stored_at``, ``fresh_until`` and ``ages_from`` are Unix times. ``seen_at`` is the monotonic
    time at which the post was read or published. Sweeps count the post's age from ``ages_from``,
    and leave a ``kept`` post alone. ``version`` increases each time the post is stored; it is None
    for a post of release 0.2.0.
    """

    post: Post
    rendered: RenderedPost
    stored_at: float
    fresh_until: float
    seen_at: float
    ages_from: float
    kept: bool
    version: int | None

    @classmethod
    def seen_now(
        cls,
        post: Post,
        root: Path,
        stored_at: float,
        *,
        kept: bool,
        ages_from: float | None = None,
        version: int | None = None,
    ) -> "StoredPost":
        """Wrap *post*, which was just read from *root* or published there.

        *ages_from* defaults to *stored_at*.
        """
        return cls(
            post,
            RenderedPost.of(post, root, stored_at),
            stored_at,
            post.fresh_until(stored_at),
            time.monotonic(),
            stored_at if ages_from is None else ages_from,
            kept,
            version,
        )

    @property
    def fresh(self) -> bool:
        """Whether the post is fresh, so that it does not need to be fetched again."""
        return time.time() < self.fresh_until

    def within(self, max_bytes: int | None, root: Path) -> "StoredPost":
        """Apply :meth:`Post.within` to the post, and return the result as a stored post."""
        post = self.post.within(max_bytes)
        if post is self.post:
            return self
        return replace(self, post=post, rendered=RenderedPost.of(post, root, self.stored_at))

    def to_json(
        self,
        url: str | None = None,
        *,
        cached: bool = True,
        max_age: float = math.inf,
        prefix: str = "",
    ) -> bytes:
        """Return the post's JSON as clients receive it.

        *url* is the URL that the client sent, and defaults to the post's own URL. *max_age* is the
        age in seconds at which sweeps remove the post. *prefix* is prepended to the files' URLs.
        """
        expires = not self.kept and math.isfinite(max_age)
        return self.rendered.to_json(
            original_url=self.post.original_url if url is None else url,
            expires_at=self.ages_from + max_age if expires else None,
            kept=self.kept,
            cached=cached,
            stale=cached and not self.fresh,
            prefix=prefix,
        )


def load(folder: Path) -> StoredPost | None:
    """Read the post in *folder*, which may also be a folder of release 0.2.0.

    Return None if there is no post, or if it is incomplete or unreadable.
    """
    statuses: list[os.stat_result] = []
    try:
        if folder.is_symlink():
            return None
        # Use strings, because building Path objects takes as long as reading the file.
        content = read_file(f"{folder}/{MANIFEST}", _MAX_BYTES, check=statuses.append)
        post = Post.from_manifest(json.loads(content))
        if post.shortcode == folder.name and all(
            is_whole(f"{folder}/{file.filename}", file.size)
            for file in post.files
            if file is not post.small
        ):
            status = statuses[0]
            version = status.st_mtime_ns
            post, kept = with_additions(post, folder, version), is_kept(folder)
            return StoredPost.seen_now(
                post, folder.parent, status.st_mtime, kept=kept, version=version
            )
        log.warning("stored post incomplete", shortcode=folder.name)
    except FileNotFoundError:
        return _load_legacy(folder)
    except (OSError, *UNREADABLE) as error:
        log.warning("stored post unreadable", shortcode=folder.name, cause=repr(error))
    return None


def _load_legacy(folder: Path) -> StoredPost | None:
    post, stored_at = legacy_post(folder), legacy_time(folder)
    if post is None or stored_at is None:
        return None
    ages_from = first_seen(folder) or time.time()
    kept = is_kept(folder)
    return StoredPost.seen_now(post, folder.parent, stored_at, kept=kept, ages_from=ages_from)


def fence_of(folder: Path) -> int:
    """Return the fencing token with which the post in *folder* was stored; 0 if there is none."""
    try:
        return int(json.loads(read_file(folder / MANIFEST, _MAX_BYTES))["fence"])
    except (OSError, *UNREADABLE):
        return 0
