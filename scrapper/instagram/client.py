"""Instagram, by way of Instaloader 4.16: a shortcode becomes files and a :class:`Post`.

Blocking, and the only module that imports Instaloader. What it works around is named where it
does; each point was read from the source of Instaloader 4.16.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, NamedTuple

import instaloader
import requests
import structlog
import urllib3
from instaloader import exceptions
from instaloader.instaloadercontext import InstaloaderContext, RateController
from requests.cookies import RequestsCookieJar

from scrapper.errors import (
    ChallengeRequired,
    DeadlineExceeded,
    DiskFull,
    InstagramChanged,
    InstagramFailed,
    InstagramUnreachable,
    MediaIncomplete,
    MediaTooLarge,
    MediaUnexpected,
    PaceExceeded,
    PostForbidden,
    PostNotFound,
    RateLimited,
    ScrapeError,
    SettingsError,
)
from scrapper.instagram.pace import Pace
from scrapper.instagram.transport import HostRefused, PooledTransport, TransportPool
from scrapper.library.disk import check_room
from scrapper.library.post import MediaItem, Post, Progress
from scrapper.settings import Settings

__all__ = ["Instagram"]

log = structlog.get_logger(__name__)

HOSTS = ("instagram.com", "cdninstagram.com", "fbcdn.net")
_COPY_BYTES = 256 * 1024
_DOWNLOAD_TRIES = 2
_TOKENS_FRESH_SECONDS = 600
_WEB_INFO = "xdt_api__v1__media__shortcode__web_info"
_EXTENSIONS = {
    "video/mp4": ("video", ".mp4"),
    "image/jpeg": ("image", ".jpg"),
    "image/png": ("image", ".png"),
    "image/webp": ("image", ".webp"),
    "image/heic": ("image", ".heic"),
}
_UNTYPED = ("", "application/octet-stream", "binary/octet-stream")
_NOMINAL_EXTENSIONS = {"video": ".mp4", "image": ".jpg"}
_SECRET_COOKIES = ("sessionid", "csrftoken")
_CHALLENGES = ("checkpoint_required", "challenge_required", "feedback_required")
_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], type[ScrapeError]], ...] = (
    (
        (
            exceptions.LoginRequiredException,
            exceptions.PrivateProfileNotFollowedException,
            # Not an InstaloaderException: here, that Instagram ended the session.
            exceptions.AbortDownloadException,
        ),
        PostForbidden,
    ),
    ((HostRefused,), InstagramChanged),
    ((requests.ConnectionError, requests.Timeout, TimeoutError), InstagramUnreachable),
    (
        (
            exceptions.InstaloaderException,
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
        ),
        InstagramChanged,
    ),
)
_REFUSALS = (PostForbidden, InstagramChanged, InstagramFailed)


class Instagram:
    """Fetches posts; safe to share between threads, each of which gets a context of its own.

    *max_queries* in *window* seconds is the pace of all threads together. A file of more than
    *max_bytes* is not taken, and *keep_free* bytes of the disk are left. *session_file* is one
    that ``instaloader --login`` wrote, for *username*; without it posts are fetched logged out.

    Raises:
        SettingsError: the session file holds no session.
    """

    def __init__(
        self,
        *,
        max_queries: int,
        window: float,
        max_bytes: int,
        keep_free: int,
        session_file: Path | None = None,
        username: str = "",
    ) -> None:
        self._pace = Pace(max_queries, window)
        self._max_bytes = max_bytes
        self._keep_free = keep_free
        self._transports = TransportPool(HOSTS)
        self._username = username
        self._session = _read_session(session_file) if session_file else None
        self._local = threading.local()

    @classmethod
    def from_settings(cls, settings: Settings) -> "Instagram":
        """As the *settings* have it.

        Raises:
            SettingsError: the session file holds no session.
        """
        return cls(
            max_queries=settings.instagram_max_queries,
            window=settings.instagram_window_seconds,
            max_bytes=settings.max_media_bytes,
            keep_free=settings.min_free_bytes,
            session_file=settings.instagram_session_file,
            username=settings.instagram_username,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of the session's cookies that open the account to whoever has them."""
        session = self._session or {}
        return tuple(session[name] for name in _SECRET_COOKIES if name in session)

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
        target = _Target(folder, progress, self._max_bytes, self._keep_free)
        target.check_room()
        transport = self._transports.take(deadline)
        try:
            post = self._query(shortcode, transport)
            with _translated(transport):
                sources = list(_sources(post, shortcode))
                caption, owner = _unicode(post.caption or ""), _unicode(post.owner_username)
                taken_at = f"{post.date_local.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            get = partial(_download, self._context(transport), transport, target)
            return Post(
                shortcode=shortcode,
                description=caption,
                owner=owner,
                taken_at=taken_at,
                original_url=url,
                media=tuple(get(source) for source in sources),
                thumbnail=_thumbnail(get, transport, post, shortcode),
            )
        finally:
            transport.finish()

    def close(self) -> None:
        """Close all connections. No thread may be in :meth:`fetch` any more."""
        self._transports.close()

    def _query(self, shortcode: str, transport: PooledTransport) -> instaloader.Post:
        """Ask the API, then the API with fresh tokens, then the post's public page.

        The page embeds the data on many days on which the API refuses whoever is not logged
        in. Where it does not help, or our pace allows no further way, the API's refusal is
        told.
        """
        context = self._context(transport)
        try:
            return context.query(shortcode)
        except _REFUSALS as error:
            refusal = error
        if context.tokens_may_be_stale:
            self._local.context = None
            context = self._context(transport)
            try:
                return context.query(shortcode)
            except _REFUSALS as error:
                refusal = error
            except PaceExceeded:
                raise refusal from None
        try:
            post = context.query_page(shortcode)
        except (RateLimited, DeadlineExceeded):
            raise
        except ScrapeError:
            raise refusal from None
        log.info("post read from its public page", refusal=type(refusal).__name__)
        return post

    def _context(self, transport: PooledTransport) -> "_Context":
        context: _Context | None = getattr(self._local, "context", None)
        if context is None:
            context = self._local.context = _Context(transport, self._pace)
            if self._session is not None:
                context.load_session(self._username, self._session)
        return context


