"""One try for a file: from one URL, within bounds."""

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
_MEASURED_SECONDS = 2.0
# The joined file needs this share of both parts' bytes: the rest may be fragments' headers.
_JOINED_SHARE = 0.5
# The rest is time for a whole file, if ffmpeg hangs or others occupy it.
_JOINING_SHARE = 0.5
# After these, only another sound can help; after others, a retry or a smaller video may.
_ANOTHER_SOUND = (Outcome.GONE, Outcome.FORBIDDEN, Outcome.REFUSED, Outcome.UNEXPECTED)
_LENGTH = re.compile(r"[0-9]{1,15}")
_WHOLE_RANGE = re.compile(r"bytes +[0-9]+-[0-9]+/([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to try for: *candidate*, which becomes *name* in the target's folder.

    The file may be up to *max_bytes* large, and take *patience* seconds. *gives_way* says whether
    something else waits for the place of a file that is too slow. *besides* is the size in bytes of
    what is to be joined with it.
    """

    kind: Promised
    candidate: Candidate
    name: str
    with_sound: bool = False
    max_bytes: float = math.inf
    patience: float = math.inf
    besides: int = 0
    gives_way: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class File:
    """A complete file; ``size`` is in bytes."""

    path: Path
    kind: FileKind
    size: int
    movie: Movie = NOT_A_MOVIE


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of a try: with a *file*, or with a *cause* for the log.

    *size* is that of a file that is too large, if it is known.
    """

    outcome: Outcome
    file: File | None = None
    retry_after: float | None = None
    cause: str = ""
    size: int | None = None


@dataclass(slots=True)
class Target:
    """The folder for files, their progress, and their bounds; for several threads.

    A file may be up to *max_bytes* large, and *keep_free* bytes of the disk stay free.
    """

    folder: Path
    progress: Progress
    max_bytes: float
    keep_free: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check_room(self, coming: int = 0) -> None:
        """Check that there is room for *coming* more bytes.

        Raises:
            DiskFull: there is no room.
        """
        check_room(self.folder, keep_free=self.keep_free, coming=coming)

    def expect(self, size: int, besides: int) -> None:
        """Note that a file of *size* bytes is about to come, or refuse it."""
        self._check_size(size + besides)
        self.check_room(size)
        with self._lock:
            self.progress.expect(size)

    def take(self, piece: bytes, size: int) -> None:
        """Note a *piece* that makes the file *size* bytes long, or refuse it."""
        self._check_size(size)
        self.check_room()
        with self._lock:
            self.progress.done += len(piece)

    def take_back(self, size: int, expected: int) -> None:
        """Note that *size* of the *expected* bytes are of no use."""
        with self._lock:
            self.progress.done -= size
            if self.progress.total is not None:
                self.progress.total -= expected

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise MediaTooLarge


def fetch_file(context: Context, target: Target, wanted: Wanted) -> Fetched:
    """Try once for a file.

    Instaloader's ``download_pic`` is not used: it takes the extension from whatever type the
    server names, and mistakes a file that ends early for a whole one.

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
        elif wanted.candidate.doubtful:
            # Instagram withholds the file.
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
            return _Copy(response, wanted, target, context.transport.deadline).run()
        cause = f"status {response.status_code}"
        return Fetched(refused, retry_after=retry_after_of(response), cause=cause)


def _fetch_parts(context: Context, target: Target, wanted: Wanted) -> Fetched:
    """The video and the sound one after the other, and the file that ffmpeg makes of both."""
    if missing_programs():
        return Fetched(Outcome.NO_FFMPEG)
    parts: list[File] = []
    fetched, candidate = Fetched(Outcome.WHOLE), wanted.candidate
    video = replace(wanted, name=f"{wanted.name}.video", with_sound=False)
    try:
        # The sound is the smaller part: without it, the video is of no use.
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
        # If the sound is too large, the video is asked for only to know the size of both.
        besides = sum(one.size for one in parts) or fetched.size or 0
        fetched = _fetch(context, target, replace(video, besides=besides))
        if fetched.file is None:
            return fetched
        parts.insert(0, fetched.file)
        fetched = _join(parts, target, wanted, context.transport.deadline)
        return fetched
    finally:
        for part in parts:
            part.path.unlink(missing_ok=True)
            if fetched.file is None:
                target.take_back(part.size, part.size)


def _without_file(fetched: Fetched, outcome: Outcome) -> Fetched:
    if fetched.file is not None:
        fetched.file.path.unlink()
    return Fetched(outcome, cause=fetched.cause)


def _join(parts: Sequence[File], target: Target, wanted: Wanted, deadline: float) -> Fetched:
    path, coming = target.folder / wanted.name, sum(part.size for part in parts)
    target.check_room(coming)
    fetched, now = None, time.monotonic()
    deadline = now + (deadline - now) * _JOINING_SHARE
    try:
        join([(part.path, part.movie.start) for part in parts], path, deadline)
        with path.open("rb") as file:
            kind, movie, size = read_kind(file), read_movie(file), path.stat().st_size
            whole = kind is not None and is_whole(file, kind)
        # ffmpeg leaves out what it does not understand.
        most = size >= coming * _JOINED_SHARE
        with_sound = any(part.kind.has_audio for part in parts)
        if not (whole and most) or kind != FileKind("video", ".mp4", with_sound):
            fetched = Fetched(Outcome.UNJOINED, cause="what came out is not whole")
        elif size > target.max_bytes:
            fetched = Fetched(Outcome.TOO_LARGE, size=size)
        else:
            outcome = Outcome.MUTE if wanted.with_sound and not kind.has_audio else Outcome.WHOLE
            fetched = Fetched(outcome, File(path, kind, size, movie))
    except (NotJoined, TimeoutError) as error:
        # The cause may be that there was no room.
        target.check_room(coming)
        fetched = Fetched(Outcome.UNJOINED, cause=str(error))
    finally:
        if fetched is None or fetched.file is None:
            path.unlink(missing_ok=True)
    return fetched


class _Copy:
    """The body of *response* on its way to a file."""

    def __init__(
        self, response: requests.Response, wanted: Wanted, target: Target, deadline: float
    ) -> None:
        self._response = response
        self._wanted = wanted
        self._target = target
        self._deadline = deadline
        self._path = target.folder / wanted.name
        self._length = _length_of(response)
        self._noted = 0
        self._kind: FileKind | None = None
        self._movie = NOT_A_MOVIE
        self._content_type = response.headers.get("Content-Type", "").strip().lower()
        self._size = 0
        self._began = time.monotonic()

    def run(self) -> Fetched:
        """Copy the body, and check it; the file stays only if it can be used."""
        fetched = None
        try:
            fetched = self._run()
            return fetched
        finally:
            if fetched is None or fetched.file is None:
                self._path.unlink(missing_ok=True)
                self._target.take_back(self._size, self._noted)

    def _run(self) -> Fetched:
        cause = self._content_type[:100]
        try:
            if self._length is not None:
                self._target.expect(self._length, self._wanted.besides)
                self._noted = self._length
            with self._path.open("w+b") as file:
                outcome = self._copy(file) or self._judge(file)
        except MediaTooLarge:
            size = None if self._length is None else self._length + self._wanted.besides
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
            self._target.take(piece, self._wanted.besides + self._size + len(piece))
            self._size += file.write(piece)
            if len(head) < HEAD_BYTES:
                head += piece[:HEAD_BYTES]
                kind = kind_of(head)
                wrong = kind is None or (kind.type == "image") != (self._wanted.kind == "image")
                if wrong and len(head) >= HEAD_BYTES:
                    # Do not wait for the rest of a large file of another kind.
                    return Outcome.UNEXPECTED
            if self._is_too_slow() and self._wanted.gives_way():
                return Outcome.SLOW
        return None

    def _judge(self, file: BinaryIO) -> Outcome:
        self._kind = kind = read_kind(file)
        whole = self._size == self._length
        if self._length is None and kind is not None:
            whole = is_whole(file, kind)
        if kind is not None and kind.type != "image":
            self._movie = read_movie(file)
            if self._movie.codec == ENCRYPTED:
                self._kind = kind = None
            # ffmpeg would not report that the end of a part is missing.
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
        seconds = time.monotonic() - self._began
        # Read whatever has come of a slow file, so that this loop sees how slow it is.
        if self._size < seconds * _SLOW_BYTES_A_SECOND or not self._size:
            return bytes(raw.read1(_COPY_BYTES))
        return bytes(raw.read(_COPY_BYTES))

    def _is_too_slow(self) -> bool:
        now = time.monotonic()
        seconds = now - self._began
        if self._length is None or seconds < _MEASURED_SECONDS:
            return False
        left = self._length - self._size
        return left * seconds > self._size * (self._deadline - now)


def _length_of(response: requests.Response) -> int | None:
    """The size in bytes of the whole file, if the response names it."""
    if "Content-Encoding" in response.headers:
        return None
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        found = _WHOLE_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        return int(found[1]) if found else None
    length = response.headers.get("Content-Length", "").strip()
    return int(length) if _LENGTH.fullmatch(length) else None
