"""Ask the sources for a post, in the order that works, until one of them has all of it."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from scrapper.instagram.context import Context, OnRequest
from scrapper.instagram.login import Login, Session
from scrapper.instagram.media import Description, describe
from scrapper.instagram.order import SourceOrder
from scrapper.instagram.pace import Pace
from scrapper.instagram.share import open_share_link
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import LOGGED_OUT, WITH_SESSION, Source
from scrapper.instagram.tokens import Tokens
from scrapper.instagram.transport import PooledTransport
from scrapper.instagram.verdict import (
    LIMITS,
    Reason,
    Refusal,
    Refused,
    chain_of,
    reason_of_error,
    reason_of_response,
    verdict,
)

__all__ = ["Search", "Standing"]

log = structlog.get_logger(__name__)


class Search:
    """Finds posts; safe to share between threads, each of which gets contexts of its own.

    *paces* has one for each login state: ``logged_out`` and ``session``. *doc_id* is the document
    of the logged-out web app's query. The *login* is used for what cannot be had without, or,
    with *login_first*, before anything else; after a limit that names no time it rests for
    *cooldown* seconds.
    """

    def __init__(
        self,
        login: Login,
        paces: Mapping[str, Pace],
        *,
        cooldown: float,
        doc_id: str,
        login_first: bool,
        on_request: OnRequest,
    ) -> None:
        self._login = login
        self._login_first = login_first
        self._cooldown = cooldown
        self._doc_id = doc_id
        self._on_request = on_request
        self._tokens = Tokens()
        self._logged_out = Standing("logged_out", LOGGED_OUT, paces)
        self._with_session = Standing("session", WITH_SESSION, paces)
        self._local = threading.local()

    @property
    def standings(self) -> Mapping[str, "Standing"]:
        """What was learned, by login state: ``logged_out``, and ``session`` where there is one."""
        standings = [self._logged_out]
        if self._login.session() is not None:
            standings.insert(0 if self._login_first else 1, self._with_session)
        return {standing.name: standing for standing in standings}

    def find(self, shortcode: Shortcode, transport: PooledTransport) -> Description:
        """The post as the first sources that have it describe it, as completely as they do.

        A refusal by one source never ends the search while another one might have the post,
        within the deadline and the pace.

        Raises:
            ScrapeError: what all refusals together mean.
        """
        inquiry, deadline = _Inquiry(shortcode), transport.deadline
        standings = list(self.standings.values())
        try:
            for standing in standings:
                last = standing is standings[-1]
                self._ask(standing, inquiry, transport, deadline, last=last)
                if inquiry.is_over:
                    break
        finally:
            transport.deadline = deadline
        if inquiry.description is None:
            error = verdict(inquiry.refusals)
            log.warning("no source gave the post", outcome=type(error).__name__)
            raise error
        return inquiry.description

    def open_share_link(self, path: str, transport: PooledTransport) -> str:
        """The URL that the share link *path* redirects to.

        Raises:
            ScrapeError: what Instagram's refusal means.
        """
        context = self.logged_out_context(transport)
        try:
            with self._asked("share", context):
                return open_share_link(context, path)
        except Refused as error:
            self._heed(self._logged_out, context, error)
            refusal = Refusal("share", False, error.reason, error.retry_after)
            raise verdict([refusal]) from None

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
            sources = standing.order.sorted(standing.sources)
            refused: list[str] = []
            for left, source in zip(range(len(sources), 0, -1), sources, strict=True):
                context = self._context(standing, transport)
                if context is None or inquiry.is_over:
                    return
                now = time.monotonic()
                # A source that keeps us waiting must leave time for the next one.
                more_to_come = left > 1 or not last
                transport.deadline = now + (deadline - now) / (2 if more_to_come else 1)
                try:
                    with self._asked(source.name, context):
                        description = describe(source.ask(context, inquiry.shortcode))
                except Refused as error:
                    inquiry.refuse(source, standing, error)
                    self._heed(standing, context, error)
                    if error.reason is Reason.PACE:
                        # There is one pace: no other source may be asked now, either.
                        return
                    refused.append(source.name)
                else:
                    inquiry.add(description)
                    standing.order.gave(source.name, refused)
                    refused = []
                    self._keep_session(standing)

    @contextmanager
    def _asked(self, source: str, context: Context) -> Iterator[None]:
        """Count and log how the request in the block ended; turn its failure into a refusal."""
        try:
            yield
        except Exception as error:
            refused = error if isinstance(error, Refused) else _judge(error, context)
            if refused is None:
                raise
            self._on_request(source, refused.reason)
            log.info(
                "source refused",
                source=source,
                reason=refused.reason,
                cause=str(error),
                chain=" <- ".join(type(link).__name__ for link in chain_of(error)),
                # Whoever reads the log will want to look into the answer.
                exc_info=error if refused.reason is Reason.CHANGED else None,
            )
            if refused is error:
                raise
            raise refused from error
        finally:
            context.transport.finish()
        self._on_request(source, "ok")

    def _heed(self, standing: "Standing", context: Context, refused: Refused) -> None:
        """Slow down after a limit; note what a refusal says of the session."""
        if refused.reason in LIMITS:
            context.slow_down()
        if standing is not self._with_session:
            return
        session: Session = self._local.session
        if refused.reason is Reason.SESSION_ENDED:
            self._login.note_ended(session)
        elif refused.reason is Reason.CHALLENGE:
            self._login.note_challenged(session)
        elif refused.reason in LIMITS:
            wait = self._cooldown if refused.retry_after is None else refused.retry_after
            standing.rests_until = time.monotonic() + wait

    def _keep_session(self, standing: "Standing") -> None:
        if standing is self._with_session:
            session, context = self._local.session, self._local.with_session
            self._login.note_cookies(session, context.cookies)
            self._local.session = self._login.session()

    def _context(self, standing: "Standing", transport: PooledTransport) -> Context | None:
        """The calling thread's context; None where there is no session to be used now."""
        if standing is self._logged_out:
            return self.logged_out_context(transport)
        session = self._login.session()
        if session is None or time.monotonic() < standing.rests_until:
            return None
        if getattr(self._local, "session", None) != session:
            self._local.session = session
            self._local.with_session = Context(
                transport,
                standing.pace,
                self._tokens,
                doc_id=self._doc_id,
                cookies=session.cookies,
                username=session.username,
                on_request=self._on_request,
            )
        context: Context = self._local.with_session
        return context

    def logged_out_context(self, transport: PooledTransport) -> Context:
        """The calling thread's context without a session."""
        context: Context | None = getattr(self._local, "logged_out", None)
        if context is None:
            context = self._local.logged_out = Context(
                transport,
                self._logged_out.pace,
                self._tokens,
                doc_id=self._doc_id,
                on_request=self._on_request,
            )
        return context


