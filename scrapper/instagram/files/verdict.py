"""Decides, with one table of outcomes, what to do after each attempt to download a file.

The corresponding table for posts is in :mod:`scrapper.instagram.verdict`. A rate limit is the only
outcome that stops the download of the whole post. A full disk and an abandoned scrape also stop the
download, but by raising exceptions of their own. Every other outcome affects a single file, and the
service gives up on that file only when none of the steps in the outcome's row is possible.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum, StrEnum, auto
from http import HTTPStatus
from typing import Literal

import requests
import urllib3

from scrapper.errors import (
    DeadlineExceeded,
    FFmpegMissing,
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
from scrapper.instagram.files.kinds import FileKind
from scrapper.instagram.verdict import Reason, chain_of, reason_of_error

Promised = Literal["video", "image", "audio"]

__all__ = [
    "TRANSIENT",
    "Outcome",
    "Promised",
    "Step",
    "error_to_report",
    "next_step",
    "outcome_of_error",
    "outcome_of_file",
    "outcome_of_status",
]


class Outcome(StrEnum):
    """How a download attempt ended. The values appear in log lines."""

    WHOLE = "whole"
    MUTE = "mute"
    """Whole, but without the audio that Instagram promised."""
    LIMITED = "limited"
    LATE = "late"
    """The deadline passed."""
    SLOW = "slow"
    """Too slow to finish by the deadline, while another candidate or file is waiting."""
    STALLED = "stalled"
    """No data arrived for a while."""
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    """A 5xx from the CDN."""
    CUT = "cut"
    UNEXPECTED = "unexpected"
    """The bytes are not the kind of file that Instagram promised."""
    REFUSED = "refused"
    """Another error status, or a redirect to a host that is not allowed."""
    UNJOINED = "unjoined"
    """ffmpeg could not join the video and its audio."""
    NO_FFMPEG = "no_ffmpeg"
    FORBIDDEN = "forbidden"
    GONE = "gone"
    TOO_LARGE = "too_large"


class Step(Enum):
    """What to do next for a file."""

    TAKE = auto()
    STOP = auto()
    """Give up on the whole post."""
    RETRY = auto()
    """Try the same candidate again, after a pause if the failure is transient."""
    NEXT = auto()
    """Try the next candidate."""
    FRESH = auto()
    """Get a fresh description of the post."""
    OTHER = auto()
    """Get another source's description of the post."""
    MISSING = auto()
    """Give up on the file."""


TRANSIENT = frozenset({Outcome.FAILED, Outcome.UNREACHABLE})
"""Failures that may not last, so the same candidate is retried after a pause."""

_NEXT = (Step.NEXT, Step.FRESH, Step.OTHER)
_RETRY = (Step.RETRY, *_NEXT)
# Each outcome's steps in order of preference, and the error to report if the outcome is the reason
# that no file of the post could be downloaded. The errors most likely to be temporary come first.
_TABLE: Mapping[Outcome, tuple[tuple[Step, ...], type[ScrapeError]]] = {
    Outcome.LIMITED: ((Step.STOP,), RateLimited),
    Outcome.LATE: ((), DeadlineExceeded),
    Outcome.SLOW: ((Step.NEXT, Step.RETRY), DeadlineExceeded),
    Outcome.STALLED: (_NEXT, InstagramUnreachable),
    Outcome.UNREACHABLE: (_RETRY, InstagramUnreachable),
    Outcome.FAILED: (_RETRY, InstagramFailed),
    Outcome.CUT: (_RETRY, MediaIncomplete),
    Outcome.UNEXPECTED: (_NEXT, MediaUnexpected),
    Outcome.REFUSED: (_NEXT, InstagramChanged),
    Outcome.UNJOINED: ((Step.NEXT,), MediaUnexpected),
    Outcome.NO_FFMPEG: ((Step.NEXT, Step.OTHER), FFmpegMissing),
    Outcome.FORBIDDEN: (_NEXT, PostForbidden),
    Outcome.GONE: (_NEXT, PostNotFound),
    Outcome.TOO_LARGE: ((Step.NEXT,), MediaTooLarge),
    Outcome.MUTE: ((Step.NEXT, Step.TAKE), MediaUnexpected),
    Outcome.WHOLE: ((Step.TAKE,), MediaUnexpected),
}
_RANKS = list(dict.fromkeys(error for _, error in _TABLE.values()))
_STATUSES: Mapping[int, Outcome] = {
    HTTPStatus.FORBIDDEN: Outcome.FORBIDDEN,
    HTTPStatus.NOT_FOUND: Outcome.GONE,
    HTTPStatus.GONE: Outcome.GONE,
    HTTPStatus.TOO_MANY_REQUESTS: Outcome.LIMITED,
}
_TIMEOUTS = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)


def next_step(outcome: Outcome, possible: Collection[Step]) -> Step:
    """Return the first step of the outcome's row that is in *possible*, or MISSING if none is.

    TAKE and STOP always count as possible.
    """
    always = (Step.TAKE, Step.STOP)
    steps = (step for step in _TABLE[outcome][0] if step in always or step in possible)
    return next(steps, Step.MISSING)


def error_to_report(reasons: Sequence[ScrapeError | Outcome]) -> ScrapeError:
    """Return the error to report if no file of a post could be downloaded.

    *reasons* are the reasons why the files are missing. The error returned is the one that is most
    likely to be temporary, because a file that may be back tomorrow must not count as gone.
    """
    errors = [
        reason if isinstance(reason, ScrapeError) else _TABLE[reason][1]() for reason in reasons
    ]
    return min(errors, key=lambda error: _RANKS.index(type(error)) if type(error) in _RANKS else -1)


def outcome_of_status(status: int) -> Outcome | None:
    """Map an HTTP status from the CDN to an outcome, or to None if the response has the file."""
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.FAILED
    return None if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES else Outcome.REFUSED


def outcome_of_error(error: Exception, *, began: bool) -> Outcome | None:
    """Map an exception from requests to an outcome; return None for any other exception.

    *began* is true if part of the file has arrived.
    """
    if any(isinstance(link, _TIMEOUTS) for link in chain_of(error)):
        return Outcome.STALLED
    refused = reason_of_error(error)
    if refused is None:
        return None
    if began:
        return Outcome.CUT
    # Redirects to hosts that are not allowed are refused. The next candidate may be on an allowed
    # host.
    unreachable = refused.reason is Reason.UNREACHABLE
    return Outcome.UNREACHABLE if unreachable else Outcome.REFUSED


def outcome_of_file(
    kind: FileKind | None,
    promised: Promised,
    *,
    size: int,
    whole: bool,
    with_sound: bool,
    content_type: str,
) -> Outcome:
    """Return the outcome of an attempt that received a file of this *size* (bytes) and *kind*.

    *whole* is true if the file is complete. *content_type* matters only if the file is empty: a
    text type then means that the response was not the file.
    """
    if not size:
        return Outcome.UNEXPECTED if content_type.startswith("text/") else Outcome.CUT
    if kind is None or kind.type != promised:
        return Outcome.UNEXPECTED
    if not whole:
        return Outcome.CUT
    return Outcome.MUTE if with_sound and kind.has_audio is False else Outcome.WHOLE
