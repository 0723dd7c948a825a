"""A post's description becomes its files, and a post."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace

import structlog

from scrapper.errors import DeadlineExceeded, DiskFull, RateLimited, ScrapeError
from scrapper.instagram.files.fetch import CandidatesRefused, Wanted
from scrapper.instagram.media import Description
from scrapper.library.post import Fetch, MediaItem, Post

__all__ = ["PostDownload"]

log = structlog.get_logger(__name__)

_AT_ONCE = 4
_COVER = -1

Download = Callable[[Wanted], Future[MediaItem]]
"""Begins to download a file in another thread."""


class PostDownload:
    """One post's download: its files, four at a time, from one description or, once, a fresh one.

    *find* describes the post as it is now.
    """

    def __init__(self, find: Callable[[], Description], download: Download, fetch: Fetch) -> None:
        self._find = find
        self._download = download
        self._fetch = fetch
        self._refreshed = False
        self._error: ScrapeError | None = None
        self._files: dict[int, MediaItem] = {}
        self._waiting: deque[int] = deque()
        self._running: dict[Future[MediaItem], int] = {}
        self._refused: list[int] = []

    def post(self) -> Post:
        """Download all that there is of the post.

        Raises:
            ScrapeError: one of its subclasses.
            OSError: the files cannot be written.
        """
        self._description = self._find()
        number = len(self._description.items)
        self._waiting.extend((*range(number), _COVER))
        try:
            self._download_all()
        finally:
            self._stop()
        found = [self._files.get(index) for index in range(number)]
        media = tuple(file for file in found if file is not None)
        if not media and self._error is not None:
            raise self._error
        missing = tuple(index for index, file in enumerate(found, start=1) if file is None)
        if missing:
            log.warning("items missing", shortcode=self._fetch.shortcode, missing=missing)
        about = self._description
        return Post(
            shortcode=self._fetch.shortcode,
            description=about.caption,
            owner=about.owner,
            taken_at=about.taken_at,
            original_url=self._fetch.url,
            media=media,
            thumbnail=self._files.get(_COVER),
            missing=missing,
            details=about.details,
        )

    def _download_all(self) -> None:
        while self._waiting or self._running or self._refused:
            if self._refused and not self._running:
                self._refresh()
            # What was asked for after a refusal would most likely be refused as well.
            while self._may_start():
                self._start(self._waiting.popleft())
            done, _ = wait(
                self._running, timeout=self._fetch.seconds_left, return_when=FIRST_COMPLETED
            )
            if self._running and not done:
                raise DeadlineExceeded
            for future in done:
                self._note(self._running.pop(future), future)

    def _may_start(self) -> bool:
        if not self._waiting or self._refused:
            return False
        # The post is whole without a cover: the files that matter come first.
        room = 1 if self._waiting[0] == _COVER else _AT_ONCE
        return len(self._running) < room

    def _start(self, index: int) -> None:
        wanted = self._cover() if index == _COVER else self._item(index)
        if wanted is not None:
            self._running[self._download(wanted)] = index

    def _item(self, index: int) -> Wanted | None:
        item = self._description.items[index] if index < len(self._description.items) else None
        if item is None:
            return None
        stem = self._fetch.shortcode
        if self._description.is_carousel:
            stem += f"_{index + 1}"
        return Wanted(item.type, item.candidates, stem)

    def _cover(self) -> Wanted | None:
        """The cover of the post's first video, if there is one: the post is whole without it."""
        videos = (item for item in self._description.items if item and item.type == "video")
        video = next(videos, None)
        if video is None or not video.cover:
            return None
        return Wanted("image", video.cover, self._fetch.shortcode)

    def _note(self, index: int, future: Future[MediaItem]) -> None:
        """Take the file, or note that it was refused.

        Raises:
            ScrapeError, OSError: the post cannot be had.
        """
        try:
            file = future.result()
        except (RateLimited, DeadlineExceeded, DiskFull):
            raise
        except CandidatesRefused as refused:
            if index != _COVER:
                self._error = refused.error
                if not self._refreshed:
                    self._refused.append(index)
                return
            self._note_no_cover(refused)
        except ScrapeError as error:
            if index != _COVER:
                raise
            self._note_no_cover(error)
        else:
            item = None if index == _COVER else self._description.items[index]
            if item is not None:
                file = replace(
                    file, alt_text=item.alt_text, duration=item.duration, has_audio=item.has_audio
                )
            self._files[index] = file

    def _note_no_cover(self, error: Exception) -> None:
        log.warning("no thumbnail", file=self._fetch.shortcode, cause=type(error).__name__)

    def _refresh(self) -> None:
        """Ask once how Instagram describes the post now; try what was refused again."""
        refused, self._refused = self._refused, []
        self._refreshed = True
        try:
            fresh = self._find()
        except DeadlineExceeded:
            raise
        except ScrapeError as error:
            self._error = error
            return
        self._description = fresh.filled_from(self._description)
        self._waiting.extendleft(reversed(refused))

    def _stop(self) -> None:
        """Let no download run on: each of those under way ends within the deadline."""
        # A future that is cancelled counts as done only when the pool comes to it.
        wait([future for future in self._running if not future.cancel()])
