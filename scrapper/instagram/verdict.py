"""What Instagram's answers mean, and what clients get when every source refused.

The meanings are those of captures and bug reports of autumn 2026; Instaloader's are read from the
source of Instaloader 4.16. Three things are decided here and nowhere else: the :class:`Reason`
of one refusal, which of several refusals counts, and whether to leave Instagram alone for a while.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3
from instaloader import exceptions

from scrapper.errors import (
    ChallengeRequired,
    DeadlineExceeded,
    InstagramChanged,
    InstagramFailed,
    InstagramUnreachable,
    PaceExceeded,
    PostForbidden,
    PostNotFound,
    RateLimited,
    ScrapeError,
)
from scrapper.instagram.transport import BodyTooLarge, HostRefused

__all__ = [
    "LIMITS",
    "Reason",
    "Refusal",
    "Refused",
    "chain_of",
    "reason_of_error",
    "reason_of_redirect",
    "reason_of_response",
    "retry_after_of",
    "verdict",
]

MAX_RETRY_AFTER_SECONDS = 24 * 60 * 60
"""Longest ``Retry-After`` that is believed."""

_MAX_RETRY_AFTER_DIGITS = 5
_COMPLAINT_BYTES = 1000
_HOSTS = ("", "instagram.com", "www.instagram.com")


class Reason(StrEnum):
    """Why a source gave no media. The values are labels of a metric."""

    GONE = "gone"
    """The page says that the post does not exist."""
    EMPTY = "empty"
    """The API has no such post: gone, most likely, or hidden from whoever asked."""
    NULL = "null"
    """``null`` where the post should be: the query is retired, or the post is gone."""
    RETIRED = "retired"
    """``execution error`` or ``invalid request``: the query is retired, or the post is gone."""
    GATED = "gated"
    """The post itself needs a login: age, region, private."""
    NEEDS_LOGIN = "needs_login"
    """The API refuses whoever is not logged in."""
    LOGIN_WALL = "login_wall"
    """The page is a login form: this address asked too much, or the post needs a login."""
    SESSION_ENDED = "session_ended"
    """Instagram ended the session."""
    CHALLENGE = "challenge"
    """The account must be confirmed in a browser."""
    RATE_LIMITED = "rate_limited"
    """429: a rate limit, without doubt."""
    SOFT_BLOCK = "soft_block"
    """401 with ``require_login`` and no message: this address is blocked for a while."""
    THROTTLED = "throttled"
    """The post's page, without any data: as good as a 429."""
    WAIT = "wait"
    """"Please wait a few minutes": a rate limit, or a retired query."""
    CLOSED = "closed"
    """This way is closed for a while: ``feedback_required``, or the page tokens are missing."""
    PACE = "pace"
    """Our own pace allows no request now; nothing was sent."""
    CHANGED = "changed"
    """The answer makes no sense to this version, or is larger than it may be."""
    FAILED = "failed"
    """Instagram's own 5xx."""
    UNREACHABLE = "unreachable"
    """No connection, or it broke."""
    LATE = "late"
    """No answer within the time that this source had."""


LIMITS = frozenset({Reason.RATE_LIMITED, Reason.SOFT_BLOCK, Reason.THROTTLED})
"""The signs of a limit: they slow the pace and, uncontradicted, begin a cool-down."""


