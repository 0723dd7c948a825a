"""Makes one attempt to download a file from a candidate's URLs, within limits."""

import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import requests
import structlog
import urllib3

from scrapper.errors import MediaTooLarge
from scrapper.ffmpeg import missing_programs
from scrapper.instagram.context import Context
from scrapper.instagram.files.joining import NotJoined, join
from scrapper.instagram.files.kinds import (
    ENCRYPTED,
    HEAD_BYTES,
    NOT_A_MOVIE,
    FileKind,
    Movie,
    ends_early,
    is_whole,
    kind_of,
    read_kind,
    read_movie,
)
from scrapper.instagram.files.verdict import (
    Outcome,
    Promised,
    outcome_of_error,
    outcome_of_file,
    outcome_of_status,
)
from scrapper.instagram.media import Candidate
from scrapper.instagram.verdict import retry_after_of
from scrapper.library.disk import check_room
from scrapper.library.post import Progress

__all__ = ["Fetched", "File", "Target", "Wanted", "fetch_file"]

log = structlog.get_logger(__name__)

_COPY_BYTES = 256 * 1024
_SLOW_BYTES_A_SECOND = 4 * _COPY_BYTES
_SPEED_AFTER_SECONDS = 2.0
# The joined file must have at least this share of the parts' bytes. It may be smaller than the
# parts, because they have fragment headers.
_JOINED_SHARE = 0.5
# ffmpeg gets this share of the remaining time. The rest is reserved for downloading a whole file in
# case ffmpeg hangs or is busy.
_JOINING_SHARE = 0.5
# After these outcomes, only another audio file can help. After others, a retry or a smaller video
# may help.
_ANOTHER_SOUND = (Outcome.GONE, Outcome.FORBIDDEN, Outcome.REFUSED, Outcome.UNEXPECTED)
_LENGTH = re.compile(r"[0-9]{1,15}")
_WHOLE_RANGE = re.compile(r"bytes +[0-9]+-[0-9]+/([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to download from *candidate* and store as *name* in the target's folder.

    *max_bytes* is the maximum size of the file, and *patience* the maximum duration of its download
    in seconds. A download that is too slow stops if *has_alternative* returns true.
    *other_part_size* is the size in bytes of the part that the file will be joined with.
    """

    kind: Promised
    candidate: Candidate
    name: str
    with_sound: bool = False
    max_bytes: float = math.inf
    patience: float = math.inf
    other_part_size: int = 0
    has_alternative: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class File:
    """A complete file; ``size`` is in bytes."""

    path: Path
    kind: FileKind
    size: int
    movie: Movie = NOT_A_MOVIE


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of an attempt, with either a *file* or a *cause* for the log.

    *size* is the size in bytes of a file that is too large, if known. *retry_after* is in seconds.
    """

    outcome: Outcome
    file: File | None = None
    retry_after: float | None = None
    cause: str = ""
    size: int | None = None


@dataclass(slots=True)
class Target:
    """The folder for a post's files, with their shared progress and limits; thread-safe.

    No file may be larger than *max_bytes*, and *keep_free* bytes of the disk must stay free.
    """

    folder: Path
    progress: Progress
    max_bytes: float
    keep_free: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check_room(self, extra_bytes: int = 0) -> None:
        """Check that the disk has room for *extra_bytes* more bytes.

        Raises:
            DiskFull: there is no room.
        """
        check_room(self.folder, keep_free=self.keep_free, extra_bytes=extra_bytes)

    def expect(self, size: int, other_part_size: int) -> None:
        """Add *size* bytes to the expected total.

        *other_part_size* is the size in bytes of the part that the file will be joined with.

        Raises:
            MediaTooLarge: the combined size is too large.
            DiskFull: there is no room for the file.
        """
        self._check_size(size + other_part_size)
        self.check_room(size)
        with self._lock:
            self.progress.expect(size)

    def receive(self, piece: bytes, size: int) -> None:
        """Count the bytes in *piece*, which was just received.

        *size* is the size in bytes of the file so far, including *piece*, plus the size of the part
        that the file will be joined with.

        Raises:
            MediaTooLarge: the combined size is too large.
            DiskFull: there is no room for the piece.
        """
        self._check_size(size)
        self.check_room()
        with self._lock:
            self.progress.done += len(piece)

    def discard(self, size: int, expected: int) -> None:
        """Subtract *size* from the bytes received, and *expected* from the bytes expected."""
        with self._lock:
            self.progress.done -= size
            if self.progress.total is not None:
                self.progress.total -= expected

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise MediaTooLarge


def fetch_file(context: Context, target: Target, wanted: Wanted) -> Fetched:
    """Make one attempt to download a file.

    Instaloader's ``download_pic`` is not used, because it derives the extension from the
    server's ``Content-Type``, and mistakes a truncated file for a complete one.

    Raises:
        DiskFull: there is no room for the file.
        OSError: the file cannot be written.
    """
    fetch = _fetch_parts if wanted.candidate.in_parts else _fetch
    fetched = fetch(context, target, wanted)
    if fetched.file is not None:
        return fetched
    outcome = fetched.outcome
    if outcome is not Outcome.LIMITED:
        if context.transport.is_late:
            outcome = Outcome.LATE
        elif wanted.candidate.unreliable:
            # Instagram sends such URLs when it withholds a file.
            outcome = Outcome.FORBIDDEN
    log.warning("media candidate failed", file=wanted.name, outcome=outcome, cause=fetched.cause)
    return replace(fetched, outcome=outcome)


def _fetch(context: Context, target: Target, wanted: Wanted) -> Fetched:
    try:
        response = context.get_raw(wanted.candidate.url)
    except Exception as error:
        outcome = outcome_of_error(error, began=False)
        if outcome is None:
            raise
        return Fetched(outcome, cause=type(error).__name__)
    with closing(response):
        refused = outcome_of_status(response.status_code)
        if refused is None:
            return _Download(response, wanted, target, context.transport.deadline).run()
        cause = f"status {response.status_code}"
        return Fetched(refused, retry_after=retry_after_of(response), cause=cause)


def _fetch_parts(context: Context, target: Target, wanted: Wanted) -> Fetched:
    """Download a video and its audio as separate files, and join them with ffmpeg."""
    if missing_programs():
        return Fetched(Outcome.NO_FFMPEG)
    parts: list[File] = []
    fetched, candidate = Fetched(Outcome.WHOLE), wanted.candidate
    video = replace(wanted, name=f"{wanted.name}.video", with_sound=False)
    try:
        # The audio comes first: it is smaller, and the video is useless without it.
        for url in candidate.sounds:
            sound = replace(candidate, url=url, width=None, height=None)
            of_sound = replace(video, kind="audio", candidate=sound, with_sound=True)
            fetched = _fetch(context, target, replace(of_sound, name=f"{wanted.name}.sound"))
            if fetched.outcome is Outcome.MUTE:
                fetched = _without_file(fetched, Outcome.UNEXPECTED)
            if fetched.outcome not in _ANOTHER_SOUND:
                break
        if fetched.file is not None:
            parts.append(fetched.file)
        elif candidate.sounds and not fetched.size:
            return fetched
        # If the audio is too large, the video is requested only to learn their combined size.
        sound_size = sum(part.size for part in parts) or fetched.size or 0
        fetched = _fetch(context, target, replace(video, other_part_size=sound_size))
        if fetched.file is None:
            return fetched
        parts.insert(0, fetched.file)
        fetched = _join(parts, target, wanted, context.transport.deadline)
        return fetched
    finally:
        for part in parts:
            part.path.unlink(missing_ok=True)
            if fetched.file is None:
                target.discard(part.size, part.size)


def _without_file(fetched: Fetched, outcome: Outcome) -> Fetched:
    if fetched.file is not None:
        fetched.file.path.unlink()
    return Fetched(outcome, cause=fetched.cause)


def _join(parts: Sequence[File], target: Target, wanted: Wanted, deadline: float) -> Fetched:
    path, parts_size = target.folder / wanted.name, sum(part.size for part in parts)
    target.check_room(parts_size)
    fetched, now = None, time.monotonic()
    deadline = now + (deadline - now) * _JOINING_SHARE
    try:
        join([(part.path, part.movie.start) for part in parts], path, deadline)
        with path.open("rb") as file:
            kind, movie, size = read_kind(file), read_movie(file), path.stat().st_size
            whole = kind is not None and is_whole(file, kind)
        # ffmpeg silently drops what it does not understand.
        large_enough = size >= parts_size * _JOINED_SHARE
        with_sound = any(part.kind.has_audio for part in parts)
        if not (whole and large_enough) or kind != FileKind("video", ".mp4", with_sound):
            fetched = Fetched(Outcome.UNJOINED, cause="the joined file is incomplete")
        elif size > target.max_bytes:
            fetched = Fetched(Outcome.TOO_LARGE, size=size)
        else:
            outcome = Outcome.MUTE if wanted.with_sound and not kind.has_audio else Outcome.WHOLE
            fetched = Fetched(outcome, File(path, kind, size, movie))
    except (NotJoined, TimeoutError) as error:
        # A full disk may be the reason that ffmpeg failed.
        target.check_room(parts_size)
        fetched = Fetched(Outcome.UNJOINED, cause=str(error))
    finally:
        if fetched is None or fetched.file is None:
            path.unlink(missing_ok=True)
    return fetched


class _Download:
    """Copies the body of *response* to a file."""

    def __init__(
        self, response: requests.Response, wanted: Wanted, target: Target, deadline: float
    ) -> None:
        self._response = response
        self._wanted = wanted
        self._target = target
        self._deadline = deadline
        self._path = target.folder / wanted.name
        self._length = _length_of(response)
        self._expected = 0
        self._kind: FileKind | None = None
        self._movie = NOT_A_MOVIE
        self._content_type = response.headers.get("Content-Type", "").strip().lower()
        self._size = 0
        self._started = time.monotonic()

    def run(self) -> Fetched:
        """Copy the body to the file and verify the file; delete the file if it is unusable."""
        fetched = None
        try:
            fetched = self._run()
            return fetched
        finally:
            if fetched is None or fetched.file is None:
                self._path.unlink(missing_ok=True)
                self._target.discard(self._size, self._expected)

    def _run(self) -> Fetched:
        cause = self._content_type[:100]
        try:
            if self._length is not None:
                self._target.expect(self._length, self._wanted.other_part_size)
                self._expected = self._length
            with self._path.open("w+b") as file:
                outcome = self._copy(file) or self._verify(file)
        except MediaTooLarge:
            size = None if self._length is None else self._length + self._wanted.other_part_size
            return Fetched(Outcome.TOO_LARGE, cause=cause, size=size)
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            outcome = outcome_of_error(error, began=True) or Outcome.CUT
            cause = type(error).__name__
        if self._kind is None or outcome not in (Outcome.WHOLE, Outcome.MUTE):
            return Fetched(outcome, cause=cause)
        return Fetched(outcome, File(self._path, self._kind, self._size, self._movie))

    def _copy(self, file: BinaryIO) -> Outcome | None:
        head = b""
        while piece := self._read():
            size = self._wanted.other_part_size + self._size + len(piece)
            self._target.receive(piece, size)
            self._size += file.write(piece)
            if len(head) < HEAD_BYTES:
                head += piece[:HEAD_BYTES]
                kind = kind_of(head)
                wrong = kind is None or (kind.type == "image") != (self._wanted.kind == "image")
                if wrong and len(head) >= HEAD_BYTES:
                    # Do not download the rest of the wrong file, which may be large.
                    return Outcome.UNEXPECTED
            if self._is_too_slow() and self._wanted.has_alternative():
                return Outcome.SLOW
        return None

    def _verify(self, file: BinaryIO) -> Outcome:
        self._kind = kind = read_kind(file)
        whole = self._size == self._length
        if self._length is None and kind is not None:
            whole = is_whole(file, kind)
        if kind is not None and kind.type != "image":
            self._movie = read_movie(file)
            if self._movie.codec == ENCRYPTED:
                self._kind = kind = None
            # ffmpeg would join a truncated part without reporting an error.
            whole = whole and not (self._wanted.candidate.in_parts and ends_early(file))
        return outcome_of_file(
            kind,
            self._wanted.kind,
            size=self._size,
            whole=whole,
            with_sound=self._wanted.with_sound,
            content_type=self._content_type,
        )

    def _read(self) -> bytes:
        raw = self._response.raw
        seconds = time.monotonic() - self._started
        # Return what a slow server has sent so far, so that the caller can measure the speed.
        if self._size < seconds * _SLOW_BYTES_A_SECOND or not self._size:
            return bytes(raw.read1(_COPY_BYTES))
        return bytes(raw.read(_COPY_BYTES))

    def _is_too_slow(self) -> bool:
        now = time.monotonic()
        seconds = now - self._started
        if self._length is None or seconds < _SPEED_AFTER_SECONDS:
            return False
        left = self._length - self._size
        return left * seconds > self._size * (self._deadline - now)


def _length_of(response: requests.Response) -> int | None:
    """Return the size in bytes of the whole file, or None if the response does not state it."""
    if "Content-Encoding" in response.headers:
        return None
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        found = _WHOLE_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        return int(found[1]) if found else None
    length = response.headers.get("Content-Length", "").strip()
    return int(length) if _LENGTH.fullmatch(length) else None
