"""Asks the sources for a post, best first, until one of them has all of it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import structlog

from scrapper.errors import PostForbidden, RateLimited, ScrapeError, SessionRefused
from scrapper.instagram.asking import asking
from scrapper.instagram.context import Context, Contexts
from scrapper.instagram.documents import Documents
from scrapper.instagram.login.check import view_as
from scrapper.instagram.login.session import Login, Session
from scrapper.instagram.media import Description, describe
from scrapper.instagram.order import SourceOrder
from scrapper.instagram.pace import Pace
from scrapper.instagram.share import open_share_link
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import LOGGED_OUT, WITH_SESSION, Source
from scrapper.instagram.transport import PooledTransport
from scrapper.instagram.verdict import LIMITS, SAME_QUERY, Reason, Refusal, Refused, verdict

__all__ = ["Finding", "Findings", "Search", "Standing"]

log = structlog.get_logger(__name__)

_RETIRED = frozenset({Reason.RETIRED, Reason.NULL})
_LOOK_UP_SHARE = 4
# The search for a larger picture may take this part of the time that is left.
_LARGER_SHARE = 0.25
# With a session, each of these may also mean that Instagram ended it.
_DOUBTFUL = frozenset(
    {Reason.NEEDS_LOGIN, Reason.WAIT, Reason.SOFT_BLOCK, Reason.LOGIN_WALL, Reason.STALE}
)
# Trouble of a source, whatever the post: the account does not use that source for a while.
_TROUBLE = frozenset({Reason.FAILED, Reason.CHANGED, Reason.WAIT, Reason.STALE})
_SHORT_REST_SECONDS = 30.0
# Refusals that pass with time; other refusals need a login, or another query.
_PASSES = LIMITS | {Reason.FAILED, Reason.CHANGED, Reason.WAIT, Reason.CLOSED}
_NOT_ALIVE = frozenset({Reason.SESSION_ENDED, Reason.NEEDS_LOGIN, Reason.LOGIN_WALL, Reason.STALE})


class Search:
    """Finds posts; safe to share between threads, each of which gets *contexts* of its own.

    *paces* has one for each login state: ``logged_out`` and ``session``. The *login* is used for
    posts that are not visible without it, or, with *login_first*, before anything else. After a
    limit that names no time, the login rests for *cooldown* seconds. *documents* are those of the
    web app's queries; *get_script* downloads a page's script, piece by piece.
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
        more_sources: Sequence[Source] = (),
    ) -> None:
        self.documents = documents
        self._get_script = get_script
        self._login = login
        self._contexts = contexts
        self._login_first = login_first
        self._cooldown = cooldown
        self._logged_out = Standing("logged_out", (*LOGGED_OUT, *more_sources), paces)
        self._with_session = Standing("session", WITH_SESSION, paces)

    @property
    def standings(self) -> Mapping[str, "Standing"]:
        """The learned state, by login state: ``logged_out``, and ``session`` where there is one."""
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
        """The post as the first sources that have it describe it, until nothing is missing.

        A *story* is asked for only with the session.

        A refusal by one source never ends the search while another one might have the post,
        within the deadline and the pace. Sources in *without* are not asked: they are the
        ``sources`` of another description.

        Raises:
            ScrapeError: what all refusals together mean.
        """
        inquiry, deadline = _Inquiry(shortcode, story, without), transport.deadline
        standings = [self._with_session] if story else list(self.standings.values())
        try:
            for standing in standings:
                last = standing is standings[-1]
                self._ask(standing, inquiry, transport, deadline, last=last)
                if inquiry.is_over or transport.abandoned:
                    break
            self._ask_for_larger(inquiry, transport, deadline)
        finally:
            transport.deadline = deadline
        if inquiry.description is None:
            error = verdict(inquiry.refusals)
            log.warning("no source gave the post", outcome=type(error).__name__)
            raise error
        return inquiry.description

    def examine(
        self, shortcode: Shortcode, transport: PooledTransport, *, story: bool
    ) -> "Findings":
        """Ask each source once, within the pace and the deadline, whatever the others say.

        The account is used only for a *story*, or a post that is known to need a login.
        """
        inquiry, deadline, found = _Inquiry(shortcode, story), transport.deadline, Findings()
        standings = (self._logged_out, self._with_session)
        asked = [(one, source) for one in standings for source in inquiry.sources(one)]
        for left, (standing, source) in zip(range(len(asked), 0, -1), asked, strict=True):
            gated = any(one.reason is Reason.GATED for one in inquiry.refusals)
            context = self._context(standing, transport)
            name = f"{source.name} (session)" if standing.with_session else source.name
            if context is None or (standing.with_session and not (story or gated)):
                outcome = "no_session" if context is None else "not_needed"
                found.rows.append(Finding(name, outcome))
                continue
            if rest := standing.rest_of(source.name):
                inquiry.refuse(source, standing, rest)
                found.rows.append(Finding(name, rest.reason, retry_after=rest.retry_after))
                continue
            started, transport.status = time.monotonic(), None
            transport.deadline = started + (deadline - started) / left
            outcome, had, wait = "ok", "", None
            try:
                with asking(source.name, context):
                    description = inquiry.ask(source, standing, context)
                inquiry.add(description)
                had = description.summary
                self._keep_cookies(context)
            except Refused as error:
                inquiry.refuse(source, standing, error)
                self._react(standing, context, error, source.name)
                outcome, wait = error.reason, error.retry_after
            took = round((time.monotonic() - started) * 1000)
            found.rows.append(Finding(name, outcome, transport.status, had, took, wait))
            if transport.clock_difference is not None:
                found.clock_difference = transport.clock_difference
        transport.deadline = deadline
        if inquiry.description is None:
            nobody = not inquiry.refusals
            found.error = PostForbidden() if nobody else verdict(inquiry.refusals)
        return found

    def open_share_link(self, path: str, transport: PooledTransport) -> str:
        """The URL that the share link *path* redirects to.

        Raises:
            ScrapeError: what Instagram's refusal means.
        """
        context = self._contexts.logged_out(transport)
        try:
            with asking("share", context):
                return open_share_link(context, path)
        except Refused as error:
            self._react(self._logged_out, context, error, "share")
            refusal = Refusal("share", False, error.reason, error.retry_after)
            raise verdict([refusal]) from None

    def check(self, cookies: Mapping[str, str], transport: PooledTransport) -> Session:
        """The session that *cookies* belong to; one request.

        Raises:
            SessionRefused: Instagram ended the session.
            ScrapeError: Instagram cannot be asked now, or the account must be confirmed.
        """
        context = self._contexts.make(Session("", cookies, ""), transport)
        try:
            with asking("login", context):
                username = view_as(context)
                # By this time the context also has the cookies that Instagram added.
                return Session("", context.cookies, username)
        except Refused as error:
            if error.reason in _NOT_ALIVE:
                raise SessionRefused from error
            if error.reason in LIMITS:
                context.slow_down()
            meaning = verdict([Refusal("login", True, error.reason, error.retry_after)])
            if isinstance(meaning, RateLimited) and meaning.retry_after is None:
                meaning.retry_after = self._cooldown
            raise meaning from error

    def _ask(
        self,
        standing: "Standing",
        inquiry: "_Inquiry",
        transport: PooledTransport,
        deadline: float,
        *,
        last: bool,
    ) -> None:
        """Ask the sources of one login state until the search is over."""
        with standing.order.scout(deadline - time.monotonic()):
            sources = standing.order.sorted(inquiry.sources(standing))
            refused: list[str] = []
            for left, source in zip(range(len(sources), 0, -1), sources, strict=True):
                context = self._context(standing, transport)
                if context is None or inquiry.is_over or transport.abandoned:
                    return
                if rest := standing.rest_of(source.name):
                    inquiry.refuse(source, standing, rest)
                    continue
                now = time.monotonic()
                # A slow source must leave time for the next one.
                more_to_come = left > 1 or not last
                transport.deadline = now + (deadline - now) / (2 if more_to_come else 1)
                try:
                    with asking(source.name, context):
                        description = inquiry.ask(source, standing, context)
                except Refused as error:
                    inquiry.refuse(source, standing, error)
                    self._react(standing, context, error, source.name)
                    gated = error.reason is Reason.GATED and standing.with_session
                    if error.reason is Reason.PACE or gated:
                        # There is one pace and one account, so no other source can do more now.
                        return
                    refused.append(source.name)
                else:
                    inquiry.add(description)
                    standing.order.gave(source.name, refused)
                    refused = []
                    self._replace_retired(inquiry, deadline, transport)
                    self._keep_cookies(context)

    def _ask_for_larger(
        self, inquiry: "_Inquiry", transport: PooledTransport, deadline: float
    ) -> None:
        """Ask one more source if the pictures are small, unless it lately had no larger ones."""
        small, standing = inquiry.description, self._logged_out
        if small is None or not small.is_small or transport.abandoned:
            return
        asked = {one.source for one in inquiry.refusals}
        # The page first: it has the most details.
        source = standing.order.helper(
            one
            for one in sorted(inquiry.sources(standing), key=lambda one: one.name != "page")
            if one.name not in asked and standing.id(one) not in small.sources
        )
        if source is None:
            return
        context, now = self._contexts.logged_out(transport), time.monotonic()
        transport.deadline = now + (deadline - now) * _LARGER_SHARE
        try:
            with asking(source.name, context):
                found = inquiry.ask(source, standing, context)
        except Refused as refused:
            self._react(standing, context, refused, source.name)
            return
        inquiry.description = small.with_larger(found)
        if inquiry.description.items != small.items:
            names = [one.name for one in standing.sources if standing.id(one) in small.sources]
            standing.order.helped(source.name, names)

    def _replace_retired(
        self, inquiry: "_Inquiry", deadline: float, transport: PooledTransport
    ) -> None:
        """Look up documents for retired queries, now that another source has given the post."""
        retired = [one.source for one in inquiry.refusals if one.reason in _RETIRED]
        if retired:
            context = self._contexts.logged_out(transport)
            left = (deadline - time.monotonic()) / _LOOK_UP_SHARE
            found = self.documents.look_up(
                retired, self._get_script, lambda: context.count("page"), seconds=left
            )
            self._logged_out.order.restore(found)

    def _react(self, standing: "Standing", context: Context, refused: Refused, source: str) -> None:
        """Slow down after a limit; note what a refusal says of the session."""
        if refused.reason in LIMITS:
            context.slow_down()
        session = context.session
        if session is None:
            return
        self._note(session, refused)
        standing.rest(source, refused, self._cooldown)
        if refused.reason in _DOUBTFUL and self._login.check_is_due():
            try:
                with asking("login", context):
                    view_as(context)
            except Refused as found:
                self._note(session, found)

    def _note(self, session: Session, refused: Refused) -> None:
        """Note what *refused* says of the session."""
        if refused.reason is Reason.SESSION_ENDED:
            self._login.note_ended(session)
        elif refused.reason is Reason.CHALLENGE:
            self._login.note_challenged(session)

    def _keep_cookies(self, context: Context) -> None:
        """Keep the cookies that Instagram rotated."""
        if context.session is not None:
            self._login.note_cookies(context.session, context.cookies)
            context.session = self._login.session()

    def _context(self, standing: "Standing", transport: PooledTransport) -> Context | None:
        """The calling thread's context; None where there is no session."""
        if standing is self._logged_out:
            return self._contexts.logged_out(transport)
        session = self._login.session()
        if session is None:
            return None
        return self._contexts.with_session(session, transport)


