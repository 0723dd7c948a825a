"""Puts posts into the library and removes them, so that a post is complete at any instant.

Files are gathered in a folder under ``ROOT/.incoming``, flushed to the disk, and published by one
rename of that folder, so that a folder with a shortcode's name is complete after a power cut, too.
"""

import errno
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from scrapper.library.disk import delete, exchange, flush
from scrapper.library.keeping import carry_over, is_kept
from scrapper.library.legacy import legacy_post
from scrapper.library.own_changes import OwnChanges
from scrapper.library.post import Post
from scrapper.library.stored import MANIFEST, StoredPost, fence_of, load

__all__ = ["Publisher", "Superseded"]

log = structlog.get_logger(__name__)

_INCOMING = ".incoming"
_REPLACED = ".replaced"
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


class Superseded(Exception):
    """A later turn has stored the post already."""


class Publisher:
    """Puts posts under *root*, an absolute path; blocking.

    Leftovers are removed once they have not changed for *abandoned_after* seconds. With 0, no other
    process may use the root. *check* raises if the root is gone or was replaced.
    """

    def __init__(
        self, root: Path, *, abandoned_after: float, check: Callable[[], None] = lambda: None
    ) -> None:
        self.root = root
        self.incoming = root / _INCOMING
        self.changes = OwnChanges(root)
        self._abandoned_after = abandoned_after
        self._check = check
        self._staging = threading.Lock()
        self._staged: set[Path] = set()
        self._abandoned = False

    def stage(self, shortcode: str) -> Path:
        """Make an empty folder for the files of a post that is being downloaded.

        Raises:
            MediaFolderGone: the root is gone, or was replaced.
            OSError: the folder cannot be made.
        """
        self._check()
        with self._staging:
            if self._abandoned:
                raise FileNotFoundError(self.incoming)
            self.incoming.mkdir(exist_ok=True)
            folder = self._unused(shortcode)
            folder.mkdir()
            self._staged.add(folder)
        return folder

    def publish(self, folder: Path, post: Post, fence: int = 0) -> StoredPost:
        """Replace the stored post, if any, by *folder*, from :meth:`stage`.

        *fence* is the turn's, or 0 if no other process uses the root.

        Items that *post* lacks are kept from an earlier download. The files get the time when the
        post was taken, the manifest the time when the post was stored.

        Raises:
            Superseded: the stored post has a higher fence, and stays.
        """
        post = self._with_old_files(folder, post)
        _date(folder, post)
        manifest = json.dumps({**post.to_manifest(), "fence": fence}, ensure_ascii=False, indent=1)
        (folder / MANIFEST).write_text(manifest + "\n", encoding="utf-8")
        status = (folder / MANIFEST).stat()
        for path in folder.iterdir():
            flush(path)
        flush(folder)
        self._check()
        try:
            with self.changes.making(post.shortcode):
                self._put_in_place(folder, self.root / post.shortcode, fence)
        except Superseded:
            log.warning("a later turn stored the post", shortcode=post.shortcode)
            raise
        flush(self.root)
        kept = is_kept(self.root / post.shortcode)
        return StoredPost.seen_now(
            post, self.root, status.st_mtime, kept=kept, version=status.st_mtime_ns
        )

    def _with_old_files(self, folder: Path, post: Post) -> Post:
        """*post*, with the files in *folder* that only an earlier download has."""
        if not post.missing and (post.thumbnail or post.main.type != "video"):
            return post
        place = self.root / post.shortcode
        stored = load(place)
        old = stored.post if stored else legacy_post(place)
        if old is None:
            return post
        filled = post.filled_from(old)
        new = {file.filename for file in post.files}
        try:
            for file in filled.files:
                if file.filename not in new:
                    _link(place / file.filename, folder / file.filename)
        except OSError as error:
            # Another process may have removed the post meanwhile.
            log.warning("old files not kept", shortcode=post.shortcode, cause=str(error))
            return post
        if filled.outdated:
            log.info("old files kept", shortcode=post.shortcode, items=filled.outdated)
        return filled

    def discard(self, folder: Path) -> None:
        """Remove a folder from :meth:`stage`, if it is still there."""
        self._staged.discard(folder)
        delete(folder)

    def abandon(self) -> None:
        """Remove all folders from :meth:`stage`, even if threads use them; allow no new ones."""
        with self._staging:
            self._abandoned = True
        for folder in self._staged.copy():
            # Under another name, no thread can find the folder and put one more file into it.
            doomed = self._unused(folder.name)
            with suppress(OSError):
                folder.rename(doomed)
                delete(doomed)

    def remove(self, shortcode: str, *, unless_kept: bool = False) -> bool:
        """Remove the post, by one rename first; return whether there was a post.

        Raises:
            OSError: the post cannot be removed, or is not there.
        """
        self._check()
        place, doomed = self.root / shortcode, self._unused(shortcode)
        with self.changes.making(shortcode):
            if not unless_kept:
                place.rename(doomed)
            elif not self._take_unless_kept(place, doomed):
                return False
        delete(doomed)
        return True

    def _take_unless_kept(self, place: Path, doomed: Path) -> bool:
        if is_kept(place):
            return False
        # After a crash from here on, clear_leftovers() puts the post back.
        taken = self._unused(place.name, _REPLACED)
        place.rename(taken)
        # The post may have been marked since we looked.
        if is_kept(taken):
            self._put_back(taken, place)
            return False
        taken.rename(doomed)
        return True

    def _put_back(self, taken: Path, place: Path) -> None:
        try:
            taken.rename(place)
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
            # Somebody stored the post again.
            carry_over(taken, place)
            delete(taken)

    def clear_leftovers(self, now: float) -> None:
        """Remove leftovers of a crash as of *now*, and put back a post left between two renames."""
        newest = now - self._abandoned_after
        for leftover in self.incoming.iterdir():
            # Several processes may do this at once.
            with suppress(FileNotFoundError):
                # A rename changes st_ctime, but not st_mtime.
                if self._abandoned_after and leftover.lstat().st_ctime > newest:
                    continue
                shortcode, _, _ = leftover.name.partition(".")
                if leftover.suffix == _REPLACED and not (self.root / shortcode).exists():
                    leftover.rename(self.root / shortcode)
                else:
                    delete(leftover)

    def _unused(self, shortcode: str, suffix: str = "") -> Path:
        return self.incoming / f"{shortcode}.{uuid.uuid4().hex}{suffix}"

    def _put_in_place(self, folder: Path, place: Path, fence: int) -> None:
        while True:
            try:
                folder.rename(place)
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
            else:
                return
            if fence and fence_of(place) > fence:
                raise Superseded
            try:
                carry_over(place, folder)
                replaced = self._swap(folder, place)
            except OSError as error:
                # Another process removed or stored the post meanwhile.
                if error.errno not in (*_OCCUPIED, errno.ENOENT):
                    raise
            else:
                break
        if fence and (theirs := fence_of(replaced)) > fence:
            # A later turn ended since we looked.
            self._put_in_place(replaced, place, theirs)
            raise Superseded
        # The post may have been marked since we looked.
        carry_over(replaced, place)
        delete(replaced)

    def _swap(self, folder: Path, place: Path) -> Path:
        """Swap *folder* with *place*; return where the old folder is then."""
        if exchange(folder, place):
            return folder
        # Not atomic: after a crash between the renames, clear_leftovers() puts the post back.
        replaced = self._unused(place.name, _REPLACED)
        place.rename(replaced)
        folder.rename(place)
        return replaced


def _link(old: Path, new: Path) -> None:
    """Link the file under another name, too, or copy it if the disk has no links."""
    try:
        new.hardlink_to(old)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(old, new)


def _date(folder: Path, post: Post) -> None:
    """Give the post's files the time at which the post was taken, if that is known."""
    moment = post.taken_time
    if moment is None:
        return
    for file in post.files:
        # Some disks support few years, or no times at all.
        with suppress(OSError, OverflowError):
            os.utime(folder / file.filename, (moment, moment))
