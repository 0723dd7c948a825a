"""A shortcode becomes files and a post: the sources in order, one verdict, then the downloads."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

from scrapper.errors import DeadlineExceeded, InvalidURL, UnsupportedLink
from scrapper.instagram.context import Contexts, OnRequest
from scrapper.instagram.files.fetch import Target, Wanted, download
from scrapper.instagram.files.post import PostDownload
from scrapper.instagram.login.file import LoginFile
from scrapper.instagram.login.session import Login, LoginState
from scrapper.instagram.media import Description
from scrapper.instagram.pace import Pace
from scrapper.instagram.search import Search, Standing
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import Source
from scrapper.instagram.transport import PooledTransport, TransportPool, tls_context
from scrapper.library.post import Fetch, MediaItem, Post
from scrapper.links import ShareLink, read_link
from scrapper.settings import Settings

__all__ = ["Instagram"]

MakePace = Callable[[str, int, float], Pace]
"""Makes the pace of a login state, ``logged_out`` or ``session``: so many queries in a window."""

_MAX_LOCATION = 4096
_HOSTS = ("instagram.com", "cdninstagram.com", "fbcdn.net")


class Instagram:
    """Fetches posts; safe to share between threads.

    At most *queries_at_once* posts are looked up at a time, and *files_at_once* files downloaded.

    All threads share the *paces*, one for each login state: ``logged_out`` and ``session``. A file
    may have *max_bytes*, and *keep_free* bytes of the disk stay free. *doc_id* is the document of
    the logged-out web app's query. The *login* is used for posts that cannot be had without it, or,
    with *login_first*, before anything else. After a limit that names no time, the login rests for
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
        queries_at_once: int,
        files_at_once: int,
        more_sources: Sequence[Source] = (),
        on_request: OnRequest = lambda *_: None,
    ) -> None:
        self.login = login
        self._max_bytes = max_bytes
        self._keep_free = keep_free
        self._queries = threading.BoundedSemaphore(queries_at_once)
        tls = tls_context()
        self._transports = TransportPool(_HOSTS, tls)
        self._files = ThreadPoolExecutor(files_at_once, thread_name_prefix="download")
        self._file_transports = TransportPool(_HOSTS, tls)
        self.paces = paces
        self._contexts = Contexts(paces, doc_id=doc_id, on_request=on_request)
        self._search = Search(
            login,
            self._contexts,
            paces,
            cooldown=cooldown,
            login_first=login_first,
            more_sources=more_sources,
        )

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        on_request: OnRequest = lambda *_: None,
        make_pace: MakePace = lambda _, most, window: Pace(most, window),
        login_file: LoginFile | None = None,
        more_sources: Sequence[Source] = (),
    ) -> "Instagram":
        """The client that *settings* describe; *login_file* keeps the login in use.

        *more_sources* are asked after this service's own.

        Raises:
            SettingsError: the session file holds no session.
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
            queries_at_once=settings.scrape_concurrency,
            files_at_once=settings.files_at_once,
            more_sources=more_sources,
            on_request=on_request,
        )

    @property
    def standings(self) -> Mapping[str, Standing]:
        """What was learned of Instagram, by login state."""
        return self._search.standings

    def fetch(
        self, fetch: Fetch, folder: Path, *, on_found: Callable[[], None] = lambda: None
    ) -> Post:
        """Download the post's media into *folder*, as ``{shortcode}.mp4`` or ``.jpg``.

        A carousel's files are ``{shortcode}_1.jpg``, ``{shortcode}_2.mp4``, and so on. A post
        whose main file is a video has its cover as ``{shortcode}.jpg``, unless the CDN does not
        give it. The progress is kept. *on_found* is called, in this thread, when Instagram said
        where the files are: from then on only the CDN is asked. The call returns or raises soon
        after the deadline, whatever the other side does.

        Raises:
            ScrapeError: one of its subclasses, for everything that is not a fault of ours.
            OSError: the files cannot be written.
        """
        target = Target(folder, fetch.progress, self._max_bytes, self._keep_free)
        target.check_room()
        code = Shortcode(fetch.shortcode)

        def find() -> Description:
            with self._asking(fetch.deadline) as transport:
                description = self._search.find(code, transport)
            on_found()
            return description

        def download_in_time(wanted: Wanted) -> MediaItem:
            with self._file_transports.taken(fetch.deadline) as transport:
                return download(self._contexts.logged_out(transport), target, wanted)

        def begin(wanted: Wanted) -> Future[MediaItem]:
            # The context carries the request ID into the thread's log lines.
            return self._files.submit(copy_context().run, download_in_time, wanted)

        return PostDownload(find, begin, fetch).post()

    @contextmanager
    def _asking(self, deadline: float) -> Iterator[PooledTransport]:
        """A transport to ask Instagram by; so many at a time as were said.

        Raises:
            DeadlineExceeded: others ask until *deadline*.
        """
        if not self._queries.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeadlineExceeded
        try:
            with self._transports.taken(deadline) as transport:
                yield transport
        finally:
            self._queries.release()

    def open_share_link(self, path: str, deadline: float) -> str:
        """The shortcode of the post that the share link *path* leads to; one request.

        Like :meth:`fetch` it returns or raises soon after *deadline*.

        Raises:
            UnsupportedLink: it leads to something else.
            ScrapeError: one of its subclasses, for everything that is not a fault of ours.
        """
        with self._asking(deadline) as transport:
            url = self._search.open_share_link(path, transport)
        try:
            link = read_link(url, max_length=_MAX_LOCATION)
        except InvalidURL:
            raise UnsupportedLink from None
        if isinstance(link, ShareLink):
            raise UnsupportedLink
        return link

    def log_in(self, cookies: Mapping[str, str], deadline: float) -> LoginState:
        """Let *cookies* be the session, after asking Instagram once whether it is alive.

        Raises:
            SessionRefused: it is not; the session in use stays.
            ScrapeError: Instagram cannot be asked now, or the account must be confirmed, or the
                disk is full; the session in use stays.
            OSError: the login cannot be stored.
        """
        with self._transports.taken(deadline) as transport:
            session = self._search.check(cookies, transport)
        return self.login.use(session.cookies, session.username)

    def close(self) -> None:
        """Close all connections. No thread may be in :meth:`fetch` any more."""
        self._files.shutdown(wait=False)
        self._transports.close()
        self._file_transports.close()
