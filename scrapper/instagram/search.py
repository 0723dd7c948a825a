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

__all__ = ["Diagnosis", "Search", "SourceResult", "Standing"]

log = structlog.get_logger(__name__)

_RETIRED = frozenset({Reason.RETIRED, Reason.NULL})
# Parts of the remaining time that the lookup of documents and the search for larger pictures get.
_LOOKUP_SHARE = 0.25
_LARGER_SHARE = 0.25
# With a session, each of these may also mean that Instagram ended it.
_DOUBTFUL = frozenset(
    {Reason.NEEDS_LOGIN, Reason.WAIT, Reason.SOFT_BLOCK, Reason.LOGIN_WALL, Reason.STALE}
)
# Trouble with a source, not with the post: the source is paused for the account.
_SOURCE_FAILURES = frozenset({Reason.FAILED, Reason.CHANGED, Reason.WAIT, Reason.STALE})
_SHORT_PAUSE_SECONDS = 30.0
# Refusals that pass with time. The others need a login or another query.
_TEMPORARY = LIMITS | {Reason.FAILED, Reason.CHANGED, Reason.WAIT, Reason.CLOSED}
_SESSION_REJECTED = frozenset(
    {Reason.SESSION_ENDED, Reason.NEEDS_LOGIN, Reason.LOGIN_WALL, Reason.STALE}
)


