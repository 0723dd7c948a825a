"""What Instagram's answers mean, and the error for clients when every source refused.

The meanings come from captures and bug reports of autumn 2026; those of Instaloader's exceptions,
from the source of Instaloader 4.16. Three things are decided here and nowhere else: the
:class:`Reason` of one refusal, which of several refusals counts, and whether to leave Instagram
alone for a while.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

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
from scrapper.instagram.safe_json import parse_json
from scrapper.instagram.transport import BodyTooLarge, HostRefused

__all__ = [
    "LIMITS",
    "SAME_QUERY",
    "Reason",
    "Refusal",
    "Refused",
    "chain_of",
    "location_of",
    "reason_of_error",
    "reason_of_redirect",
    "reason_of_response",
    "retry_after_of",
    "seen_in",
    "verdict",
]

MAX_RETRY_AFTER_SECONDS = 24 * 60 * 60.0
"""The longest ``Retry-After`` that counts."""

_COMPLAINT_CHARACTERS = 1000
_MOST_ERRORS = 10
_MOST_KEYS = 20
_SEEN_CHARACTERS = 200
_HOSTS = (None, "instagram.com", "www.instagram.com")


class Reason(StrEnum):
    """Why a source gave no media. The values are labels of a metric."""

    GONE = "gone"
    """The page says that the post does not exist."""
    EMPTY = "empty"
    """The API has no such post: gone, most likely, or hidden from this client."""
    NULL = "null"
    """``null`` where the post should be: the query is retired, or the post is gone."""
    RETIRED = "retired"
    """``execution error`` or ``invalid request``: the query is retired, or the post is gone."""
    GATED = "gated"
    """The post itself needs a login, or is not shown in this country: age, region, private."""
    NEEDS_LOGIN = "needs_login"
    """The API refuses clients that are not logged in."""
    LOGIN_WALL = "login_wall"
    """The page is a login form: this address asked too much, or the post needs a login."""
    SESSION_ENDED = "session_ended"
    """Instagram ended the session."""
    CHALLENGE = "challenge"
    """A person must look at the account in a browser."""
    STALE = "stale"
    """The page tokens, or the session, are out of date."""
    RATE_LIMITED = "rate_limited"
    """429, or the same as an error in a 200: certainly a rate limit."""
    SOFT_BLOCK = "soft_block"
    """401 with ``require_login`` and no message: this address is blocked for a while."""
    THROTTLED = "throttled"
    """The post's page, without any data: as good as a 429."""
    WAIT = "wait"
    """"Please wait a few minutes": a rate limit, or a retired query."""
    CLOSED = "closed"
    """The source is closed for a while: ``feedback_required``, the page tokens are missing, or
    Instagram wants the TLS handshake of a browser."""
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
"""The signs of a limit: they slow the pace and, unless contradicted, begin a cool-down."""

SAME_QUERY: Mapping[str, str] = {"root_query": "api"}
"""Sources that send the same query as another one, so they have the same files and gaps."""


