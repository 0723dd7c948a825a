"""Interprets Instagram's answers, and chooses the error for clients if every source refuses a post.

The meaning of each answer is known from captured responses and bug reports of autumn 2026. The
meaning of each Instaloader exception is known from the source code of Instaloader 4.16. Only this
module decides the :class:`Reason` of a refusal, which of several refusals counts, and whether to
begin a cool-down.
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
    "summary_of",
    "verdict",
]

MAX_RETRY_AFTER_SECONDS = 24 * 60 * 60.0
"""The maximum ``Retry-After`` in seconds. Longer values are capped."""

_MAX_ERROR_CHARACTERS = 1000
_MAX_ERRORS = 10
_MAX_KEYS = 20
_SUMMARY_CHARACTERS = 200
_HOSTS = (None, "instagram.com", "www.instagram.com")


class Reason(StrEnum):
    """Why a source returned no media. The values are labels of a metric."""

    GONE = "gone"
    """The page says that the post does not exist."""
    EMPTY = "empty"
    """The API has no such post: it is most likely gone, but may be hidden from this client."""
    NULL = "null"
    """``null`` where the post should be: the query is retired, or the post is gone."""
    RETIRED = "retired"
    """``execution error`` or ``invalid request``: the query is retired, or the post is gone."""
    GATED = "gated"
    """The post is private or age-restricted and needs a login, or it is hidden in this country."""
    NEEDS_LOGIN = "needs_login"
    """The API refuses clients that are not logged in."""
    LOGIN_WALL = "login_wall"
    """The page is a login form: this address sent too many requests, or the post needs a login."""
    SESSION_ENDED = "session_ended"
    """Instagram has ended the session."""
    CHALLENGE = "challenge"
    """The account must be confirmed in a browser."""
    STALE = "stale"
    """The page tokens or the session are out of date."""
    RATE_LIMITED = "rate_limited"
    """429, or an equivalent error code in a 200: certainly a rate limit."""
    SOFT_BLOCK = "soft_block"
    """401 with ``require_login`` and no message: this address is blocked for a while."""
    THROTTLED = "throttled"
    """The post's page without the post's media: equivalent to a 429."""
    WAIT = "wait"
    """"Please wait a few minutes": a rate limit, or a retired query."""
    CLOSED = "closed"
    """The source is temporarily unavailable: ``feedback_required``, missing page tokens, or a
    demand for a browser's TLS handshake.
    """
    PACE = "pace"
    """The service's own pace allows no request now; nothing was sent."""
    CHANGED = "changed"
    """This version of the service does not understand the answer, or the answer is too large."""
    FAILED = "failed"
    """Instagram answered with a 5xx status."""
    UNREACHABLE = "unreachable"
    """The connection failed or broke."""
    LATE = "late"
    """No answer arrived in the time allotted to the source."""


LIMITS = frozenset({Reason.RATE_LIMITED, Reason.SOFT_BLOCK, Reason.THROTTLED})
"""Signs of a rate limit. They slow the pace and, if no source has the post, begin a cool-down."""

SAME_QUERY: Mapping[str, str] = {"root_query": "api"}
"""Maps a source to another one whose query returns the same data, and so lacks the same files."""


