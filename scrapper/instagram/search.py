"""Tries the sources for a post, best first, until the post is complete."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import structlog

from scrapper.errors import PostForbidden, RateLimited, ScrapeError, SessionRefused
from scrapper.instagram.context import Context, Contexts
from scrapper.instagram.documents import Documents
from scrapper.instagram.login.check import check_session
from scrapper.instagram.login.session import Login, Session
from scrapper.instagram.media import Description, describe
from scrapper.instagram.order import SourceOrder
from scrapper.instagram.outcomes import record_outcome
from scrapper.instagram.pace import Pace
from scrapper.instagram.share import open_share_link
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import LOGGED_OUT, WITH_SESSION, Source
from scrapper.instagram.transport import PooledTransport
from scrapper.instagram.verdict import LIMITS, SAME_QUERY, Reason, Refusal, Refused, verdict

__all__ = ["Diagnosis", "Search", "SourceGroup", "SourceResult"]

log = structlog.get_logger(__name__)

_RETIRED = frozenset({Reason.RETIRED, Reason.NULL})
# The shares of the remaining time for looking up documents, and for finding larger pictures.
_LOOKUP_SHARE = 0.25
_LARGER_SHARE = 0.25
# With a session, each of these may also mean that Instagram has ended it.
_DOUBTFUL = frozenset(
    {Reason.NEEDS_LOGIN, Reason.WAIT, Reason.SOFT_BLOCK, Reason.LOGIN_WALL, Reason.STALE}
)
# Failures of a source rather than a post. With a session, they pause the source for a short time.
_SOURCE_FAILURES = frozenset({Reason.FAILED, Reason.CHANGED, Reason.WAIT, Reason.STALE})
_SHORT_PAUSE_SECONDS = 30.0
# Refusals that pass with time. The others last until there is a new login or a new query.
_TEMPORARY = LIMITS | {Reason.FAILED, Reason.CHANGED, Reason.WAIT, Reason.CLOSED}
_SESSION_REJECTED = frozenset(
    {Reason.SESSION_ENDED, Reason.NEEDS_LOGIN, Reason.LOGIN_WALL, Reason.STALE}
)


class Search:
    """Finds posts; thread-safe if each thread passes its own transport.

    *paces* has one pace for each login state: ``logged_out`` and ``session``. *login* is used for
    posts that are not visible without it; with *login_first*, it is tried first for every post.
    After a rate limit of unknown duration, the login is paused for *cooldown* seconds. *documents*
    are the web app's query documents, and *get_script* downloads a page's script in chunks.
    *extra_sources* are tried after the built-in sources, without the login.
    """

    def __init__(
        self,
        login: Login,
        contexts: Contexts,
        paces: Mapping[str, Pace],
        *,
        cooldown: float,
        login_first: bool,
        documents: Documents,
        get_script: Callable[[str], Iterator[bytes]],
        extra_sources: Sequence[Source] = (),
    ) -> None:
        self.documents = documents
        self._get_script = get_script
        self._login = login
        self._contexts = contexts
        self._login_first = login_first
        self._cooldown = cooldown
        self._logged_out = SourceGroup("logged_out", (*LOGGED_OUT, *extra_sources), paces)
        self._with_session = SourceGroup("session", WITH_SESSION, paces)

    @property
    def source_groups(self) -> Mapping[str, "SourceGroup"]:
        """The sources by login state, in the order in which the login states are tried.

        The keys are ``logged_out`` and, if there is a session, ``session``.
        """
        groups = [self._logged_out]
        if self._login.session() is not None:
            groups.insert(0 if self._login_first else 1, self._with_session)
        return {group.name: group for group in groups}

    def find(
        self,
        shortcode: Shortcode,
        transport: PooledTransport,
        *,
        without: frozenset[str] = frozenset(),
        story: bool = False,
    ) -> Description:
        """Return the post's description, combined from as many sources as needed to complete it.

        If *story* is true, only sources that use the session are tried. Within the deadline and the
        pace, the search continues after a refusal as long as another source might have the post.
        Queries whose IDs are in *without* (the ``sources`` of an earlier description) are not sent.

        Raises:
            ScrapeError: no source had the post; the error sums up all refusals.
        """
        attempt, deadline = _Attempt(shortcode, story, without), transport.deadline
        groups = [self._with_session] if story else list(self.source_groups.values())
        try:
            for group in groups:
                last = group is groups[-1]
                self._try_sources(group, attempt, transport, deadline, last=last)
                if attempt.is_over or transport.abandoned:
                    break
            self._find_larger(attempt, transport, deadline)
        finally:
            transport.deadline = deadline
        if attempt.description is None:
            error = verdict(attempt.refusals)
            log.warning("no source returned the post", outcome=type(error).__name__)
            raise error
        return attempt.description

    def examine(
        self, shortcode: Shortcode, transport: PooledTransport, *, story: bool
    ) -> "Diagnosis":
        """Try every source once, within the pace and deadline, even after one returned the post.

        The account is used only if *story* is true, or if the post turns out to need a login.
        """
        attempt, deadline, diagnosis = _Attempt(shortcode, story), transport.deadline, Diagnosis()
        groups = (self._logged_out, self._with_session)
        sources = [(group, source) for group in groups for source in attempt.sources(group)]
        for left, (group, source) in zip(range(len(sources), 0, -1), sources, strict=True):
            gated = any(one.reason is Reason.GATED for one in attempt.refusals)
            context = self._context(group, transport)
            name = f"{source.name} (session)" if group.with_session else source.name
            if context is None or (group.with_session and not (story or gated)):
                outcome = "no_session" if context is None else "not_needed"
                diagnosis.rows.append(SourceResult(name, outcome))
                continue
            if paused := group.pause_of(source.name):
                attempt.add_refusal(source, group, paused)
                diagnosis.rows.append(
                    SourceResult(name, paused.reason, retry_after=paused.retry_after)
                )
                continue
            started, transport.status = time.monotonic(), None
            transport.deadline = started + (deadline - started) / left
            outcome, files, wait = "ok", "", None
            try:
                with record_outcome(source.name, context):
                    description = attempt.ask(source, group, context)
                attempt.add(description)
                files = description.summary
                self._keep_cookies(context)
            except Refused as error:
                attempt.add_refusal(source, group, error)
                self._handle_refusal(group, context, error, source.name)
                outcome, wait = error.reason, error.retry_after
            took = round((time.monotonic() - started) * 1000)
            diagnosis.rows.append(SourceResult(name, outcome, transport.status, files, took, wait))
            if transport.clock_difference is not None:
                diagnosis.clock_difference = transport.clock_difference
        transport.deadline = deadline
        if attempt.description is None:
            diagnosis.error = verdict(attempt.refusals) if attempt.refusals else PostForbidden()
        return diagnosis

    def open_share_link(self, path: str, transport: PooledTransport) -> str:
        """Return the URL that the share link at *path* leads to.

        Raises:
            ScrapeError: Instagram refused the request.
        """
        context = self._contexts.logged_out(transport)
        try:
            with record_outcome("share", context):
                return open_share_link(context, path)
        except Refused as error:
            self._handle_refusal(self._logged_out, context, error, "share")
            refusal = Refusal("share", False, error.reason, error.retry_after)
            raise verdict([refusal]) from None

    def check(self, cookies: Mapping[str, str], transport: PooledTransport) -> Session:
        """Return the session that *cookies* belong to. This sends one request.

        Raises:
            SessionRefused: Instagram does not accept the session.
            ScrapeError: Instagram cannot be queried now, or the account must be confirmed.
        """
        context = self._contexts.make(Session("", cookies, ""), transport)
        try:
            with record_outcome("login", context):
                username = check_session(context)
                # The context also has the cookies that Instagram has just added.
                return Session("", context.cookies, username)
        except Refused as error:
            if error.reason in _SESSION_REJECTED:
                raise SessionRefused from error
            if error.reason in LIMITS:
                context.slow_down()
            failure = verdict([Refusal("login", True, error.reason, error.retry_after)])
            if isinstance(failure, RateLimited) and failure.retry_after is None:
                failure.retry_after = self._cooldown
            raise failure from error

    def _try_sources(
        self,
        group: "SourceGroup",
        attempt: "_Attempt",
        transport: PooledTransport,
        deadline: float,
        *,
        last: bool,
    ) -> None:
        """Try the sources of one login state until the search is over."""
        with group.order.scout(deadline - time.monotonic()):
            sources = group.order.sorted(attempt.sources(group))
            refused: list[str] = []
            for left, source in zip(range(len(sources), 0, -1), sources, strict=True):
                context = self._context(group, transport)
                if context is None or attempt.is_over or transport.abandoned:
                    return
                if paused := group.pause_of(source.name):
                    attempt.add_refusal(source, group, paused)
                    continue
                now = time.monotonic()
                # A slow source must leave time for the next one.
                more_to_come = left > 1 or not last
                transport.deadline = now + (deadline - now) / (2 if more_to_come else 1)
                try:
                    with record_outcome(source.name, context):
                        description = attempt.ask(source, group, context)
                except Refused as error:
                    attempt.add_refusal(source, group, error)
                    self._handle_refusal(group, context, error, source.name)
                    gated = error.reason is Reason.GATED and group.with_session
                    if error.reason is Reason.PACE or gated:
                        # The other sources use the same pace and account, so they would fail, too.
                        return
                    refused.append(source.name)
                else:
                    attempt.add(description)
                    group.order.record_success(source.name, refused)
                    refused = []
                    self._replace_retired(attempt, deadline, transport)
                    self._keep_cookies(context)

    def _find_larger(
        self, attempt: "_Attempt", transport: PooledTransport, deadline: float
    ) -> None:
        """If pictures are small, try one more source that may have larger pictures."""
        small, group = attempt.description, self._logged_out
        if small is None or not small.is_small or transport.abandoned:
            return
        refused = {one.source for one in attempt.refusals}
        # The page is tried first because it has the most details.
        source = group.order.source_of_larger(
            one
            for one in sorted(attempt.sources(group), key=lambda one: one.name != "page")
            if one.name not in refused and group.query_id(one) not in small.sources
        )
        if source is None:
            return
        context, now = self._contexts.logged_out(transport), time.monotonic()
        transport.deadline = now + (deadline - now) * _LARGER_SHARE
        try:
            with record_outcome(source.name, context):
                found = attempt.ask(source, group, context)
        except Refused as error:
            self._handle_refusal(group, context, error, source.name)
            return
        attempt.description = small.with_larger(found)
        if attempt.description.items != small.items:
            names = [one.name for one in group.sources if group.query_id(one) in small.sources]
            group.order.record_larger(source.name, names)

    def _replace_retired(
        self, attempt: "_Attempt", deadline: float, transport: PooledTransport
    ) -> None:
        """Look up new documents for retired queries. Call this after a source returned the post."""
        retired = [one.source for one in attempt.refusals if one.reason in _RETIRED]
        if retired:
            context = self._contexts.logged_out(transport)
            seconds = (deadline - time.monotonic()) * _LOOKUP_SHARE
            found = self.documents.look_up(
                retired, self._get_script, lambda: context.count("page"), seconds=seconds
            )
            self._logged_out.order.restore(found)

    def _handle_refusal(
        self, group: "SourceGroup", context: Context, refused: Refused, source: str
    ) -> None:
        """Slow down after a rate limit. With a session, also pause sources and check the login."""
        if refused.reason in LIMITS:
            context.slow_down()
        session = context.session
        if session is None:
            return
        self._record_session_loss(session, refused)
        group.pause(source, refused, self._cooldown)
        if refused.reason in _DOUBTFUL and self._login.check_is_due():
            try:
                with record_outcome("login", context):
                    check_session(context)
            except Refused as found:
                self._record_session_loss(session, found)

    def _record_session_loss(self, session: Session, refused: Refused) -> None:
        """Record the session as ended or challenged if *refused* means that it is."""
        if refused.reason is Reason.SESSION_ENDED:
            self._login.record_ended(session)
        elif refused.reason is Reason.CHALLENGE:
            self._login.record_challenged(session)

    def _keep_cookies(self, context: Context) -> None:
        """Store the cookies that Instagram rotated."""
        if context.session is not None:
            self._login.record_cookies(context.session, context.cookies)
            context.session = self._login.session()

    def _context(self, group: "SourceGroup", transport: PooledTransport) -> Context | None:
        """Return the context for *group* and *transport*, or None if the session is missing."""
        if group is self._logged_out:
            return self._contexts.logged_out(transport)
        session = self._login.session()
        if session is None:
            return None
        return self._contexts.with_session(session, transport)


class SourceResult(NamedTuple):
    """The outcome of trying one source.

    ``outcome`` is ``ok``, a :class:`Reason`, or why the source was skipped: ``no_session`` or
    ``not_needed``. ``status`` is the HTTP status of the source's last response, and ``files`` is a
    summary of the files that the source offered. ``retry_after`` is in seconds.
    """

    source: str
    outcome: str
    status: int | None = None
    files: str = ""
    milliseconds: int | None = None
    retry_after: float | None = None


@dataclass(slots=True)
class Diagnosis:
    """The outcomes of trying every source for a post.

    ``error`` is None if a source had the post. ``clock_difference`` is how many seconds this
    machine's clock is ahead of Instagram's.
    """

    rows: list[SourceResult] = field(default_factory=list)
    error: ScrapeError | None = None
    clock_difference: float | None = None


class SourceGroup:
    """The sources of one login state, with their order, their pauses and their pace.

    ``with_session`` is whether the sources need a session.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Source],
        paces: Mapping[str, Pace],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.sources = sources
        self.order = SourceOrder(name)
        self.pace = paces[name]
        self.with_session = sources is WITH_SESSION
        self._now = now
        self._pauses = {source.name: (0.0, Reason.CLOSED) for source in sources}

    def pause(self, name: str, refused: Refused, cooldown: float) -> None:
        """Pause the source *name* because it refused, or all sources if it hit a rate limit.

        After a rate limit of unknown duration, or if the source is temporarily unavailable, the
        pause lasts *cooldown* seconds.
        """
        reason, names = refused.reason, [name]
        if reason in LIMITS:
            names = [source.name for source in self.sources]
            seconds = cooldown if refused.retry_after is None else refused.retry_after
        elif reason in _SOURCE_FAILURES:
            seconds = _SHORT_PAUSE_SECONDS
        elif reason is Reason.CLOSED:
            seconds = cooldown
        elif reason in _DOUBTFUL | _RETIRED:
            # The post may be retried when another source's pause ends. Pause this one until then.
            seconds = max(end for end, _ in self._pauses.values()) - self._now()
        else:
            return
        for one in names:
            self._pauses[one] = (self._now() + seconds, reason)

    def pause_of(self, name: str) -> Refused | None:
        """Return the refusal that paused the source *name*, or None if it is not paused."""
        end, reason = self._pauses[name]
        left = end - self._now()
        if left <= 0:
            return None
        return Refused(reason, retry_after=left if reason in _TEMPORARY else None)

    def query_id(self, source: Source) -> str:
        """Return an ID for the query that *source* sends, unique across login states."""
        return f"{self.name} {SAME_QUERY.get(source.name, source.name)}"

    @property
    def source_names(self) -> list[str]:
        """The names of the sources in the order in which they are tried now."""
        return [source.name for source in self.order.sorted(self.sources)]