class Refused(Exception):
    """A source gave no media; ``retry_after`` is in seconds, if Instagram or our pace gave it."""

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
_WALLS = frozenset({Reason.LOGIN_WALL, Reason.STALE})
_LOGIN_ASKED = _WALLS | {Reason.SESSION_ENDED}
_OWN: Mapping[Reason, type[ScrapeError]] = {
    Reason.CHANGED: InstagramChanged,
    Reason.NULL: InstagramChanged,
    Reason.RETIRED: InstagramChanged,
    Reason.FAILED: InstagramFailed,
    Reason.UNREACHABLE: InstagramUnreachable,
    Reason.LATE: DeadlineExceeded,
}
# Words about the account come first: to leave the account alone is always right.
_WORDS = (
    ("checkpoint_required", Reason.CHALLENGE),
    ("challenge_required", Reason.CHALLENGE),
    ("consent_required", Reason.CHALLENGE),
    ("wait a few minutes", Reason.WAIT),
    ("geoblock_required", Reason.GATED),
    ("feedback_required", Reason.CLOSED),
    ("login_required", Reason.NEEDS_LOGIN),
)
_RETIRED_WORDS = ("execution error", "invalid request")
_DELETED = re.compile(r"\b(?:media|post)\b.{0,40}\b(?:deleted|removed|not found|unavailable)\b")
_CODES = {
    "1675004": Reason.RATE_LIMITED,
    "1357004": Reason.STALE,
    "1357054": Reason.CLOSED,
}
_CONSENT = "/consent"
_ACCOUNT_PATHS = (
    "/challenge",
    "/auth_platform",
    "/terms/unblock",
    "/privacy/checks",
    "/accounts/suspended",
    "/accounts/disabled",
    _CONSENT,
)
_NO_JSON = object()
_QUERY = re.compile(r"\?[^\s\"'<>]*")
_TOKEN = re.compile(
    r"""(\\?"(?:[a-z_]*(?:token|nonce|secret)|lsd|fb_dtsg|sessionid|[lf])\\?"\s?:\s?\\?")[^"\\]*""",
    re.IGNORECASE,
)
_TIMED = frozenset({Reason.RATE_LIMITED, Reason.SOFT_BLOCK, Reason.WAIT})
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
    # What Instaloader's code raises for an answer of an unexpected shape.
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
    a time; those come before what the API merely suggests. A login form instead of the page can
    mean anything, so it comes last. If a login is needed and was used, the login's own trouble
    counts.
    """
    error = _of_all(refusals)
    return (_by_session(refusals) if type(error) is PostForbidden else None) or error


def _of_all(refusals: Sequence[Refusal]) -> ScrapeError:
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


def _by_session(refusals: Sequence[Refusal]) -> ScrapeError | None:
    """What kept the session from a post that needs it; None if the account may not see the post."""
    reasons = [refusal.reason for refusal in refusals if refusal.with_session]
    if not {Reason.GATED, Reason.SESSION_ENDED}.isdisjoint(reasons):
        return None
    if not (LIMITS | {Reason.WAIT, Reason.CLOSED}).isdisjoint(reasons):
        return RateLimited(cool_down=_concerns_everybody(refusals))
    return next((_OWN[one]() for one in reasons if one in _OWN and one not in _UNCERTAIN), None)


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
    """What the API suggests; a login form instead of the page may confirm it."""
    # Two queries that are null at once are hardly both retired.
    nulls = {
        SAME_QUERY.get(refusal.source, refusal.source)
        for refusal in refusals
        if refusal.reason is Reason.NULL
    }
    if Reason.EMPTY in reasons or len(nulls) > 1:
        return PostNotFound()
    if Reason.WAIT in reasons:
        return RateLimited(cool_down=False)
    confirmed = reasons & _WALLS and reasons & _UNCERTAIN
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
    """Whether a limit was met logged out; after one on the account, only the account rests."""
    return any(refusal.reason in LIMITS and not refusal.with_session for refusal in refusals)


def reason_of_response(response: requests.Response, *, with_session: bool) -> Refused | None:
    """Why the API refuses, or None if its answer is not a refusal.

    The body of *response* was read and has no media: with media, an error would only be a warning.
    """
    if response.is_redirect:
        return reason_of_redirect(response, with_session=with_session)
    reason = _reason_of_answer(response, with_session=with_session)
    if reason is None:
        return None
    return Refused(reason, retry_after=retry_after_of(response) if reason in _TIMED else None)


def _reason_of_answer(response: requests.Response, *, with_session: bool) -> Reason | None:
    status, ok = response.status_code, response.status_code == HTTPStatus.OK
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Reason.RATE_LIMITED
    said = _Complaint.of(response)
    reason = said.reason(with_session=with_session)
    if reason is None and (not ok or said.failed):
        reason = said.reason_of_failure(with_session=with_session)
    if reason is None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Reason.FAILED
    unknown = Reason.CHANGED if not ok or (said.failed and said.words) else None
    return reason or _STATUSES.get(status, unknown)


def reason_of_redirect(response: requests.Response, *, with_session: bool) -> Refused:
    """What a redirect away from the post means: a login form, a challenge, or something unknown."""
    target = location_of(response)
    if target is None or target.hostname not in _HOSTS:
        return Refused(Reason.CHANGED)
    path = target.path
    consent = path.startswith(_CONSENT) and not with_session
    if path.startswith(_ACCOUNT_PATHS) and not consent:
        return Refused(Reason.CHALLENGE)
    if consent or path in ("", "/") or path.startswith("/accounts/login"):
        return Refused(Reason.SESSION_ENDED if with_session else Reason.NEEDS_LOGIN)
    return Refused(Reason.CHANGED)


def location_of(response: requests.Response) -> SplitResult | None:
    """Where a redirect leads, relative or not; None if its ``Location`` is not a URL."""
    try:
        target = urlsplit(response.headers.get("Location", ""))
        # A port that is not a number raises only when it is read.
        _ = target.port
    except ValueError:
        return None
    return target


def seen_in(response: requests.Response, secrets: Collection[str] = ()) -> dict[str, Any]:
    """A summary of an unexpected answer, for the log.

    Its status, the keys of its JSON, and the first 200 characters. Left out are *secrets*, what
    looks like a token, and the queries of URLs.
    """
    start = response.content[: 10 * _SEEN_CHARACTERS].decode("utf-8", "replace")
    for secret in secrets:
        start = start.replace(secret, "[secret]")
    start = _TOKEN.sub(r"\1[secret]", _QUERY.sub("?[scrubbed]", start))
    data = _json_of(response)
    keys = [str(key)[:50] for key in data][:_MOST_KEYS] if isinstance(data, dict) else None
    return {"status": response.status_code, "keys": keys, "start": start[:_SEEN_CHARACTERS]}


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
    """Seconds from a ``Retry-After`` header, a day at most; None if it is missing or invalid.

    Both forms of RFC 9110, section 10.2.3. A date without a zone is UTC.
    """
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


class _Complaint(NamedTuple):
    """The error texts of an answer beside its data, in lower case; empty for a good answer.

    Any caption may hold the words in question, so the data itself is never searched.
    """

    words: str
    codes: tuple[str, ...] = ()
    requires_login: bool = False
    failed: bool = False
    is_json: bool = False

    @classmethod
    def of(cls, response: requests.Response) -> "_Complaint":
        data, ok = _json_of(response), response.status_code == HTTPStatus.OK
        if data is _NO_JSON:
            start = b"" if ok else response.content[:_COMPLAINT_CHARACTERS]
            return cls(start.decode("utf-8", "replace").lower())
        if not isinstance(data, dict):
            return cls("")
        listed = data.get("errors")
        errors = [data, *(listed[:_MOST_ERRORS] if isinstance(listed, list) else ())]
        errors = [error for error in errors if isinstance(error, dict)]
        texts = [error.get(key) for error in errors for key in ("message", "error_type")]
        codes = [error.get(key) for error in errors for key in ("error", "code")]
        return cls(
            " ".join(
                text[:_COMPLAINT_CHARACTERS].lower() for text in texts if isinstance(text, str)
            ).strip(),
            tuple(str(code) for code in codes if isinstance(code, int | str)),
            data.get("require_login") is True,
            data.get("status", "ok") != "ok",
            is_json=True,
        )

    def reason(self, *, with_session: bool) -> Reason | None:
        """What the complaint means in any answer; None if that is uncertain."""
        for code in self.codes:
            if code in _CODES:
                return _CODES[code]
        for word, reason in _WORDS:
            if word in self.words:
                ended = with_session and reason is Reason.NEEDS_LOGIN
                return Reason.SESSION_ENDED if ended else reason
        return None

    def reason_of_failure(self, *, with_session: bool) -> Reason | None:
        """What else the complaint means in an answer that failed."""
        if any(word in self.words for word in _RETIRED_WORDS):
            return Reason.RETIRED
        if self.is_json and _DELETED.search(self.words):
            # Logged out, only the page knows for certain.
            return Reason.GONE if with_session else Reason.EMPTY
        return Reason.SOFT_BLOCK if self.requires_login and not self.words else None


def _json_of(response: requests.Response) -> Any:
    try:
        return parse_json(response.content)
    except ValueError:
        return _NO_JSON