class Refused(Exception):
    """A source returned no media; ``retry_after`` is in seconds, if known."""

    def __init__(self, reason: Reason, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Refusal(NamedTuple):
    """A source's refusal; ``with_session`` is whether the source used a session."""

    source: str
    with_session: bool
    reason: Reason
    retry_after: float | None


_UNCERTAIN = frozenset({Reason.RETIRED, Reason.NULL, Reason.CLOSED})
_WALLS = frozenset({Reason.LOGIN_WALL, Reason.STALE})
_LOGIN_REQUIRED = _WALLS | {Reason.SESSION_ENDED}
_ERRORS: Mapping[Reason, type[ScrapeError]] = {
    Reason.CHANGED: InstagramChanged,
    Reason.NULL: InstagramChanged,
    Reason.RETIRED: InstagramChanged,
    Reason.FAILED: InstagramFailed,
    Reason.UNREACHABLE: InstagramUnreachable,
    Reason.LATE: DeadlineExceeded,
}
# Phrases about the account come first, because pausing the account is always safe.
_PHRASES = (
    ("checkpoint_required", Reason.CHALLENGE),
    ("challenge_required", Reason.CHALLENGE),
    ("consent_required", Reason.CHALLENGE),
    ("wait a few minutes", Reason.WAIT),
    ("geoblock_required", Reason.GATED),
    ("feedback_required", Reason.CLOSED),
    ("login_required", Reason.NEEDS_LOGIN),
)
_RETIRED_PHRASES = ("execution error", "invalid request")
_DELETED = re.compile(r"\b(?:media|post)\b.{1,40}\b(?:deleted|removed|not found|unavailable)\b")
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
_WITH_RETRY_AFTER = frozenset({Reason.RATE_LIMITED, Reason.SOFT_BLOCK, Reason.WAIT})
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
    # Instaloader raises these for an answer in an unexpected shape.
    AssertionError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def verdict(refusals: Sequence[Refusal]) -> ScrapeError:
    """Return the error for clients, from the *refusals* of all sources in the search for a post.

    The refusal with the highest rank decides, even if it was not the first. The ranks are, from
    highest to lowest: the page says that the post is gone; a refusal states how long to wait; the
    account must be confirmed; the post needs a login; there is a rate limit of unknown duration;
    the API suggests a cause; the page is a login form, which can mean anything. If the post needs a
    login and a session was used, the error that kept the session from getting the post takes
    precedence over the need for a login.
    """
    error = _overall(refusals)
    return (_session_failure(refusals) if type(error) is PostForbidden else None) or error


def _overall(refusals: Sequence[Refusal]) -> ScrapeError:
    reasons = {refusal.reason for refusal in refusals}
    if Reason.GONE in reasons:
        return PostNotFound()
    waits = [refusal for refusal in refusals if refusal.retry_after is not None]
    if waits:
        return _longest(waits)
    return (
        _certain(reasons, refusals)
        or _suggested(reasons, refusals)
        or next((_ERRORS[one.reason]() for one in refusals if one.reason in _ERRORS), None)
        or (PostForbidden() if reasons & _LOGIN_REQUIRED else RateLimited(cool_down=False))
    )


def _session_failure(refusals: Sequence[Refusal]) -> ScrapeError | None:
    """Return the error that kept the session from getting a post that needs it.

    Return None if the session has ended, if its account is not allowed to see the post, or if no
    refusal is conclusive.
    """
    reasons = [refusal.reason for refusal in refusals if refusal.with_session]
    if not {Reason.GATED, Reason.SESSION_ENDED}.isdisjoint(reasons):
        return None
    if not (LIMITS | {Reason.WAIT, Reason.CLOSED}).isdisjoint(reasons):
        return RateLimited(cool_down=_limited_logged_out(refusals))
    failures = [reason for reason in reasons if reason in _ERRORS and reason not in _UNCERTAIN]
    return _ERRORS[failures[0]]() if failures else None


def _certain(reasons: Set[Reason], refusals: Sequence[Refusal]) -> ScrapeError | None:
    """Return the error if the refusals leave no doubt about it, and None otherwise."""
    if Reason.CHALLENGE in reasons:
        return ChallengeRequired()
    if Reason.GATED in reasons:
        return PostForbidden()
    if reasons & LIMITS:
        return RateLimited(cool_down=_limited_logged_out(refusals))
    return None


def _suggested(reasons: Set[Reason], refusals: Sequence[Refusal]) -> ScrapeError | None:
    """Return the error that the API's refusals suggest, or None if they suggest none.

    A login form instead of the page can confirm what the API suggests.
    """
    # If two different queries return null, it is unlikely that both are retired.
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
        return RateLimited(retry_after=seconds, cool_down=_limited_logged_out(limited))
    return PaceExceeded(retry_after=seconds)


def _limited_logged_out(refusals: Sequence[Refusal]) -> bool:
    """Return whether a source hit a rate limit while logged out.

    A rate limit on the account does not begin a cool-down, because it pauses only the account.
    """
    return any(refusal.reason in LIMITS and not refusal.with_session for refusal in refusals)


def reason_of_response(response: requests.Response, *, with_session: bool) -> Refused | None:
    """Return why the API refused, or None if its answer is not a refusal.

    The body of *response* must have been read, and must contain no media, because an error in an
    answer with media is only a warning.
    """
    if response.is_redirect:
        return reason_of_redirect(response, with_session=with_session)
    reason = _reason_of_answer(response, with_session=with_session)
    if reason is None:
        return None
    timed = reason in _WITH_RETRY_AFTER
    return Refused(reason, retry_after=retry_after_of(response) if timed else None)


def _reason_of_answer(response: requests.Response, *, with_session: bool) -> Reason | None:
    status, ok = response.status_code, response.status_code == HTTPStatus.OK
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Reason.RATE_LIMITED
    error = _ErrorBody.of(response)
    reason = error.reason(with_session=with_session)
    if reason is None and (not ok or error.failed):
        reason = error.reason_of_failure(with_session=with_session)
    if reason is None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Reason.FAILED
    unknown = Reason.CHANGED if not ok or (error.failed and error.text) else None
    return reason or _STATUSES.get(status, unknown)


def reason_of_redirect(response: requests.Response, *, with_session: bool) -> Refused:
    """Return what a redirect away from the post means, judging by the redirect's target."""
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
    """Return the target of a redirect, possibly a relative URL, or None if it is not valid."""
    try:
        target = urlsplit(response.headers.get("Location", ""))
        # Reading an invalid port raises.
        _ = target.port
    except ValueError:
        return None
    return target


def summary_of(response: requests.Response, secrets: Collection[str] = ()) -> dict[str, Any]:
    """Return a summary of an unexpected answer for the log.

    The summary contains the status, the top-level keys of the JSON, and the first 200 characters
    of the body. *secrets*, query strings in URLs, and anything that looks like a token are
    redacted.
    """
    start = response.content[: 10 * _SUMMARY_CHARACTERS].decode("utf-8", "replace")
    for secret in secrets:
        start = start.replace(secret, "[secret]")
    start = _TOKEN.sub(r"\1[secret]", _QUERY.sub("?[scrubbed]", start))
    data = _json_of(response)
    keys = [str(key)[:50] for key in data][:_MAX_KEYS] if isinstance(data, dict) else None
    return {"status": response.status_code, "keys": keys, "start": start[:_SUMMARY_CHARACTERS]}


def reason_of_error(error: BaseException) -> Refused | None:
    """Return the meaning of an Instaloader or requests exception, or None for a bug in the service.

    This considers the whole chain of causes, because Instaloader's outermost exception reveals
    little.
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
    """Yield *error* and each cause or context in its chain."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def retry_after_of(response: requests.Response) -> float | None:
    """Return the seconds in ``Retry-After``, at most a day, or None if it is missing or invalid.

    Both forms of RFC 9110, section 10.2.3, are accepted. A date without a time zone is read as UTC.
    """
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    # Some releases of Python raise more than the documented ValueError.
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


class _ErrorBody(NamedTuple):
    """The error messages in an answer, in lower case, and the error codes.

    Only error fields are read, because a caption may contain the same phrases.
    """

    text: str
    codes: tuple[str, ...] = ()
    requires_login: bool = False
    failed: bool = False
    is_json: bool = False

    @classmethod
    def of(cls, response: requests.Response) -> "_ErrorBody":
        data, ok = _json_of(response), response.status_code == HTTPStatus.OK
        if data is _NO_JSON:
            start = b"" if ok else response.content[:_MAX_ERROR_CHARACTERS]
            return cls(start.decode("utf-8", "replace").lower())
        if not isinstance(data, dict):
            return cls("")
        listed = data.get("errors")
        errors = [data, *(listed[:_MAX_ERRORS] if isinstance(listed, list) else ())]
        errors = [error for error in errors if isinstance(error, dict)]
        texts = [error.get(key) for error in errors for key in ("message", "error_type")]
        codes = [error.get(key) for error in errors for key in ("error", "code")]
        return cls(
            " ".join(
                text[:_MAX_ERROR_CHARACTERS].lower() for text in texts if isinstance(text, str)
            ).strip(),
            tuple(str(code) for code in codes if isinstance(code, int | str)),
            data.get("require_login") is True,
            data.get("status", "ok") != "ok",
            is_json=True,
        )

    def reason(self, *, with_session: bool) -> Reason | None:
        """Return the reason that a code or phrase indicates, or None if there is no such reason.

        Answers with a successful status are checked, too.
        """
        for code in self.codes:
            if code in _CODES:
                return _CODES[code]
        for phrase, reason in _PHRASES:
            if phrase in self.text:
                ended = with_session and reason is Reason.NEEDS_LOGIN
                return Reason.SESSION_ENDED if ended else reason
        return None

    def reason_of_failure(self, *, with_session: bool) -> Reason | None:
        """Return the reason that a failed request's error indicates, or None if there is none."""
        if any(phrase in self.text for phrase in _RETIRED_PHRASES):
            return Reason.RETIRED
        if self.is_json and _DELETED.search(self.text):
            # Without a session, only the page is conclusive.
            return Reason.GONE if with_session else Reason.EMPTY
        return Reason.SOFT_BLOCK if self.requires_login and not self.text else None


def _json_of(response: requests.Response) -> Any:
    try:
        return parse_json(response.content)
    except ValueError:
        return _NO_JSON
