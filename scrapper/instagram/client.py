"""A shortcode becomes files and a post: the sources in order, one verdict, then the downloads."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from scrapper.errors import DeadlineExceeded, DiskFull, RateLimited, ScrapeError
from scrapper.instagram.context import Context
from scrapper.instagram.download import CandidatesRefused, Target, download
from scrapper.instagram.login import Login, Session
from scrapper.instagram.media import Candidate, Description, Item, Kind, describe
from scrapper.instagram.order import SourceOrder
from scrapper.instagram.pace import Pace
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import LOGGED_OUT, WITH_SESSION, Source
from scrapper.instagram.tokens import Tokens
from scrapper.instagram.transport import PooledTransport, TransportPool
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
from scrapper.library.post import MediaItem, Post, Progress
from scrapper.settings import Settings

__all__ = ["Instagram"]

log = structlog.get_logger(__name__)

_HOSTS = ("instagram.com", "cdninstagram.com", "fbcdn.net")

OnRequest = Callable[[str, str], None]
"""Called for each request for metadata with the source and the outcome: ``ok``, or a reason."""


class Instagram:
    """Fetches posts; safe to share between threads, each of which gets contexts of its own.

    *max_queries* in *window* seconds is the pace of all threads together, for each login state.
    A file of more than *max_bytes* is not taken, and *keep_free* bytes of the disk are left.
    *doc_id* is the document of the logged-out web app's query. The *login* is used for what
    cannot be had without, or, with *login_first*, before anything else; after a limit that
    names no time it rests for *cooldown* seconds.
    """

    def __init__(
        self,
        *,
        max_queries: int,
        window: float,
        cooldown: float,
        max_bytes: int,
        keep_free: int,
        doc_id: str,
        login: Login,
        login_first: bool = False,
        on_request: OnRequest = lambda *_: None,
    ) -> None:
        self.login = login
        self._max_bytes = max_bytes
        self._keep_free = keep_free
        self._doc_id = doc_id
        self._cooldown = cooldown
        self._login_first = login_first
        self._on_request = on_request
        self._transports = TransportPool(_HOSTS)
        self._tokens = Tokens()
        self._logged_out = _Standing("logged out", LOGGED_OUT, Pace(max_queries, window))
        self._with_session = _Standing("session", WITH_SESSION, Pace(max_queries, window))
        self._local = threading.local()

    @classmethod
    def from_settings(
        cls, settings: Settings, on_request: OnRequest = lambda *_: None
    ) -> "Instagram":
        """The client that *settings* describe.

        Raises:
            SettingsError: the session file holds no session.
        """
        return cls(
            max_queries=settings.instagram_max_queries,
            window=settings.instagram_window_seconds,
            cooldown=settings.instagram_cooldown_seconds,
            max_bytes=settings.max_media_bytes,
            keep_free=settings.min_free_bytes,
            doc_id=settings.instagram_doc_id,
            login=Login(
                session_file=settings.instagram_session_file,
                username=settings.instagram_username,
            ),
            login_first=settings.instagram_login_use == "always",
            on_request=on_request,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of the session's cookies that open the account to whoever has them."""
        return self.login.secrets

    def fetch(
        self, shortcode: str, url: str, folder: Path, deadline: float, progress: Progress
    ) -> Post:
        """Download the post's media into *folder*, as ``{shortcode}.mp4`` or ``.jpg``.

        A carousel's files are ``{shortcode}_1.jpg``, ``{shortcode}_2.mp4``, and so on. A post
        whose main file is a video has its cover as ``{shortcode}.jpg``, unless the CDN does not
        give it. *url* becomes the post's ``original_url``, and *progress* is kept. The call
        returns or raises soon after *deadline*, in :func:`time.monotonic` time, whatever the
        other side does.

        Raises:
            ScrapeError: one of its subclasses, for everything that is not a fault of ours.
            OSError: the files cannot be written.
        """
        target = Target(folder, progress, self._max_bytes, self._keep_free)
        target.check_room()
        transport = self._transports.take(deadline)
        try:
            fetching = _Fetch(self, Shortcode(shortcode), transport, target)
            return fetching.post(url)
        finally:
            transport.finish()

    def close(self) -> None:
        """Close all connections. No thread may be in :meth:`fetch` any more."""
        self._transports.close()

    def describe(self, shortcode: Shortcode, transport: PooledTransport) -> Description:
        """The post as the first sources that have it describe it, as completely as they do.

        A refusal by one source never ends the search while another one might have the post,
        within the deadline and the pace.

        Raises:
            ScrapeError: what all refusals together mean.
        """
        search, deadline = _Search(shortcode), transport.deadline
        standings = [self._logged_out]
        if self.login.session() is not None:
            standings.insert(0 if self._login_first else 1, self._with_session)
        try:
            for number, standing in enumerate(standings, start=1):
                self._ask(standing, search, transport, deadline, last=number == len(standings))
                if search.is_over:
                    break
        finally:
            transport.deadline = deadline
        if search.description is None:
            error = verdict(search.refusals)
            log.warning("no source gave the post", outcome=type(error).__name__)
            raise error
        return search.description

    def _ask(
        self,
        standing: "_Standing",
        search: "_Search",
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
                if context is None or search.is_over:
                    return
                now = time.monotonic()
                # One source that keeps us waiting leaves time for the next one.
                more_to_come = left > 1 or not last
                transport.deadline = now + (deadline - now) / (2 if more_to_come else 1)
                try:
                    description = self._ask_source(source, context, search.shortcode)
                except Refused as error:
                    search.refuse(source, standing, error)
                    self._heed(standing, context, error)
                    if error.reason is not Reason.PACE:
                        refused.append(source.name)
                else:
                    search.add(description)
                    standing.order.gave(source.name, refused)
                    refused = []
                    self._keep_session(standing)

    def _ask_source(self, source: Source, context: Context, shortcode: Shortcode) -> Description:
        try:
            description = describe(source.ask(context, shortcode))
        except Refused as refused:
            self._on_request(source.name, refused.reason)
            log.info("source refused", source=source.name, reason=refused.reason)
            raise
        except Exception as error:
            refused_instead = _judge(error, context)
            if refused_instead is None:
                raise
            self._on_request(source.name, refused_instead.reason)
            log.info(
                "source refused",
                source=source.name,
                reason=refused_instead.reason,
                cause=str(error),
                chain=" <- ".join(type(link).__name__ for link in chain_of(error)),
                # Whoever reads the log will want to look into the answer.
                exc_info=error if refused_instead.reason is Reason.CHANGED else None,
            )
            raise refused_instead from error
        finally:
            context.transport.finish()
        self._on_request(source.name, "ok")
        return description

    def _heed(self, standing: "_Standing", context: Context, refused: Refused) -> None:
        """Slow down after a limit; note what a refusal says of the session."""
        if refused.reason in LIMITS:
            context.slow_down()
        if standing is not self._with_session:
            return
        session: Session = self._local.session
        if refused.reason is Reason.SESSION_ENDED:
            self.login.note_ended(session)
        elif refused.reason is Reason.CHALLENGE:
            self.login.note_challenged(session)
        elif refused.reason in LIMITS:
            wait = self._cooldown if refused.retry_after is None else refused.retry_after
            standing.rests_until = time.monotonic() + wait

    def _keep_session(self, standing: "_Standing") -> None:
        if standing is self._with_session:
            session, context = self._local.session, self._local.with_session
            self.login.note_alive(session)
            self.login.note_cookies(session, context.cookies)

    def _context(self, standing: "_Standing", transport: PooledTransport) -> Context | None:
        """The calling thread's context; None where there is no session to be used now."""
        if standing is self._logged_out:
            return self.logged_out_context(transport)
        session = self.login.session()
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
                on_start_page=lambda outcome: self._on_request("start_page", outcome),
            )
        return context