class Search:
    """Finds posts; thread-safe, if each thread passes its own transport.

    *paces* has one for each login state: ``logged_out`` and ``session``. *login* is used for posts
    that are not visible without it; with *login_first*, it is tried first for every post. After a
    limit without a duration, it is paused for *cooldown* seconds. *documents* are those of the web
    app's queries, and *get_script* downloads a page's script in chunks. *extra_sources* are tried
    logged out, after the built-in ones.
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
        self._logged_out = Standing("logged_out", (*LOGGED_OUT, *extra_sources), paces)
        self._with_session = Standing("session", WITH_SESSION, paces)

    @property
    def standings(self) -> Mapping[str, "Standing"]:
        """The standings in use, in the order in which they are tried.

        The keys are ``logged_out`` and, if there is a session, ``session``.
        """
        standings = [self._logged_out]
        if self._login.session() is not None:
            standings.insert(0 if self._login_first else 1, self._with_session)
        return {standing.name: standing for standing in standings}

    def find(
        self,
        shortcode: Shortcode,
        transport: PooledTransport,
        *,
        without: frozenset[str] = frozenset(),
        story: bool = False,
    ) -> Description:
        """Return the post's description, from as many sources as it takes to complete it.

        A *story* is searched for only with the session. Within the deadline and the pace, the
        search continues after a refusal while another source might have the post. Queries in
        *without*, which are the ``sources`` of another description, are not sent.

        Raises:
            ScrapeError: no source had the post; the error sums up all refusals.
        """
        attempt, deadline = _Attempt(shortcode, story, without), transport.deadline
        standings = [self._with_session] if story else list(self.standings.values())
        try:
            for standing in standings:
                last = standing is standings[-1]
                self._try_sources(standing, attempt, transport, deadline, last=last)
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
        """Try every source once, within the pace and the deadline, even if another has the post.

        The account is used only for a *story*, or for a post that turns out to need a login.
        """
        attempt, deadline, found = _Attempt(shortcode, story), transport.deadline, Diagnosis()
        standings = (self._logged_out, self._with_session)
        asked = [(one, source) for one in standings for source in attempt.sources(one)]
        for left, (standing, source) in zip(range(len(asked), 0, -1), asked, strict=True):
            gated = any(one.reason is Reason.GATED for one in attempt.refusals)
            context = self._context(standing, transport)
            name = f"{source.name} (session)" if standing.with_session else source.name
            if context is None or (standing.with_session and not (story or gated)):
                outcome = "no_session" if context is None else "not_needed"
                found.rows.append(SourceResult(name, outcome))
                continue
            if paused := standing.pause_of(source.name):
                attempt.refuse(source, standing, paused)
                found.rows.append(SourceResult(name, paused.reason, retry_after=paused.retry_after))
                continue
            started, transport.status = time.monotonic(), None
            transport.deadline = started + (deadline - started) / left
            outcome, had, wait = "ok", "", None
            try:
                with record_outcome(source.name, context):
                    description = attempt.ask(source, standing, context)
                attempt.add(description)
                had = description.summary
                self._keep_cookies(context)
            except Refused as error:
                attempt.refuse(source, standing, error)
                self._handle_refusal(standing, context, error, source.name)
                outcome, wait = error.reason, error.retry_after
            took = round((time.monotonic() - started) * 1000)
            found.rows.append(SourceResult(name, outcome, transport.status, had, took, wait))
            if transport.clock_difference is not None:
                found.clock_difference = transport.clock_difference
        transport.deadline = deadline
        if attempt.description is None:
            found.error = verdict(attempt.refusals) if attempt.refusals else PostForbidden()
        return found

    def open_share_link(self, path: str, transport: PooledTransport) -> str:
        """Return the URL that the share link *path* leads to.

        Raises:
            ScrapeError: Instagram refused.
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
        """Return the session that *cookies* belong to; one request.

        Raises:
            SessionRefused: Instagram does not accept the session.
            ScrapeError: Instagram cannot be queried now, or the account must be confirmed.
        """
        context = self._contexts.make(Session("", cookies, ""), transport)
        try:
            with record_outcome("login", context):
                username = check_session(context)
                # By now the context also has the cookies that Instagram added.
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
        standing: "Standing",
        attempt: "_Attempt",
        transport: PooledTransport,
        deadline: float,
        *,
        last: bool,
    ) -> None:
        """Try the sources of one login state until the search is over."""
        with standing.order.scout(deadline - time.monotonic()):
            sources = standing.order.sorted(attempt.sources(standing))
            refused: list[str] = []
            for left, source in zip(range(len(sources), 0, -1), sources, strict=True):
                context = self._context(standing, transport)
                if context is None or attempt.is_over or transport.abandoned:
                    return
                if paused := standing.pause_of(source.name):
                    attempt.refuse(source, standing, paused)
                    continue
                now = time.monotonic()
                # A slow source must leave time for the next one.
                more_to_come = left > 1 or not last
                transport.deadline = now + (deadline - now) / (2 if more_to_come else 1)
                try:
                    with record_outcome(source.name, context):
                        description = attempt.ask(source, standing, context)
                except Refused as error:
                    attempt.refuse(source, standing, error)
                    self._handle_refusal(standing, context, error, source.name)
                    gated = error.reason is Reason.GATED and standing.with_session
                    if error.reason is Reason.PACE or gated:
                        # All sources share the pace and the account, so none would do better.
                        return
                    refused.append(source.name)
                else:
                    attempt.add(description)
                    standing.order.record_success(source.name, refused)
                    refused = []
                    self._replace_retired(attempt, deadline, transport)
                    self._keep_cookies(context)

    def _find_larger(
        self, attempt: "_Attempt", transport: PooledTransport, deadline: float
    ) -> None:
        """Try one more source if pictures are small, unless it recently had no larger ones."""
        small, standing = attempt.description, self._logged_out
        if small is None or not small.is_small or transport.abandoned:
            return
        asked = {one.source for one in attempt.refusals}
        # The page comes first because it has the most details.
        source = standing.order.source_of_larger(
            one
            for one in sorted(attempt.sources(standing), key=lambda one: one.name != "page")
            if one.name not in asked and standing.query_id(one) not in small.sources
        )
        if source is None:
            return
        context, now = self._contexts.logged_out(transport), time.monotonic()
        transport.deadline = now + (deadline - now) * _LARGER_SHARE
        try:
            with record_outcome(source.name, context):
                found = attempt.ask(source, standing, context)
        except Refused as refused:
            self._handle_refusal(standing, context, refused, source.name)
            return
        attempt.description = small.with_larger(found)
        if attempt.description.items != small.items:
            names = [
                one.name for one in standing.sources if standing.query_id(one) in small.sources
            ]
            standing.order.record_larger(source.name, names)

    def _replace_retired(
        self, attempt: "_Attempt", deadline: float, transport: PooledTransport
    ) -> None:
        """Look up documents for retired queries, now that another source had the post."""
        retired = [one.source for one in attempt.refusals if one.reason in _RETIRED]
        if retired:
            context = self._contexts.logged_out(transport)
            seconds = (deadline - time.monotonic()) * _LOOKUP_SHARE
            found = self.documents.look_up(
                retired, self._get_script, lambda: context.count("page"), seconds=seconds
            )
            self._logged_out.order.restore(found)

    def _handle_refusal(
        self, standing: "Standing", context: Context, refused: Refused, source: str
    ) -> None:
        """Slow down after a limit; with a session, pause and check it as the refusal requires."""
        if refused.reason in LIMITS:
            context.slow_down()
        session = context.session
        if session is None:
            return
        self._record_session_loss(session, refused)
        standing.pause(source, refused, self._cooldown)
        if refused.reason in _DOUBTFUL and self._login.check_is_due():
            try:
                with record_outcome("login", context):
                    check_session(context)
            except Refused as found:
                self._record_session_loss(session, found)

    def _record_session_loss(self, session: Session, refused: Refused) -> None:
        """Record it if *refused* means that the session ended or its account must be confirmed."""
        if refused.reason is Reason.SESSION_ENDED:
            self._login.record_ended(session)
        elif refused.reason is Reason.CHALLENGE:
            self._login.record_challenged(session)

    def _keep_cookies(self, context: Context) -> None:
        """Store the cookies that Instagram rotated."""
        if context.session is not None:
            self._login.record_cookies(context.session, context.cookies)
            context.session = self._login.session()

    def _context(self, standing: "Standing", transport: PooledTransport) -> Context | None:
        """Return the context of *transport*; None if a session is needed and there is none."""
        if standing is self._logged_out:
            return self._contexts.logged_out(transport)
        session = self._login.session()
        if session is None:
            return None
        return self._contexts.with_session(session, transport)


