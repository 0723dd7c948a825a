"""A post's description becomes its files, and a post."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from scrapper.errors import DeadlineExceeded, DiskFull, RateLimited, ScrapeError
from scrapper.instagram.context import Context
from scrapper.instagram.download import CandidatesRefused, Target, download
from scrapper.instagram.media import Candidate, Description, Item, Kind
from scrapper.instagram.shortcode import Shortcode
from scrapper.library.post import MediaItem, Post

__all__ = ["PostDownload"]

log = structlog.get_logger(__name__)


class PostDownload:
    """One post's download: its files in order, from one description or, once, a fresh one.

    *find* describes the post as it is now; *context* is the one that files are asked for with.
    """

    def __init__(
        self,
        find: Callable[[], Description],
        context: Context,
        target: Target,
        shortcode: Shortcode,
    ) -> None:
        self._find = find
        self._context = context
        self._target = target
        self._shortcode = shortcode
        self._refreshed = False
        self._error: ScrapeError | None = None

    def post(self, url: str) -> Post:
        """Download all that there is of the post; *url* becomes its ``original_url``.

        Raises:
            ScrapeError: one of its subclasses.
            OSError: the files cannot be written.
        """
        self._description = self._find()
        files = [self._file(index) for index in range(len(self._description.items))]
        media = tuple(file for file in files if file is not None)
        if not media and self._error is not None:
            raise self._error
        missing = tuple(number for number, file in enumerate(files, start=1) if file is None)
        if missing:
            log.warning("items missing", shortcode=self._shortcode.text, missing=missing)
        about = self._description
        return Post(
            shortcode=self._shortcode.text,
            description=about.caption,
            owner=about.owner,
            taken_at=about.taken_at,
            original_url=url,
            media=media,
            thumbnail=self._thumbnail(),
            missing=missing,
            details=about.details,
        )

    def _file(self, index: int) -> MediaItem | None:
        """The item's file; None if Instagram gives none, even in a fresh description."""
        item = self._description.items[index]
        if item is None:
            return None
        try:
            return self._download(index, item)
        except CandidatesRefused as refused:
            self._error = refused.error
        fresh = self._fresh_item(index)
        if fresh is not None:
            try:
                return self._download(index, fresh)
            except CandidatesRefused as refused:
                self._error = refused.error
        return None

    def _download(self, index: int, item: Item) -> MediaItem:
        stem = self._shortcode.text
        if self._description.is_carousel:
            stem += f"_{index + 1}"
        file = self._get(item.type, item.candidates, stem)
        return replace(
            file, alt_text=item.alt_text, duration=item.duration, has_audio=item.has_audio
        )

    def _get(self, kind: Kind, candidates: Sequence[Candidate], stem: str) -> MediaItem:
        return download(self._context, self._target, kind, candidates, stem)

    def _fresh_item(self, index: int) -> Item | None:
        """The item as Instagram describes it now; asked for once a fetch."""
        if not self._refreshed:
            self._refreshed = True
            try:
                fresh = self._find()
            except DeadlineExceeded:
                raise
            except ScrapeError as error:
                self._error = error
                return None
            self._description = fresh.filled_from(self._description)
        items = self._description.items
        return items[index] if index < len(items) else None

    def _thumbnail(self) -> MediaItem | None:
        """The cover of the post's first video, if there is one: the post is whole without it."""
        videos = (item for item in self._description.items if item and item.type == "video")
        video = next(videos, None)
        if video is None or not video.cover:
            return None
        try:
            return self._get("image", video.cover, self._shortcode.text)
        except (RateLimited, DeadlineExceeded, DiskFull):
            raise
        except (ScrapeError, CandidatesRefused) as error:
            log.warning("no thumbnail", file=self._shortcode.text, cause=type(error).__name__)
            return None