class Refused(Exception):
    """A source gave no media; ``retry_after`` is in seconds, where Instagram or our pace said."""

    def __init__(self, reason: Reason, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Refusal(NamedTuple):
    """One source's refusal, and whether it was asked with a session."""

    source: str
    with_session: bool
    reason: Reason
    retry_after: float | None


_UNCERTAIN = frozenset({Reason.RETIRED, Reason.NULL, Reason.CLOSED})
_LOGIN_ASKED = frozenset({Reason.LOGIN_WALL, Reason.SESSION_ENDED})
_OWN: Mapping[Reason, type[ScrapeError]] = {
    Reason.CHANGED: InstagramChanged,
    Reason.NULL: InstagramChanged,
    Reason.RETIRED: InstagramChanged,
    Reason.FAILED: InstagramFailed,
    Reason.UNREACHABLE: InstagramUnreachable,
    Reason.LATE: DeadlineExceeded,
}
_MESSAGES = (
    ("wait a few minutes", Reason.WAIT),
    ("checkpoint_required", Reason.CHALLENGE),
    ("challenge_required", Reason.CHALLENGE),
    ("feedback_required", Reason.CLOSED),
    ("login_required", Reason.NEEDS_LOGIN),
    ("execution error", Reason.RETIRED),
    ("invalid request", Reason.RETIRED),
)
_STATUSES: Mapping[int, Reason] = {
    HTTPStatus.UNAUTHORIZED: Reason.NEEDS_LOGIN,
    HTTPStatus.FORBIDDEN: Reason.NEEDS_LOGIN,
    HTTPStatus.NOT_FOUND: Reason.EMPTY,
}
_NETWORK = (requests.ConnectionError, requests.Timeout, TimeoutError)
_UNREADABLE = (
    BodyTooLarge,
    HostRefused,
    exceptions.InstaloaderException,
    # Not an InstaloaderException.
    exceptions.AbortDownloadException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    # What Instaloader's own code raises over an answer of an unexpected shape.
    AssertionError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def verdict(refusals: Sequence[Refusal]) -> ScrapeError:
    """The error that stands for *refusals*, all of one scrape and none contradicted by media.

    A page that says that the post is gone counts first. Next comes a refusal that says how long to
    wait. An account that must be confirmed and a post that needs a login come before limits without
    a time; those come before what the API merely suggests. A login form in the page's place can
    mean anything, so it comes last.
    """
    reasons = {refusal.reason for refusal in refusals}
    if Reason.GONE in reasons:
        return PostNotFound()
    waits = [refusal for refusal in refusals if refusal.retry_after is not None]
    if waits:
        return _longest(waits)
    return (
        _by_certain(reasons, refusals)
        or _by_suggested(reasons, refusals)
        or next((_OWN[one.reason]() for one in refusals if one.reason in _OWN), None)
        or (PostForbidden() if reasons & _LOGIN_ASKED else RateLimited(cool_down=False))
    )


def _by_certain(reasons: Set[Reason], refusals: Sequence[Refusal]) -> ScrapeError | None:
    """What is known for certain of the account, the post or this address."""
    if Reason.CHALLENGE in reasons:
        return ChallengeRequired()
    if Reason.GATED in reasons:
        return PostForbidden()
    if reasons & LIMITS:
        return RateLimited(cool_down=_concerns_everybody(refusals))
    return None


def _by_suggested(reasons: Set[Reason], refusals: Sequence[Refusal]) -> ScrapeError | None:
    """What the API suggests, and a page that is a login form may confirm."""
    # Two queries that are null at once are hardly both retired.
    nulls = sum(refusal.reason is Reason.NULL for refusal in refusals)
    if Reason.EMPTY in reasons or nulls > 1:
        return PostNotFound()
    if Reason.WAIT in reasons:
        return RateLimited(cool_down=False)
    confirmed = Reason.LOGIN_WALL in reasons and reasons & _UNCERTAIN
    if Reason.NEEDS_LOGIN in reasons or confirmed:
        return PostForbidden()
    return None


def _longest(waits: Sequence[Refusal]) -> ScrapeError:
    limited = [refusal for refusal in waits if refusal.reason is not Reason.PACE]
    seconds = max(refusal.retry_after or 0.0 for refusal in limited or waits)
    if limited:
        return RateLimited(retry_after=seconds, cool_down=_concerns_everybody(limited))
    return PaceExceeded(retry_after=seconds)


def _concerns_everybody(refusals: Sequence[Refusal]) -> bool:
    """Whether a limit was met logged out; a limit on the account rests only the account."""
    return any(refusal.reason in LIMITS and not refusal.with_session for refusal in refusals)


def reason_of_response(response: requests.Response, *, with_session: bool) -> Refused | None:
    """Why the API refuses, or None where its answer is no refusal.

    *response* is one whose body was read.
    """
    status = response.status_code
    if response.is_redirect:
        return reason_of_redirect(response, with_session=with_session)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Refused(Reason.RATE_LIMITED, retry_after=retry_after_of(response))
    message, requires_login = _complaint(response)
    for words, reason in _MESSAGES:
        if words in message:
            ended = with_session and reason is Reason.NEEDS_LOGIN
            return Refused(Reason.SESSION_ENDED if ended else reason)
    if requires_login and not message:
        return Refused(Reason.SOFT_BLOCK)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Refused(Reason.FAILED)
    if status in _STATUSES:
        return Refused(_STATUSES[status])
    return None if status == HTTPStatus.OK and not message else Refused(Reason.CHANGED)


def reason_of_redirect(
    response: requests.Response, *, with_session: bool, page: bool = False
) -> Refused:
    """What a redirect away from the post means: a login form, a challenge, or nothing known."""
    target = urlsplit(response.headers.get("Location", ""))
    if target.netloc not in _HOSTS:
        return Refused(Reason.CHANGED)
    if target.path.startswith(("/challenge", "/accounts/suspended")):
        return Refused(Reason.CHALLENGE)
    if target.path in ("", "/") or target.path.startswith("/accounts/login"):
        if with_session:
            return Refused(Reason.SESSION_ENDED)
        return Refused(Reason.LOGIN_WALL if page else Reason.NEEDS_LOGIN)
    return Refused(Reason.CHANGED)


def reason_of_error(error: BaseException) -> Refused | None:
    """What an exception of Instaloader or requests means; None for a fault of ours.

    Instaloader's outermost exception says little: the whole chain of causes counts.
    """
    chain = tuple(chain_of(error))
    for link in chain:
        if isinstance(link, PaceExceeded):
            return Refused(Reason.PACE, retry_after=link.retry_after)
    for types, reason in ((_NETWORK, Reason.UNREACHABLE), (_UNREADABLE, Reason.CHANGED)):
        if any(isinstance(link, types) for link in chain):
            return Refused(reason)
    return None


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """*error*, what caused it, what caused that, and so on."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def retry_after_of(response: requests.Response) -> float | None:
    """Seconds from a ``Retry-After`` header, a day at most; None where it says nothing.

    Both forms of RFC 9110, section 10.2.3. A date without a zone is UTC.
    """
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        digits = value.lstrip("0") or "0"
        too_long = len(digits) > _MAX_RETRY_AFTER_DIGITS
        return float(
            MAX_RETRY_AFTER_SECONDS if too_long else min(int(digits), MAX_RETRY_AFTER_SECONDS)
        )
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(0.0, seconds), float(MAX_RETRY_AFTER_SECONDS))


def _complaint(response: requests.Response) -> tuple[str, bool]:
    """The message of a refusal and its ``require_login``; nothing for an answer that is fine.

    Any caption may hold the words in question, so answers that are fine are never searched.
    """
    try:
        data = response.json()
    except ValueError:
        if response.status_code == HTTPStatus.OK:
            return "", False
        return response.content[:_COMPLAINT_BYTES].decode("utf-8", "replace"), False
    if not isinstance(data, dict):
        return "", False
    if response.status_code == HTTPStatus.OK and data.get("status", "ok") == "ok":
        return "", False
    messages = [data.get("message"), *_error_messages(data)]
    text = " ".join(message for message in messages if isinstance(message, str))
    return text, data.get("require_login") is True


def _error_messages(data: dict[str, object]) -> Iterator[object]:
    errors = data.get("errors")
    for error in errors[:10] if isinstance(errors, list) else ():
        if isinstance(error, dict):
            yield error.get("message")
