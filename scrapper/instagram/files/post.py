"""Downloads the files that a post's description lists, and retries those that fail.

Each attempt runs in a thread of its own, and :mod:`scrapper.instagram.files.verdict` decides what
to do next. The post consists of the files that are complete by the deadline. The others are
reported as missing.
"""

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace

import structlog

from scrapper.errors import MediaTooLarge, RateLimited, ScrapeError
from scrapper.ffmpeg import missing_programs
from scrapper.instagram.files.choice import MAX_CANDIDATES, Choice, choose
from scrapper.instagram.files.fetch import Fetched, File, Wanted
from scrapper.instagram.files.kinds import bit_rate
from scrapper.instagram.files.verdict import TRANSIENT, Outcome, Step, error_to_report, next_step
from scrapper.instagram.media import Candidate, Description, Item
from scrapper.library.post import SMALL_BYTES, Fetch, MediaItem, Post

__all__ = ["PostDownload"]

log = structlog.get_logger(__name__)

_MAX_PARALLEL = 4
_COVER = -1
_TRIES_PER_URL, _MAX_TRIES = 2, 30
_RETRY_SECONDS = 0.5
_SMALL_SECONDS = 3.0
# After these outcomes, a file goes to the end of the queue.
_REQUEUED_LAST = (Outcome.SLOW, Outcome.STALLED)
# Fallbacks are not tried after these outcomes: no time is left, or all candidates were tried.
_NO_FALLBACK = (Outcome.LATE, Outcome.SLOW, Outcome.TOO_LARGE)

Find = Callable[[frozenset[str], float], Description]
"""Gets the post's description, given the sources to leave out and the time limit in seconds."""

Begin = Callable[[Wanted], Future[Fetched]]
"""Starts an attempt to download a file in another thread."""


@dataclass(slots=True, eq=False)
class _File:
    """The state of an unfinished file.

    The first of the ``candidates`` is the current one. ``generation`` is the number of the
    description that they come from. ``tries`` counts the attempts for each URL, across all
    descriptions. If a candidate is too large, a later one in ``all_candidates`` may fit. The
    ``fallbacks`` are tried when everything else has failed. ``mute`` is a downloaded file without
    audio, kept in case no other candidate has audio. The next attempt starts no earlier than
    ``not_before``, which is in monotonic time.
    """

    index: int
    stem: str
    item: Item
    candidates: deque[Candidate]
    generation: int
    tries: Counter[str] = field(default_factory=Counter)
    not_before: float = 0.0
    outcome: Outcome = Outcome.LATE
    mute: tuple[Candidate, File] | None = None
    all_candidates: Sequence[Candidate] = ()
    fallbacks: Sequence[Candidate] = ()
    failed: int = 0

    @property
    def is_cover(self) -> bool:
        return self.index == _COVER

    def possible(self, renewals: deque[Step], generation: int) -> set[Step]:
        """Return the steps that are still possible.

        No new URLs are looked up for a cover, or for a file that lacks only its audio.
        """
        steps = set() if self.is_cover or self.mute else set(renewals)
        if self.generation < generation:
            steps.add(Step.FRESH)
        if self.candidates and self.may_try(self.candidates[0]):
            steps.add(Step.RETRY)
        if self.next_candidates:
            steps.add(Step.NEXT)
        return steps

    @property
    def next_candidates(self) -> Sequence[Candidate]:
        """The candidates to try next, given the outcome of the current one."""
        if self.outcome is Outcome.TOO_LARGE:
            if not self.candidates or self.tries.total() >= _MAX_TRIES:
                return ()
            after = self.all_candidates[self.all_candidates.index(self.candidates[0]) + 1 :]
            return [candidate for candidate in after if self.may_try(candidate)]
        rest = list(self.candidates)[1:] if self.failed < MAX_CANDIDATES - 1 else []
        whole = [candidate for candidate in rest if not candidate.in_parts]
        return whole or rest if self.outcome is Outcome.UNJOINED else rest

    def may_try(self, candidate: Candidate) -> bool:
        return self.tries[candidate.url] < (1 if candidate.unreliable else _TRIES_PER_URL)