class Finding(NamedTuple):
    """What one source answered: ``ok``, a :class:`Reason`, or why it was not asked.

    ``status`` is that of its last response, ``had`` says which files it offered, and
    ``retry_after`` is in seconds.
    """

    source: str
    outcome: str
    status: int | None = None
    had: str = ""
    milliseconds: int | None = None
    retry_after: float | None = None


@dataclass(slots=True)
class Findings:
    """What all sources answered for a post; ``error`` is None if one of them has it.

    ``clock_difference`` says by how many seconds this machine's clock is ahead of Instagram's.
    """

    rows: list[Finding] = field(default_factory=list)
    error: ScrapeError | None = None
    clock_difference: float | None = None


class Standing:
    """What is known of Instagram in one login state: its sources, their order, the pace, and the
    sources that rest for a while.
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
        self._rests = {source.name: (0.0, Reason.CLOSED) for source in sources}

    def rest(self, name: str, refused: Refused, cooldown: float) -> None:
        """Leave the account alone, or its source *name*, while the refusal is likely to last.

        That is *cooldown* seconds for a limit without a time, or for a closed source.
        """
        reason, names = refused.reason, [name]
        if reason in LIMITS:
            names = [source.name for source in self.sources]
            seconds = cooldown if refused.retry_after is None else refused.retry_after
        elif reason in _TROUBLE:
            seconds = _SHORT_REST_SECONDS
        elif reason is Reason.CLOSED:
            seconds = cooldown
        elif reason in _DOUBTFUL | _RETIRED:
            # If other sources rest, the post waits for them: ask this one again at that time.
            seconds = max(end for end, _ in self._rests.values()) - self._now()
        else:
            return
        for one in names:
            self._rests[one] = (self._now() + seconds, reason)

    def rest_of(self, name: str) -> Refused | None:
        """The refusal of the source *name* while it must not be asked; else None."""
        end, reason = self._rests[name]
        left = end - self._now()
        if left <= 0:
            return None
        return Refused(reason, retry_after=left if reason in _PASSES else None)

    def id(self, source: Source) -> str:
        """A name for the query that the source sends, unique over all login states."""
        return f"{self.name} {SAME_QUERY.get(source.name, source.name)}"

    @property
    def source_names(self) -> list[str]:
        """The names of the sources in the order in which they are asked now."""
        return [source.name for source in self.order.sorted(self.sources)]


@dataclass(slots=True)
class _Inquiry:
    """The sources' answers about one post so far."""

    shortcode: Shortcode
    story: bool
    without: frozenset[str] = frozenset()
    description: Description | None = None
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether no other source can help: the post is complete, or its page says it is gone."""
        if self.description is not None and self.description.complete:
            return True
        return any(refusal.reason is Reason.GONE for refusal in self.refusals)

    def sources(self, standing: Standing) -> list[Source]:
        """The sources of a login state that may be asked."""
        return [
            one
            for one in standing.sources
            if standing.id(one) not in self.without and (one.has_stories or not self.story)
        ]

    def ask(self, source: Source, standing: Standing, context: Context) -> Description:
        """The post as *source* describes it.

        Raises:
            Refused: the source has no media of the post.
            Exception: whatever Instaloader and requests raise.
        """
        described = describe(source.ask(context, self.shortcode), self.shortcode)
        return replace(described, sources=frozenset({standing.id(source)}))

    def add(self, description: Description) -> None:
        known = self.description
        self.description = known.filled_from(description) if known else description

    def refuse(self, source: Source, standing: Standing, error: Refused) -> None:
        self.refusals.append(
            Refusal(source.name, standing.with_session, error.reason, error.retry_after)
        )
