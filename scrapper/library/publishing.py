"""Publishes and removes posts atomically.

A post's files are collected in a folder under ``ROOT/.incoming``, and flushed to the disk. A single
rename of that folder then publishes the post. A folder named after a shortcode is therefore always
complete, even after a power failure.
"""

import errno
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
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
    """A later turn has already stored the post."""


class Publisher:
    """Publishes posts under *root*, an absolute path. All methods block.

    Leftovers of crashed processes are removed once they have not changed for *abandoned_after*
    seconds. The value 0 removes leftovers of any age at startup, and is allowed only if no other
    process uses the root. *check* raises if the root is gone or was replaced.
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
        """Create an empty folder for the files of a post that is being downloaded.

        Raises:
            MediaFolderGone: the root is gone, or was replaced.
            OSError: the folder cannot be created.
        """
        self._check()
        with self._staging:
            if self._abandoned:
                raise FileNotFoundError(self.incoming)
            self.incoming.mkdir(exist_ok=True)
            folder = self._unused_path(shortcode)
            folder.mkdir()
            self._staged.add(folder)
        return folder

    def publish(self, folder: Path, post: Post, fence: int = 0) -> StoredPost:
        """Publish *folder*, created by :meth:`stage`, in place of any stored version of the post.

        *fence* is the fencing token of this process's turn to download the post, or 0 if no other
        process uses the root.

        Items missing from *post* are taken from an earlier download, if possible. The modification
        time of the media files is set to when Instagram published the post, if known. The
        modification time of the manifest is when the post was stored.

        Raises:
            Superseded: the stored post has a higher fence, and is not replaced.
        """
        post = self._with_old_files(folder, post)
        _set_times(folder, post)
        manifest = json.dumps({**post.to_manifest(), "fence": fence}, ensure_ascii=False, indent=1)
        (folder / MANIFEST).write_text(manifest + "\n", encoding="utf-8")
        status = (folder / MANIFEST).stat()
        # Render the post first, so that an error leaves the stored version in place.
        stored = StoredPost.seen_now(
            post, self.root, status.st_mtime, kept=False, version=status.st_mtime_ns
        )
        for path in folder.iterdir():
            flush(path)
        flush(folder)
        self._check()
        try:
            with self.changes.recording(post.shortcode):
                self._put_in_place(folder, self.root / post.shortcode, fence)
        except Superseded:
            log.warning("a later turn stored the post", shortcode=post.shortcode)
            raise
        flush(self.root)
        return replace(stored, kept=is_kept(self.root / post.shortcode))

    def _with_old_files(self, folder: Path, post: Post) -> Post:
        """Complete *post* by linking its missing files from an earlier download, and return it."""
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
            # Another process may have removed the post in the meantime.
            log.warning("old files not kept", shortcode=post.shortcode, cause=str(error))
            return post
        if filled.outdated:
            log.info("old files kept", shortcode=post.shortcode, items=filled.outdated)
        return filled

    def discard(self, folder: Path) -> None:
        """Delete a folder created by :meth:`stage`, if it still exists."""
        self._staged.discard(folder)
        delete(folder)

    def abandon(self) -> None:
        """Delete all folders created by :meth:`stage`, even if in use, and allow no new ones."""
        with self._staging:
            self._abandoned = True
        for folder in self._staged.copy():
            # Rename the folder first, so that no thread can add another file.
            doomed = self._unused_path(folder.name)
            with suppress(OSError):
                folder.rename(doomed)
                delete(doomed)

    def remove(self, shortcode: str, *, before: float | None = None) -> bool:
        """Remove the post.

        If *before* is given, a Unix time, the post is removed only if it was stored before that
        time and is not kept. Otherwise, return False.

        A single rename hides the post, and then its files are deleted.

        Raises:
            OSError: the post is not stored, or cannot be removed.
        """
        self._check()
        place, doomed = self.root / shortcode, self._unused_path(shortcode)
        with self.changes.recording(shortcode):
            if before is None:
                place.rename(doomed)
            elif not self._move_if_old(place, doomed, before):
                return False
        delete(doomed)
        return True

    def _move_if_old(self, place: Path, doomed: Path, before: float) -> bool:
        if is_kept(place):
            return False
        # If the process crashes after this rename, clear_leftovers() restores the post.
        moved = self._unused_path(place.name, _REPLACED)
        place.rename(moved)
        # The post may have been marked since the check, or stored again since its age was read.
        if is_kept(moved) or not _is_stored_before(moved, before):
            self._restore(moved, place)
            return False
        moved.rename(doomed)
        return True

    def _restore(self, moved: Path, place: Path) -> None:
        try:
            moved.rename(place)
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
            # Another download has stored the post in the meantime.
            carry_over(moved, place)
            delete(moved)

    def clear_leftovers(self, now: float) -> None:
        """Delete the leftovers of crashed processes.

        A post that a crashed process had moved away is restored, unless it has been stored again.
        A leftover that cannot be deleted or restored is logged and left where it is. *now* is the
        current Unix time, used to calculate the age of leftovers.
        """
        cutoff = now - self._abandoned_after
        for leftover in self.incoming.iterdir():
            try:
                # A rename changes st_ctime, but not st_mtime.
                if self._abandoned_after and leftover.lstat().st_ctime > cutoff:
                    continue
                shortcode, _, _ = leftover.name.partition(".")
                if leftover.suffix == _REPLACED and not (self.root / shortcode).exists():
                    leftover.rename(self.root / shortcode)
                else:
                    delete(leftover)
            except FileNotFoundError:
                # Another process is deleting the same leftovers.
                pass
            except OSError as error:
                log.warning("leftover not cleared", leftover=leftover.name, cause=str(error))

    def _unused_path(self, shortcode: str, suffix: str = "") -> Path:
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
                # Another process removed or stored the post in the meantime.
                if error.errno not in (*_OCCUPIED, errno.ENOENT):
                    raise
            else:
                break
        if fence and (later := fence_of(replaced)) > fence:
            # A later turn stored its post after the check above. Put that post back.
            self._put_in_place(replaced, place, later)
            raise Superseded
        # The post may have been marked since its mark was carried over.
        carry_over(replaced, place)
        delete(replaced)

    def _swap(self, folder: Path, place: Path) -> Path:
        """Swap *folder* with *place*; return the new path of the folder that was at *place*."""
        if exchange(folder, place):
            return folder
        # After a crash between the two renames, clear_leftovers() restores the post.
        replaced = self._unused_path(place.name, _REPLACED)
        place.rename(replaced)
        folder.rename(place)
        return replaced


def _is_stored_before(folder: Path, moment: float) -> bool:
    try:
        return (folder / MANIFEST).lstat().st_mtime < moment
    except FileNotFoundError:
        # A post of release 0.2.0 has no manifest.
        return True
    except OSError:
        return False


def _link(old: Path, new: Path) -> None:
    """Create *new* as a hard link to *old*, or as a copy if the file system has no hard links."""
    try:
        new.hardlink_to(old)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(old, new)


def _set_times(folder: Path, post: Post) -> None:
    """Set the files' modification times to when Instagram published the post, if known."""
    taken_at = post.taken_time
    if taken_at is None:
        return
    for file in post.files:
        # Some file systems cannot store this time, or cannot store times at all.
        with suppress(OSError, OverflowError):
            os.utime(folder / file.filename, (taken_at, taken_at))