class _PacedRateController(RateController):
    """Instaloader's hook for pacing: never sleeps, raises instead.

    The inherited one sleeps in the calling thread, for minutes where it sees fit.
    """

    def __init__(self, context: InstaloaderContext, pace: Pace) -> None:
        super().__init__(context)
        self._pace = pace

    def wait_before_query(self, query_type: str) -> None:
        self._pace.count(query_type)


class _Context(InstaloaderContext):
    """An Instaloader context that neither sleeps, retries, prints nor opens connections anew.

    One attempt only: with more, Instaloader hides the cause of a failure behind a plain
    ``ConnectionException``, and waits between them.
    """

    def __init__(self, transport: PooledTransport, pace: Pace) -> None:
        self._transport = transport
        self._answer: Any = None
        self._worked = False
        self._made_at = time.monotonic()
        self._anonymous: requests.Session | None = None
        super().__init__(
            sleep=False,
            quiet=True,
            max_connection_attempts=1,
            rate_controller=lambda context: _PacedRateController(context, pace),
            iphone_support=False,
        )
        self._for_files = self.get_anonymous_session()
        # It takes no cookies: what a CDN says with one file is none of the next one's business.
        self._for_files.cookies = RequestsCookieJar(DefaultCookiePolicy(allowed_domains=()))

    @property
    def tokens_may_be_stale(self) -> bool:
        """Whether the page tokens were good once; Instaloader never renews them."""
        return self._worked or time.monotonic() - self._made_at > _TOKENS_FRESH_SECONDS

    def query(self, shortcode: str) -> instaloader.Post:
        """The post as the API describes it.

        Raises:
            ScrapeError: one of its subclasses.
        """
        self._answer = None
        with _translated(self._transport):
            try:
                post: instaloader.Post = instaloader.Post.from_shortcode(self, shortcode)
            except exceptions.BadResponseException:
                if _tells_removed(self._answer):
                    raise PostNotFound from None
                raise
        self._worked = True
        return post

    def query_page(self, shortcode: str) -> instaloader.Post:
        """The post as its public page embeds it, read logged out.

        Raises:
            ScrapeError: one of its subclasses.
        """
        with _translated(self._transport):
            embedded = self.get_page_data(f"p/{shortcode}/")
            media = _find_media(embedded, shortcode)
            if media is None:
                raise PostForbidden
            return instaloader.Post(self, instaloader.Post._normalize_post_data(media))

    def doc_id_graphql_query(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # Post.from_shortcode() raises the same for a removed post and for a changed API: the
        # difference is in the answer alone.
        answer: dict[str, Any] = super().doc_id_graphql_query(*args, **kwargs)
        self._answer = answer
        return answer

    def get_raw(self, url: str) -> requests.Response:
        # Instaloader has another session for each file, with seven cookies that say nothing.
        self._anonymous = self._for_files
        try:
            return super().get_raw(url)
        finally:
            self._anonymous = None

    def get_anonymous_session(self) -> requests.Session:
        return self._anonymous or self._pooled(super().get_anonymous_session())

    def load_session(self, username: str, sessiondata: dict[str, str]) -> None:
        super().load_session(username, sessiondata)  # type: ignore[no-untyped-call]
        self._pooled(self._session)

    @contextmanager
    def _graphql_session(self, *args: Any, **kwargs: Any) -> Iterator[requests.Session]:
        with super()._graphql_session(*args, **kwargs) as session:
            yield self._pooled(session)

    def _pooled(self, session: requests.Session) -> requests.Session:
        session.mount("https://", self._transport)
        session.mount("http://", self._transport)
        # The transport looks into the environment itself.
        session.trust_env = False
        return session

    def error(self, msg: Any, repeat_at_end: bool = True) -> None:  # noqa: ARG002
        # The inherited one prints to stderr, and keeps each message for ever.
        log.debug("instaloader", message=str(msg))


class _Source(NamedTuple):
    """A file to download: its kind, URL, name without extension, and size in pixels."""

    type: str
    url: str
    stem: str
    width: int | None
    height: int | None


class _Target(NamedTuple):
    """Where files go, who watches them come, and how large they may be."""

    folder: Path
    progress: Progress
    max_bytes: int
    keep_free: int

    def check_room(self, coming: int = 0) -> None:
        check_room(self.folder, keep_free=self.keep_free, coming=coming)

    def expect(self, size: int) -> None:
        """Take note that a file of *size* bytes is about to come, or refuse it."""
        self._check_size(size)
        self.check_room(size)
        self.progress.expect(size)

    def take(self, piece: bytes, size: int) -> None:
        """Take note of a *piece* that makes the file *size* bytes long, or refuse it."""
        self._check_size(size)
        self.check_room()
        self.progress.done += len(piece)

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise MediaTooLarge


def _unicode(text: str) -> str:
    """*text* without the lone surrogates that JSON allows and no encoding does."""
    return text.encode("utf-8", "replace").decode()


def _sources(post: instaloader.Post, shortcode: str) -> Iterator[_Source]:
    node: dict[str, Any] = post._node
    if post.typename == "GraphSidecar":
        children = zip(post.get_sidecar_nodes(), node["carousel_media"], strict=True)
        for number, (child, data) in enumerate(children, start=1):
            url = child.video_url if child.is_video else child.display_url
            yield _source(child.is_video, url, f"{shortcode}_{number}", data)
    else:
        yield _source(post.is_video, post.video_url if post.is_video else post.url, shortcode, node)


def _thumbnail(
    get: Callable[[_Source], MediaItem],
    transport: PooledTransport,
    post: instaloader.Post,
    shortcode: str,
) -> MediaItem | None:
    """The cover of the post's first video, if there is one: the post is whole without it."""
    try:
        with _translated(transport):
            cover = _cover(post, shortcode)
        return get(cover) if cover else None
    except (RateLimited, DeadlineExceeded, DiskFull):
        raise
    except ScrapeError as error:
        log.warning("no thumbnail", shortcode=shortcode, cause=type(error).__name__)
        return None


def _cover(post: instaloader.Post, shortcode: str) -> _Source | None:
    node: dict[str, Any] = post._node
    if post.typename != "GraphSidecar":
        return _source(False, post.url, shortcode, node) if post.is_video else None
    for child, data in zip(post.get_sidecar_nodes(), node["carousel_media"], strict=True):
        if child.is_video:
            return _source(False, child.display_url, shortcode, data)
    return None


def _source(is_video: bool, url: str | None, stem: str, data: dict[str, Any]) -> _Source:
    if not url:
        raise InstagramChanged
    versions = data["video_versions"] if is_video else data["image_versions2"]["candidates"]
    width = versions[0].get("width") or data.get("original_width")
    height = versions[0].get("height") or data.get("original_height")
    return _Source("video" if is_video else "image", url, stem, width, height)


def _download(
    context: _Context, transport: PooledTransport, target: _Target, source: _Source
) -> MediaItem:
    """Download one file; one that is cut is downloaded once more.

    Not by Instaloader's ``download_pic``: that takes the extension from whatever type the
    other side names, and a file that ends early for a whole one.
    """
    progress, before = target.progress, replace(target.progress)
    for tries_left in reversed(range(_DOWNLOAD_TRIES)):
        try:
            return _download_once(context, transport, target, source)
        except MediaIncomplete as error:
            log.warning("media file cut", file=source.stem, cause=repr(error.__cause__))
            progress.done, progress.total = before.done, before.total
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def _download_once(
    context: _Context, transport: PooledTransport, target: _Target, source: _Source
) -> MediaItem:
    with _translated(transport):
        response = context.get_raw(source.url)
    length = response.headers.get("Content-Length", "").strip()
    with closing(response):
        path = target.folder / (source.stem + _extension(response, source.type))
        if length.isdecimal():
            target.expect(int(length))
        try:
            size = _copy(response, path, target)
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            path.unlink()
            raise _translate_cut(error, transport) from error
        except MediaTooLarge:
            path.unlink()
            raise
    encoded = "Content-Encoding" in response.headers
    if not size or (length and not encoded and str(size) != length):
        path.unlink()
        raise MediaIncomplete
    kind: Any = source.type
    return MediaItem(kind, path.name, source.url, size, source.width, source.height)


def _copy(response: requests.Response, path: Path, target: _Target) -> int:
    size = 0
    with path.open("wb") as file:
        while piece := response.raw.read(_COPY_BYTES):
            size += file.write(piece)
            target.take(piece, size)
    return size


def _extension(response: requests.Response, kind: str) -> str:
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type in _UNTYPED:
        return _NOMINAL_EXTENSIONS[kind]
    actual, extension = _EXTENSIONS.get(content_type, ("", ""))
    if actual != kind:
        log.warning("media file of another type", promised=kind, content_type=content_type)
        raise MediaUnexpected
    return extension


def _tells_removed(answer: Any) -> bool:
    """Whether *answer* has the expected key with nothing in it, rather than another shape."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or _WEB_INFO not in data or answer.get("errors"):
        return False
    info = data[_WEB_INFO]
    return info is None or (isinstance(info, dict) and "items" in info and not info["items"])


def _find_media(data: Any, shortcode: str) -> dict[str, Any] | None:
    """The outermost object in JSON *data* that describes the post's media."""
    if isinstance(data, dict):
        if data.get("code") == shortcode and "media_type" in data:
            return data
        data = list(data.values())
    if isinstance(data, list):
        for value in data:
            if (found := _find_media(value, shortcode)) is not None:
                return found
    return None


def _read_session(path: Path) -> dict[str, str]:
    context: Any = InstaloaderContext(sleep=False, quiet=True)
    try:
        with path.open("rb") as file:
            context.load_session_from_file("", file)
        return dict(context.save_session())
    # Unpickling a file of another kind can raise anything.
    except Exception as error:
        raise SettingsError(f"INSTAGRAM_SESSION_FILE: {type(error).__name__}: {error}") from error
    finally:
        context.close()


@contextmanager
def _translated(transport: PooledTransport) -> Iterator[None]:
    """Turn what Instaloader raises inside the block into a :class:`ScrapeError`."""
    try:
        yield
    except Exception as error:
        translation = _translate(error, transport)
        if translation is None or translation is error:
            raise
        # With the traceback where the reader of the log will want to look into the answer.
        trace = error if isinstance(translation, InstagramChanged) else None
        log.warning(
            "instagram failed",
            outcome=type(translation).__name__,
            cause=str(error),
            chain=" <- ".join(type(link).__name__ for link in _chain(error)),
            exc_info=trace,
        )
        raise translation from error


def _translate_cut(error: BaseException, transport: PooledTransport) -> ScrapeError:
    translation = _translate(error, transport)
    return translation if isinstance(translation, DeadlineExceeded) else MediaIncomplete()


def _translate(error: BaseException, transport: PooledTransport) -> ScrapeError | None:
    """What *error* means, or None where it is not Instagram's doing.

    Instaloader's outermost exception tells little: what counts is the answer that came last,
    then the chain of causes.
    """
    chain = tuple(_chain(error))
    for link in chain:
        if isinstance(link, ScrapeError):
            return link
    if time.monotonic() >= transport.deadline:
        return DeadlineExceeded()
    return _by_answer(transport.response) or _by_cause(chain)


def _by_answer(response: requests.Response | None) -> ScrapeError | None:
    if response is None:
        return None
    status, complaint = response.status_code, _complaint(response)
    if status == HTTPStatus.TOO_MANY_REQUESTS or "wait a few minutes" in complaint:
        return RateLimited(retry_after=_retry_after(response))
    if any(word in complaint for word in _CHALLENGES):
        return ChallengeRequired()
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or "login_required" in complaint:
        return PostForbidden()
    if status == HTTPStatus.NOT_FOUND:
        return PostNotFound()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return InstagramFailed()
    return None


def _by_cause(chain: Sequence[BaseException]) -> ScrapeError | None:
    for types, meaning in _MEANINGS:
        if any(isinstance(link, types) for link in chain):
            return meaning()
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _complaint(response: requests.Response | None) -> str:
    """What an answer of the API complains of.

    Nothing for a media file, whose body is not read here, nor for an answer that is fine: the
    words that are looked for may stand in any caption.
    """
    if response is None or not getattr(response, "_content_consumed", False):
        return ""
    if response.status_code != HTTPStatus.OK:
        return response.text
    with suppress(ValueError):
        data = response.json()
        if isinstance(data, dict) and data.get("status", "ok") != "ok":
            return str(data.get("message"))
    return ""


def _retry_after(response: requests.Response | None) -> float | None:
    """Seconds from a ``Retry-After`` header, in either form of RFC 9110, section 10.2.3."""
    value = response.headers.get("Retry-After", "") if response is not None else ""
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