class PostDownload:
    """Downloads one post, at most four files at once, until the deadline of *fetch*.

    No file may be larger than *max_bytes*.
    """

    def __init__(
        self, find: Find, begin: Begin, fetch: Fetch, *, max_bytes: int = sys.maxsize
    ) -> None:
        self._find = find
        self._begin = begin
        self._fetch = fetch
        self._max_bytes = max_bytes
        self._renewals = deque((Step.FRESH, Step.OTHER))
        self._reasons: list[ScrapeError | Outcome] = []
        self._media: dict[int, MediaItem] = {}
        self._finished: set[int] = set()
        self._waiting: deque[_File] = deque()
        self._running: dict[Future[Fetched], _File] = {}
        self._refused: list[_File] = []
        self._tries = self._generation = 0
        self._smallest: int | None = None
        self._passed_over = False

    def post(self) -> Post:
        """Download as much of the post as possible.

        Raises:
            ScrapeError: no file could be downloaded, or Instagram answered with a rate limit.
            OSError: the files cannot be written.
        """
        self._description = self._find(frozenset(), self._fetch.seconds_left)
        self._waiting.extend(self._files({}))
        try:
            self._download_all()
        finally:
            ended = self._stop()
        for file, fetched in ended:
            self._finish_late(file, fetched)
        about = self._description
        numbers = range(1, len(about.items) + 1)
        missing = tuple(number for number in numbers if number - 1 not in self._media)
        if len(missing) == len(numbers):
            error = error_to_report(self._reasons)
            raise MediaTooLarge(self._smallest) if isinstance(error, MediaTooLarge) else error
        if missing:
            log.warning("items missing", shortcode=self._fetch.shortcode, missing=missing)
        post = Post(
            shortcode=self._fetch.shortcode,
            description=about.caption,
            owner=about.owner,
            taken_at=about.taken_at,
            original_url=self._fetch.url,
            media=tuple(self._media[number - 1] for number in numbers if number not in missing),
            thumbnail=self._media.get(_COVER),
            missing=missing,
            details=about.details,
            named_item=about.named_item,
            quality=self._fetch.preference.quality,
            max_bytes=self._fetch.preference.max_bytes if self._passed_over else None,
        )
        return replace(post, small=self._small(post))

    def _small(self, post: Post) -> MediaItem | None:
        """Download a small picture of *post*; return None if none is needed or available."""
        item = self._description.items[post.number_of(post.lead) - 1]
        if item is None or item.small is None or (post.picture and post.picture.is_small):
            return None
        candidate, name = item.small, f"{post.shortcode}_small"
        wanted = Wanted(
            "image", candidate, f"{name}.part", max_bytes=SMALL_BYTES, patience=_SMALL_SECONDS
        )
        try:
            fetched = self._begin(wanted).result()
        except (ScrapeError, OSError) as error:
            log.warning("no small picture", shortcode=post.shortcode, cause=repr(error))
            return None
        if fetched.file is None:
            return None
        path, kind, size = fetched.file.path, fetched.file.kind, fetched.file.size
        path = path.rename(path.with_name(name + kind.extension))
        return MediaItem("image", path.name, candidate.url, size, candidate.width, candidate.height)

    def _files(self, known: Mapping[int, _File]) -> Iterator[_File]:
        """Yield the unfinished files of the description, the cover last.

        Files that are already in *known* keep their record of attempts.
        """
        code, items = self._fetch.shortcode, self._description.items
        skipped = self._finished.union(file.index for file in self._running.values())
        for index, item in enumerate(items):
            if item is not None and index not in skipped:
                stem = f"{code}_{index + 1}" if self._description.is_carousel else code
                yield self._file(index, stem, item, self._choice(item), known)
        video = next((item for item in items if item and item.type == "video"), None)
        # A post without its cover still counts as complete.
        if video is not None and video.cover and _COVER not in skipped:
            cover = Choice(video.cover[:MAX_CANDIDATES], video.cover)
            yield self._file(_COVER, code, video, cover, known)

    def _choice(self, item: Item) -> Choice:
        choice = choose(item, self._fetch.preference, self._max_bytes)
        self._passed_over = self._passed_over or choice.passed_over
        if self._fetch.preference.quality == "best" and item.type == "video" and not item.streams:
            log.info("no manifest: downloading the whole file", shortcode=self._fetch.shortcode)
        return choice

    def _file(
        self,
        index: int,
        stem: str,
        item: Item,
        choice: Choice,
        known: Mapping[int, _File],
    ) -> _File:
        old = known.get(index)
        if old is not None and old.generation == self._generation:
            return old
        file = _File(index, stem, item, deque(), self._generation)
        file.all_candidates, file.fallbacks = choice.all_candidates, choice.fallbacks
        if old is not None:
            file.tries, file.outcome, file.mute = old.tries, old.outcome, old.mute
        file.candidates.extend(filter(file.may_try, choice.candidates))
        return file

    def _download_all(self) -> None:
        while self._waiting or self._running or self._refused:
            if self._refused:
                self._retry_refused()
            self._start()
            left = min(self._fetch.seconds_left, self._pause())
            if self._running:
                done, _ = wait(self._running, timeout=left, return_when=FIRST_COMPLETED)
                for future in done:
                    self._handle(self._running.pop(future), future.result())
            elif self._waiting:
                time.sleep(max(0.0, left))
            if self._fetch.seconds_left <= 0:
                return

    def _start(self) -> None:
        """Start as many attempts as currently possible."""
        now = time.monotonic()
        for file in sorted(self._waiting, key=lambda file: file.is_cover):
            # The cover must not take the slot of a more important file.
            if len(self._running) >= (1 if file.is_cover else _MAX_PARALLEL):
                return
            if file.not_before <= now:
                self._waiting.remove(file)
                file.tries[file.candidates[0].url] += 1
                self._tries += 1
                self._running[self._begin(self._wanted(file))] = file

    def _pause(self) -> float:
        """Return the seconds until a paused file can be retried, or infinity if none is paused."""
        now = time.monotonic()
        pauses = [file.not_before - now for file in self._waiting if file.not_before > now]
        return min(pauses, default=math.inf)

    def _wanted(self, file: _File) -> Wanted:
        return Wanted(
            "image" if file.is_cover else file.item.type,
            file.candidates[0],
            f"{file.stem}.{self._tries}.part",
            with_sound=not file.is_cover and file.item.has_audio is True,
            has_alternative=lambda: self._has_alternative(file),
        )

    def _has_alternative(self, file: _File) -> bool:
        """Return whether the file's next candidate, or another file, could be tried instead."""
        steps = file.possible(deque(), self._generation)
        # This runs in another thread while the queue changes, so iterate over a copy.
        others = not all(other.is_cover for other in list(self._waiting))
        return Step.NEXT in steps or (Step.RETRY in steps and others)

    def _handle(self, file: _File, fetched: Fetched) -> None:
        """Take the next step after an attempt.

        Raises:
            RateLimited: the CDN answered with a rate limit.
            OSError: the file cannot be stored.
        """
        file.outcome = fetched.outcome
        if fetched.outcome is Outcome.TOO_LARGE and not file.is_cover:
            self._passed_over = True
            self._smallest = min(filter(None, (self._smallest, fetched.size)), default=None)
        self._advance(file, _whole(file, fetched), fetched.retry_after)

    def _advance(
        self,
        file: _File,
        whole: tuple[Candidate, File] | None = None,
        retry_after: float | None = None,
    ) -> None:
        match next_step(file.outcome, file.possible(self._renewals, self._generation)):
            case Step.RETRY:
                if file.outcome in TRANSIENT:
                    file.not_before = time.monotonic() + _RETRY_SECONDS
                self._waiting.append(file)
            case Step.NEXT:
                file.candidates = deque(file.next_candidates)
                file.failed += file.outcome is not Outcome.TOO_LARGE
                if file.outcome in _REQUEUED_LAST:
                    self._waiting.append(file)
                else:
                    self._waiting.appendleft(file)
            case Step.FRESH | Step.OTHER:
                self._refused.append(file)
            case Step.STOP if not file.is_cover:
                raise RateLimited(retry_after=retry_after)
            case _:
                self._finish(file, whole)

    def _finish_late(self, file: _File, fetched: Fetched | None) -> None:
        """Finish the file without another attempt, because no time is left."""
        whole = _whole(file, fetched) if fetched else None
        file.outcome = Outcome.LATE
        self._finish(file, whole)

    def _finish(self, file: _File, whole: tuple[Candidate, File] | None) -> None:
        """Keep *whole*, or else a file without audio. If there is neither, try fallbacks."""
        taken = whole or file.mute
        may_help = taken is None and file.fallbacks and file.outcome not in _NO_FALLBACK
        if may_help and not missing_programs():
            file.candidates = deque(filter(file.may_try, file.fallbacks))
            file.fallbacks, file.failed = (), 0
            if file.candidates:
                self._waiting.append(file)
                return
        self._finished.add(file.index)
        if taken is None:
            if file.is_cover:
                log.warning("no thumbnail", file=file.stem, outcome=file.outcome)
            else:
                self._reasons.append(file.outcome)
            return
        if whole and file.mute:
            file.mute[1].path.unlink()
        candidate, found = taken
        path = found.path.rename(found.path.with_name(file.stem + found.kind.extension))
        movie = found.movie
        # Instagram's dimensions may be missing, or belong to another file.
        width, height = movie.width or candidate.width, movie.height or candidate.height
        media = MediaItem(found.kind.type, path.name, candidate.url, found.size, width, height)
        if not file.is_cover:
            item, has_audio = file.item, found.kind.has_audio
            media = replace(
                media,
                alt_text=item.alt_text,
                duration=item.duration or movie.seconds,
                has_audio=item.has_audio if has_audio is None else has_audio,
                codec=movie.codec,
                bit_rate=bit_rate(found.size, movie.seconds or item.duration),
            )
        self._media[file.index] = media

    def _retry_refused(self) -> None:
        """Retry refused files with URLs from the latest description.

        If a file was refused with that description's URLs, get a new description first. This may
        take at most half of the remaining time, because the other files need the rest. The other
        files wait in the meantime, because the CDN would probably refuse them, too.
        """
        refused, self._refused = self._refused, []
        latest = [file for file in refused if file.generation == self._generation]
        if latest:
            self._refresh_description(latest)
        known = {file.index: file for file in (*self._waiting, *refused)}
        self._waiting.clear()
        for file in list(self._files(known)):
            if file.candidates:
                self._waiting.append(file)
            else:
                # All URLs in the description have already failed.
                self._advance(file)

    def _refresh_description(self, refused: Sequence[_File]) -> None:
        """Get a new description, perhaps from another source; on failure, finish *refused*."""
        step = self._renewals.popleft()
        without = self._description.sources if step is Step.OTHER else frozenset()
        try:
            found = self._find(without, self._fetch.seconds_left / 2)
        except ScrapeError as error:
            outcome = type(error).__name__
            log.warning("no fresh description", shortcode=self._fetch.shortcode, outcome=outcome)
            reasons = [*self._reasons, error]
            for file in refused:
                self._finish(file, None)
            if step is Step.FRESH:
                # The sources' error is more informative than the CDN's refusals.
                self._renewals.clear()
                self._reasons = reasons
            return
        # The other details of the first description remain valid.
        filled = found.filled_from(self._description)
        self._description = replace(
            self._description,
            is_carousel=filled.is_carousel,
            items=filled.items,
            sources=filled.sources,
            named_item=filled.named_item,
        )
        self._generation += 1

    def _stop(self) -> list[tuple[_File, Fetched | None]]:
        """Cancel attempts that have not started, wait for the others, and return all of them.

        An attempt that has started cannot be cancelled, but is over by the deadline.
        """
        # Do not wait for cancelled futures, which count as done only once the pool reaches them.
        running = {future: file for future, file in self._running.items() if not future.cancel()}
        wait(running)
        ended = [
            (file, None if future.exception() else future.result())
            for future, file in running.items()
        ]
        return [*ended, *((file, None) for file in (*self._waiting, *self._refused))]


def _whole(file: _File, fetched: Fetched) -> tuple[Candidate, File] | None:
    """Return the attempt's candidate and file if the file is whole, or else None.

    The first file without audio is kept in ``file.mute``.
    """
    if fetched.file is None:
        return None
    found = file.candidates[0], fetched.file
    if fetched.outcome is Outcome.WHOLE:
        return found
    if file.mute is None:
        file.mute = found
    else:
        fetched.file.path.unlink()
    return None
