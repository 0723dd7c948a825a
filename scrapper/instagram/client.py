"""The Instagram client: finds a post, downloads its files, and manages the login."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

from scrapper.errors import InvalidURL, PostForbidden, StoryLink, UnsupportedLink
from scrapper.instagram.context import Contexts, OnRequest
from scrapper.instagram.documents import DocumentMemory, Documents
from scrapper.instagram.files.fetch import Fetched, Target, Wanted, fetch_file
from scrapper.instagram.files.post import PostDownload
from scrapper.instagram.login.file import LoginFile
from scrapper.instagram.login.session import Login, LoginState
from scrapper.instagram.media import Description
from scrapper.instagram.pace import Pace
from scrapper.instagram.search import Diagnosis, Search, SourceGroup
from scrapper.instagram.share import MAX_TARGET
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import Source
from scrapper.instagram.transport import CDN_HOSTS, STALLED_SECONDS, TransportPool, tls_context
from scrapper.library.post import Fetch, Post
from scrapper.links import ShareLink, names_story, read_link
from scrapper.settings import Settings

__all__ = ["Instagram"]

MakePace = Callable[[str, int, float], Pace]
"""A function that creates the pace of a login state.

Its arguments are the login state (``logged_out`` or ``session``), the maximum number of queries,
and the window in seconds.
"""

# The share of a fetch's time that is reserved for storing complete files.
_STORING_SHARE, _MAX_STORING_SECONDS = 0.1, 1.0
_SCRIPT_SECONDS = 30.0
_HOSTS = ("instagram.com", *CDN_HOSTS)


class Instagram:
    """Fetches posts; thread-safe.

    At most *max_downloads* files are downloaded at a time. All threads share *paces*, which has one
    pace for each login state: ``logged_out`` and ``session``. No file may be larger than
    *max_bytes*, and *keep_free* bytes of the disk must stay free. *doc_id* overrides the built-in
    document ID of the logged-out web app's query. *documents* stores replacements for retired
    documents. *login* is used for posts that are not visible without it; with *login_first*, it is
    tried first for every post. After a rate limit of unknown duration, the login is paused for
    *cooldown* seconds.
    """

    def __init__(
        self,
        *,
        paces: Mapping[str, Pace],
        cooldown: float,
        max_bytes: int,
        keep_free: int,
        doc_id: str,
        login: Login,
        login_first: bool = False,
        max_downloads: int,
        documents: DocumentMemory | None = None,
        extra_sources: Sequence[Source] = (),
        on_request: OnRequest = lambda *_: None,
    ) -> None:
        self.login = login
        self._max_bytes = max_bytes
        self._keep_free = keep_free
        tls = tls_context()
        self._transports = TransportPool(_HOSTS, tls)
        self._files = ThreadPoolExecutor(max_downloads, thread_name_prefix="download")
        self._file_transports = TransportPool(CDN_HOSTS, tls, patience=STALLED_SECONDS, retry=False)
        self.paces = paces
        self.documents = Documents(override=doc_id, memory=documents, report=on_request)
        self._contexts = Contexts(paces, documents=self.documents, on_request=on_request)
        self._search = Search(
            login,
            self._contexts,
            paces,
            cooldown=cooldown,
            login_first=login_first,
            documents=self.documents,
            get_script=self._script,
            extra_sources=extra_sources,
        )

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        on_request: OnRequest = lambda *_: None,
        make_pace: MakePace = lambda _, most, window: Pace(most, window),
        login_file: LoginFile | None = None,
        documents: DocumentMemory | None = None,
        extra_sources: Sequence[Source] = (),
    ) -> "Instagram":
        """Return a client configured by *settings*.

        *login_file* stores the login in use. *documents* stores replacements for retired documents.
        *extra_sources* are tried after the built-in ones.

        Raises:
            SettingsError: the cookies or session file named in *settings* is unreadable, contains
                no session, or can be modified by other users.
        """
        return cls(
            paces={
                login_state: make_pace(
                    login_state, settings.instagram_max_queries, settings.instagram_window_seconds
                )
                for login_state in ("logged_out", "session")
            },
            cooldown=settings.instagram_cooldown_seconds,
            max_bytes=settings.max_media_bytes,
            keep_free=settings.min_free_bytes,
            doc_id=settings.instagram_doc_id,
            login=Login(
                stored=login_file,
                cookies_file=settings.instagram_cookies_file,
                session_file=settings.instagram_session_file,
                username=settings.instagram_username,
            ),
            login_first=settings.instagram_login_use == "always",
            max_downloads=settings.max_downloads,
            documents=documents,
            extra_sources=extra_sources,
            on_request=on_request,
        )

    @property
    def source_groups(self) -> Mapping[str, SourceGroup]:
        """The sources of each login state in use, with their current order and their pace."""
        return self._search.source_groups

    def fetch(
        self,
        fetch: Fetch,
        folder: Path,
        *,
        query_gate: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Post:
        """Download the post's media into *folder*, as ``{shortcode}.mp4`` or ``.jpg``.

        A carousel's files are ``{shortcode}_1.jpg``, ``{shortcode}_2.mp4``, and so on. If the main
        file is a video, its cover is ``{shortcode}.jpg``, which is missing if it cannot be
        downloaded. A story is fetched only with the session. ``fetch.progress`` is updated as data
        arrives. All queries to Instagram are sent from the calling thread, inside a *query_gate*
        context. Even if a server hangs, the call returns or raises by the deadline or shortly after
        it.

        Raises:
            ScrapeError: one of its subclasses, for any failure that is not a bug in the service.
            OSError: the files cannot be written.
        """
        max_bytes = min(self._max_bytes, fetch.preference.max_bytes or self._max_bytes)
        target = Target(folder, fetch.progress, max_bytes, self._keep_free)
        target.check_room()
        code, story = Shortcode(fetch.shortcode), names_story(fetch.url)
        reserved = min(fetch.seconds_left * _STORING_SHARE, _MAX_STORING_SECONDS)
        fetch = replace(fetch, deadline=fetch.deadline - reserved)

        def find(without: frozenset[str], seconds: float) -> Description:
            if story and self.login.session() is None:
                raise PostForbidden
            deadline = time.monotonic() + seconds
            with query_gate(), self._transports.borrow(deadline) as transport:
                return self._search.find(code, transport, without=without, story=story)

        def fetch_in_time(wanted: Wanted) -> Fetched:
            deadline = min(fetch.deadline, time.monotonic() + wanted.patience)
            bounded = replace(target, max_bytes=min(target.max_bytes, wanted.max_bytes))
            with self._file_transports.borrow(deadline) as transport:
                return fetch_file(self._contexts.logged_out(transport), bounded, wanted)

        def begin(wanted: Wanted) -> Future[Fetched]:
            # The copied context puts the request ID into the thread's log lines.
            return self._files.submit(copy_context().run, fetch_in_time, wanted)

        return PostDownload(find, begin, fetch, max_bytes=max_bytes).post()

    @property
    def tokens_age(self) -> float | None:
        """Seconds since the page tokens were fetched, or None if there are none."""
        return self._contexts.tokens.age

    def examine(self, shortcode: str, deadline: float, *, story: bool) -> Diagnosis:
        """Try each source once for a post, and return the outcome of each.

        The account is used only if *story* is true, or if the post turns out to need a login.
        """
        with self._transports.borrow(deadline) as transport:
            return self._search.examine(Shortcode(shortcode), transport, story=story)

    def open_share_link(self, path: str, deadline: float) -> str:
        """Return the shortcode of the post that the share link at *path* leads to.

        This sends one or two requests. Like :meth:`fetch`, it returns or raises by *deadline* or
        shortly after it.

        Raises:
            UnsupportedLink: the link does not lead to a post.
            ScrapeError: one of its subclasses, for any failure that is not a bug in the service.
        """
        with self._transports.borrow(deadline) as transport:
            url = self._search.open_share_link(path, transport)
        try:
            link = read_link(url, max_length=MAX_TARGET)
        except InvalidURL:
            raise UnsupportedLink from None
        if isinstance(link, ShareLink):
            raise UnsupportedLink
        if names_story(url):
            # The shortcode alone would not show that the post is a story.
            raise StoryLink
        return link

    def log_in(self, cookies: Mapping[str, str], deadline: float) -> LoginState:
        """Use *cookies* as the session if Instagram accepts them.

        This sends one request. If it fails, the previous session stays in use.

        Raises:
            SessionRefused: Instagram does not accept the session.
            ScrapeError: Instagram cannot be queried now, the account must be confirmed, or the disk
                is full.
            OSError: the login cannot be stored.
        """
        with self._transports.borrow(deadline) as transport:
            session = self._search.check(cookies, transport)
        return self.login.use(session.cookies, session.username)

    def _script(self, url: str) -> Iterator[bytes]:
        with self._file_transports.borrow(time.monotonic() + _SCRIPT_SECONDS) as transport:
            yield from self._contexts.logged_out(transport).script(url)

    def close(self) -> None:
        """Close all connections. Call this only when no thread is still in :meth:`fetch`."""
        self._files.shutdown(wait=False)
        self._transports.close()
        self._file_transports.close()