@dataclass(slots=True)
class _Attempt:
    """The search for one post, with the answers so far."""

    shortcode: Shortcode
    story: bool
    without: frozenset[str] = frozenset()
    description: Description | None = None
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether the search can stop, because the post is complete or certainly gone."""
        if self.description is not None and self.description.complete:
            return True
        return any(refusal.reason is Reason.GONE for refusal in self.refusals)

    def sources(self, group: SourceGroup) -> list[Source]:
        """Return the sources of *group* to try for this post."""
        return [
            one
            for one in group.sources
            if group.query_id(one) not in self.without and (one.has_stories or not self.story)
        ]

    def ask(self, source: Source, group: SourceGroup, context: Context) -> Description:
        """Return the post's description from *source*.

        Raises:
            Refused: the source has no media for the post.
            Exception: whatever Instaloader and requests raise.
        """
        described = describe(source.ask(context, self.shortcode), self.shortcode)
        return replace(described, sources=frozenset({group.query_id(source)}))

    def add(self, description: Description) -> None:
        known = self.description
        self.description = known.filled_from(description) if known else description

    def add_refusal(self, source: Source, group: SourceGroup, error: Refused) -> None:
        self.refusals.append(
            Refusal(source.name, group.with_session, error.reason, error.retry_after)
        )