class Standing:
    """What is known of Instagram in one login state: its sources, their order, the pace.

    ``rests_until`` is a monotonic time: before it the account is left alone.
    """

    def __init__(self, name: str, sources: Sequence[Source], paces: Mapping[str, Pace]) -> None:
        self.name = name
        self.sources = sources
        self.order = SourceOrder(name)
        self.pace = paces[name]
        self.with_session = sources is WITH_SESSION
        self.rests_until = 0.0

    @property
    def source_names(self) -> list[str]:
        """The names of the sources in the order in which they are asked now."""
        return [source.name for source in self.order.sorted(self.sources)]


@dataclass(slots=True)
class _Inquiry:
    """What the sources said of one post so far."""

    shortcode: Shortcode
    description: Description | None = None
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether no further source can help: all is found, or the page says that it is gone."""
        if self.description is not None and self.description.complete:
            return True
        return any(refusal.reason is Reason.GONE for refusal in self.refusals)

    def add(self, description: Description) -> None:
        known = self.description
        self.description = known.filled_from(description) if known else description

    def refuse(self, source: Source, standing: Standing, error: Refused) -> None:
        self.refusals.append(
            Refusal(source.name, standing.with_session, error.reason, error.retry_after)
        )


def _judge(error: Exception, context: Context) -> Refused | None:
    """What *error* of a source means, or None where it is a fault of ours."""
    refused = reason_of_error(error)
    if refused is None or refused.reason is Reason.PACE:
        return refused
    if context.transport.is_late:
        return Refused(Reason.LATE)
    response = context.transport.response
    if response is not None:
        by_response = reason_of_response(response, with_session=context.is_logged_in)
        return by_response or refused
    return refused