class SourceResult(NamedTuple):
    """The outcome of trying one source.

    ``outcome`` is ``ok``, a :class:`Reason`, or why the source was skipped: ``no_session`` or
    ``not_needed``. ``status`` is the status of its last response, ``had`` a summary of the files
    that it offered, and ``retry_after`` is in seconds.
    """

    source: str
    outcome: str
    status: int | None = None
    had: str = ""
    milliseconds: int | None = None
    retry_after: float | None = None


@dataclass(slots=True)
class Diagnosis:
    """The outcomes of trying every source for a post; ``error`` is None if one of them has it.

    ``clock_difference`` is the number of seconds by which this machine's clock is ahead of
    Instagram's.
    """

    rows: list[SourceResult] = field(default_factory=list)
    error: ScrapeError | None = None
    clock_difference: float | None = None


class Standing:
    """The sources of one login state, their order, their pace, and which of them are paused.

    ``with_session`` says whether the sources need a session.
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
        """Pause the source *name*, or all sources after a limit, while *refused* is likely to last.

        The pause is *cooldown* seconds for a limit without a duration, and for a closed source.
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
            # If another source is paused, the post waits for it: try this one again then, too.
            seconds = max(end for end, _ in self._pauses.values()) - self._now()
        else:
            return
        for one in names:
            self._pauses[one] = (self._now() + seconds, reason)

    def pause_of(self, name: str) -> Refused | None:
        """Return the refusal for which the source *name* is paused, or None if it is not."""
        end, reason = self._pauses[name]
        left = end - self._now()
        if left <= 0:
            return None
        return Refused(reason, retry_after=left if reason in _TEMPORARY else None)

    def query_id(self, source: Source) -> str:
        """Return a name for the query that the source sends, unique across login states."""
        return f"{self.name} {SAME_QUERY.get(source.name, source.name)}"

    @property
    def source_names(self) -> list[str]:
        """The names of the sources in the order in which they are tried now."""
        return [source.name for source in self.order.sorted(self.sources)]


@dataclass(slots=True)
class _Attempt:
    """The search for one post: what the sources have answered so far."""

    shortcode: Shortcode
    story: bool
    without: frozenset[str] = frozenset()
    description: Description | None = None
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether the search can stop: the post is complete, or its page says that it is gone."""
        if self.description is not None and self.description.complete:
            return True
        return any(refusal.reason is Reason.GONE for refusal in self.refusals)

    def sources(self, standing: Standing) -> list[Source]:
        """Return the sources of *standing* to try for this post."""
        return [
            one
            for one in standing.sources
            if standing.query_id(one) not in self.without and (one.has_stories or not self.story)
        ]

    def ask(self, source: Source, standing: Standing, context: Context) -> Description:
        """Return the post's description from *source*.

        Raises:
            Refused: the source has no media of the post.
            Exception: whatever Instaloader and requests raise.
        """
        described = describe(source.ask(context, self.shortcode), self.shortcode)
        return replace(described, sources=frozenset({standing.query_id(source)}))

    def add(self, description: Description) -> None:
        known = self.description
        self.description = known.filled_from(description) if known else description

    def refuse(self, source: Source, standing: Standing, error: Refused) -> None:
        self.refusals.append(
            Refusal(source.name, standing.with_session, error.reason, error.retry_after)
        )
