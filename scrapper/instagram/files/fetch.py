"""One file of a post: whole, of the promised kind, and within bounds."""

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import requests
import structlog
import urllib3

from scrapper.errors import (
    DeadlineExceeded,
    InstagramChanged,
    InstagramFailed,
    InstagramUnreachable,
    MediaIncomplete,
    MediaTooLarge,
    MediaUnexpected,
    PostForbidden,
    PostNotFound,
    RateLimited,
    ScrapeError,
)
from scrapper.instagram.context import Context
from scrapper.instagram.media import Candidate, Kind
from scrapper.instagram.verdict import Reason, reason_of_error, retry_after_of
from scrapper.library.disk import check_room
from scrapper.library.post import MediaItem, Progress

__all__ = ["CandidatesRefused", "Target", "Wanted", "download"]

log = structlog.get_logger(__name__)

_COPY_BYTES = 256 * 1024
_TRIES = 2
_MAX_CANDIDATES = 5
_MAX_LENGTH_DIGITS = 15
_EXTENSIONS = {
    "video/mp4": ("video", ".mp4"),
    "image/jpeg": ("image", ".jpg"),
    "image/png": ("image", ".png"),
    "image/webp": ("image", ".webp"),
    "image/heic": ("image", ".heic"),
}
_UNTYPED = ("", "application/octet-stream", "binary/octet-stream")
_NOMINAL_EXTENSIONS = {"video": ".mp4", "image": ".jpg"}
_REFUSED: dict[int, type[ScrapeError]] = {
    HTTPStatus.BAD_REQUEST: InstagramChanged,
    HTTPStatus.FORBIDDEN: PostForbidden,
    HTTPStatus.NOT_FOUND: PostNotFound,
    HTTPStatus.GONE: PostNotFound,
}


class CandidatesRefused(Exception):
    """The CDN refused every candidate of a file; ``error`` is what the last refusal means."""

    def __init__(self, error: ScrapeError) -> None:
        super().__init__()
        self.error = error


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to download: any of its *candidates*, best first, under the name *stem*."""

    kind: Kind
    candidates: Sequence[Candidate]
    stem: str


@dataclass(slots=True)
class Target:
    """The folder for files, their progress, and their bounds; for several threads.

    A file may have *max_bytes*, and *keep_free* bytes of the disk stay free.
    """

    folder: Path
    progress: Progress
    max_bytes: int
    keep_free: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check_room(self, coming: int = 0) -> None:
        """See that there is room for *coming* bytes more.

        Raises:
            DiskFull: there is not.
        """
        check_room(self.folder, keep_free=self.keep_free, coming=coming)

    def expect(self, size: int) -> None:
        """Note that a file of *size* bytes is about to come, or refuse it."""
        self._check_size(size)
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
        """Note that *size* bytes of the *expected* ones came in vain."""
        with self._lock:
            self.progress.done -= size
            if self.progress.total is not None:
                self.progress.total -= expected

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise MediaTooLarge


def download(context: Context, target: Target, wanted: Wanted) -> MediaItem:
    """Download a file from the first of its candidates that the CDN gives.

    Its name is the stem and the extension of its type. A file that is cut is downloaded once more.

    Instaloader's ``download_pic`` is not used: it takes the extension from whatever type the
    server names, and mistakes a file that ends early for a whole one.

    Raises:
        CandidatesRefused: the CDN refused all of them: 400, 403, 404, or not its own host.
        ScrapeError: one of its subclasses, for everything else that is Instagram's doing.
        OSError: the file cannot be written.
    """
    for candidate in wanted.candidates[:_MAX_CANDIDATES]:
        try:
            return _download(context, target, wanted, candidate)
        except CandidatesRefused as error:
            refused = error
            outcome = type(error.error).__name__
            log.warning("media candidate refused", file=wanted.stem, outcome=outcome)
    raise refused


def _download(context: Context, target: Target, wanted: Wanted, of: Candidate) -> MediaItem:
    for tries_left in reversed(range(_TRIES)):
        try:
            return _download_once(context, target, wanted, of)
        except MediaIncomplete as error:
            log.warning("media file cut", file=wanted.stem, cause=repr(error.__cause__))
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def _download_once(context: Context, target: Target, wanted: Wanted, of: Candidate) -> MediaItem:
    response = _open(context, of.url)
    length = response.headers.get("Content-Length", "").strip()
    known = length.isascii() and length.isdecimal() and len(length) <= _MAX_LENGTH_DIGITS
    with closing(response):
        path = target.folder / (wanted.stem + _extension(response, wanted.kind))
        if known:
            target.expect(int(length))
        copy = _Copy(response, path, target)
        try:
            copy.run()
            encoded = "Content-Encoding" in response.headers
            if not copy.size or (known and not encoded and copy.size != int(length)):
                raise MediaIncomplete
        except (urllib3.exceptions.HTTPError, TimeoutError, MediaIncomplete) as error:
            path.unlink()
            target.take_back(copy.size, int(length) if known else 0)
            if context.transport.is_late:
                raise DeadlineExceeded from error
            raise MediaIncomplete from error
        except MediaTooLarge:
            path.unlink()
            raise
    return MediaItem(wanted.kind, path.name, of.url, copy.size, of.width, of.height)


def _open(context: Context, url: str) -> requests.Response:
    """The CDN's response, unread, to a request for *url*."""
    try:
        return context.get_raw(url)
    except Exception as error:
        if context.transport.is_late:
            raise DeadlineExceeded from error
        meaning = _meaning_of(error, context.transport.response)
        if meaning is None:
            raise
        raise meaning from error


def _meaning_of(error: Exception, response: requests.Response | None) -> Exception | None:
    if response is not None:
        status = response.status_code
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimited(retry_after=retry_after_of(response))
        if status in _REFUSED:
            return CandidatesRefused(_REFUSED[status]())
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return InstagramFailed()
    refused = reason_of_error(error)
    if refused is None:
        return None
    if refused.reason is Reason.UNREACHABLE:
        return InstagramUnreachable()
    # A redirect elsewhere counts, too: the next candidate may be on the right host.
    return CandidatesRefused(InstagramChanged())


@dataclass(slots=True)
class _Copy:
    """Writes the body of *response* to *path*; ``size`` is what it wrote so far."""

    response: requests.Response
    path: Path
    target: Target
    size: int = 0

    def run(self) -> None:
        with self.path.open("wb") as file:
            while piece := self.response.raw.read(_COPY_BYTES):
                self.size += file.write(piece)
                self.target.take(piece, self.size)


def _extension(response: requests.Response, kind: str) -> str:
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type in _UNTYPED:
        return _NOMINAL_EXTENSIONS[kind]
    actual, extension = _EXTENSIONS.get(content_type, ("", ""))
    if actual != kind:
        log.warning("media file of another type", promised=kind, content_type=content_type[:100])
        raise MediaUnexpected
    return extension