class _Standing:
    """What is known of Instagram in one login state: its sources, their order, the pace."""

    def __init__(self, name: str, sources: Sequence[Source], pace: Pace) -> None:
        self.sources = sources
        self.order = SourceOrder(name)
        self.pace = pace
        self.with_session = sources is WITH_SESSION
        self.rests_until = 0.0


@dataclass(slots=True)
class _Search:
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

    def refuse(self, source: Source, standing: _Standing, error: Refused) -> None:
        self.refusals.append(
            Refusal(source.name, standing.with_session, error.reason, error.retry_after)
        )


class _Fetch:
    """One post's download: its files in order, from one description or a fresh one."""

    def __init__(
        self,
        instagram: Instagram,
        shortcode: Shortcode,
        transport: PooledTransport,
        target: Target,
    ) -> None:
        self._instagram = instagram
        self._shortcode = shortcode
        self._transport = transport
        self._target = target
        self._refreshed = False
        self._error: ScrapeError | None = None

    def post(self, url: str) -> Post:
        self._description = self._instagram.describe(self._shortcode, self._transport)
        files = [self._file(index) for index in range(len(self._description.items))]
        media = tuple(file for file in files if file is not None)
        if not media and self._error is not None:
            raise self._error
        missing = tuple(number for number, file in enumerate(files, start=1) if file is None)
        if missing:
            log.warning("items missing", shortcode=self._shortcode.text, missing=missing)
        about = self._description
        return Post(
            shortcode=self._shortcode.text,
            description=about.caption,
            owner=about.owner,
            taken_at=about.taken_at,
            original_url=url,
            media=media,
            thumbnail=self._thumbnail(),
            missing=missing,
            details=about.details,
        )

    def _file(self, index: int) -> MediaItem | None:
        """The item's file; None where Instagram gives none, not in a fresh description either."""
        item = self._description.items[index]
        if item is None:
            return None
        try:
            return self._download(index, item)
        except CandidatesRefused as refused:
            self._error = refused.error
        fresh = self._fresh_item(index)
        if fresh is not None:
            try:
                return self._download(index, fresh)
            except CandidatesRefused as refused:
                self._error = refused.error
        return None

    def _download(self, index: int, item: Item) -> MediaItem:
        stem = self._shortcode.text
        if self._description.is_carousel:
            stem += f"_{index + 1}"
        file = self._get(item.type, item.candidates, stem)
        return replace(
            file, alt_text=item.alt_text, duration=item.duration, has_audio=item.has_audio
        )

    def _get(self, kind: Kind, candidates: Sequence[Candidate], stem: str) -> MediaItem:
        context = self._instagram.logged_out_context(self._transport)
        return download(context, self._target, kind, candidates, stem)

    def _fresh_item(self, index: int) -> Item | None:
        """The item as Instagram describes it now; asked for once a fetch."""
        if not self._refreshed:
            self._refreshed = True
            try:
                fresh = self._instagram.describe(self._shortcode, self._transport)
            except DeadlineExceeded:
                raise
            except ScrapeError as error:
                self._error = error
                return None
            self._description = fresh.filled_from(self._description)
        items = self._description.items
        return items[index] if index < len(items) else None

    def _thumbnail(self) -> MediaItem | None:
        """The cover of the post's first video, if there is one: the post is whole without it."""
        videos = (item for item in self._description.items if item and item.type == "video")
        video = next(videos, None)
        if video is None or not video.cover:
            return None
        try:
            return self._get("image", video.cover, self._shortcode.text)
        except (RateLimited, DeadlineExceeded, DiskFull):
            raise
        except (ScrapeError, CandidatesRefused) as error:
            log.warning("no thumbnail", file=self._shortcode.text, cause=type(error).__name__)
            return None


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
