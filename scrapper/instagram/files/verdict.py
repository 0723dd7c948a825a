"""Decides by one table what a try for a file means, and what comes next.

:mod:`scrapper.instagram.verdict` has the table for a post. Only a limit stops the post, apart from
a full disk and an abandoned scrape, which raise exceptions of their own. Any other failure affects
only that file, and only after all steps of its row were tried.
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
    "PASSING",
    "Outcome",
    "Promised",
    "Step",
    "next_step",
    "outcome_of_error",
    "outcome_of_file",
    "outcome_of_status",
    "worst",
]


class Outcome(StrEnum):
    """How a try for a file ended. The values are in log lines."""

    WHOLE = "whole"
    MUTE = "mute"
    """Whole, but without the sound that Instagram says it has."""
    LIMITED = "limited"
    LATE = "late"
    """The deadline passed."""
    SLOW = "slow"
    """The file would not be whole by the deadline, and another candidate or file waits."""
    STALLED = "stalled"
    """No byte came for a while."""
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    """The CDN's own 5xx."""
    CUT = "cut"
    UNEXPECTED = "unexpected"
    """The bytes are not the kind of file that Instagram promised."""
    REFUSED = "refused"
    """Another status, or a redirect elsewhere."""
    UNJOINED = "unjoined"
    """ffmpeg cannot join the video and its sound."""
    NO_FFMPEG = "no_ffmpeg"
    FORBIDDEN = "forbidden"
    GONE = "gone"
    TOO_LARGE = "too_large"


class Step(Enum):
    """What to do next for a file."""

    TAKE = auto()
    STOP = auto()
    """Give up the whole post."""
    AGAIN = auto()
    """The same candidate once more, after a moment."""
    NEXT = auto()
    """The next candidate."""
    FRESH = auto()
    """A fresh description of the post."""
    OTHER = auto()
    """Another source's description of the post."""
    MISSING = auto()
    """Go without the file."""


PASSING = frozenset({Outcome.FAILED, Outcome.UNREACHABLE})
"""Failures that may pass in a moment, so that the same candidate is tried again."""

_NEXT = (Step.NEXT, Step.FRESH, Step.OTHER)
_AGAIN = (Step.AGAIN, *_NEXT)
# By outcome, the steps to try, of which the first possible one counts, and the error of a post that
# has no file for that reason. The most temporary error comes first.
_TABLE: Mapping[Outcome, tuple[tuple[Step, ...], type[ScrapeError]]] = {
    Outcome.LIMITED: ((Step.STOP,), RateLimited),
    Outcome.LATE: ((), DeadlineExceeded),
    Outcome.SLOW: ((Step.NEXT, Step.AGAIN), DeadlineExceeded),
    Outcome.STALLED: (_NEXT, InstagramUnreachable),
    Outcome.UNREACHABLE: (_AGAIN, InstagramUnreachable),
    Outcome.FAILED: (_AGAIN, InstagramFailed),
    Outcome.CUT: (_AGAIN, MediaIncomplete),
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
    """The first step of the outcome's row that is *possible*; TAKE and STOP always are."""
    always = (Step.TAKE, Step.STOP)
    steps = (step for step in _TABLE[outcome][0] if step in always or step in possible)
    return next(steps, Step.MISSING)


def worst(reasons: Sequence[ScrapeError | Outcome]) -> ScrapeError:
    """The error of a post that has no file, for several *reasons*.

    That is the most temporary one: a file that may be there on another day must not count as gone.
    """
    errors = [one if isinstance(one, ScrapeError) else _TABLE[one][1]() for one in reasons]
    return min(errors, key=lambda one: _RANKS.index(type(one)) if type(one) in _RANKS else -1)


def outcome_of_status(status: int) -> Outcome | None:
    """What the CDN's status means, or None where a body comes with it."""
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.FAILED
    return None if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES else Outcome.REFUSED


def outcome_of_error(error: Exception, *, began: bool) -> Outcome | None:
    """What an exception of requests means; None for a fault of ours.

    *began* says whether a part of the file had come.
    """
    if any(isinstance(link, _TIMEOUTS) for link in chain_of(error)):
        return Outcome.STALLED
    refused = reason_of_error(error)
    if refused is None:
        return None
    if began:
        return Outcome.CUT
    # A redirect to another host is refused: the next candidate may be on the right one.
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
    """The outcome of a try that brought *size* bytes, of the *kind* that their beginning shows.

    *whole* says whether all of them came. *content_type* counts if none came: a text then means
    that something other than the file was sent.
    """
    if not size:
        return Outcome.UNEXPECTED if content_type.startswith("text/") else Outcome.CUT
    if kind is None or kind.type != promised:
        return Outcome.UNEXPECTED
    if not whole:
        return Outcome.CUT
    return Outcome.MUTE if with_sound and kind.has_audio is False else Outcome.WHOLE
