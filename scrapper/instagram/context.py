"""The Instaloader contexts that all sources use.

Unlike Instaloader's own contexts, they share connections and the pace of the service, print
nothing, and never sleep. To do so, they override methods of Instaloader 4.16, some of them private.
Comments explain why.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import instaloader
import requests
import structlog
from instaloader.instaloadercontext import InstaloaderContext, RateController
from requests.cookies import RequestsCookieJar

from scrapper.instagram.login.session import Session
from scrapper.instagram.pace import Kind, Pace
from scrapper.instagram.page_refusal import refusal_of_page, route_of
from scrapper.instagram.tokens import PageTokens, TokenCache, find_tokens
from scrapper.instagram.transport import PooledTransport
from scrapper.instagram.verdict import (
    Reason,
    Refused,
    location_of,
    reason_of_response,
)

__all__ = ["WWW", "Context", "Contexts", "OnRequest"]

log = structlog.get_logger(__name__)

WWW = "https://www.instagram.com/"

OnRequest = Callable[[str, str], None]
"""Called for each metadata request with the source and the outcome: ``ok`` or a reason."""

# The headers that a browser sends when its user types an address. Without them, Instagram's pages
# contain no data. None removes a header that Instaloader's sessions add but a browser does not
# send.
_NAVIGATION: Mapping[str, str | None] = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-User": "?1",
    "Upgrade-Insecure-Requests": "1",
    "Content-Length": None,
    "Host": None,
    "Origin": None,
    "Referer": None,
    "X-CSRFToken": None,
    "X-Instagram-AJAX": None,
    "X-Requested-With": None,
    "x-ig-app-id": None,
}
_FRAME: Mapping[str, str | None] = {
    **_NAVIGATION,
    "Sec-Fetch-Dest": "iframe",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-User": None,
}
# Refusals worth a retry with fresh tokens, if the old ones worked before.
_STALE_SIGNS = frozenset({Reason.NEEDS_LOGIN, Reason.CHANGED, Reason.RETIRED})
_DOMAIN = ".instagram.com"
_MAX_REDIRECTS = 5
_CLAIM = re.compile(r"[!-~]{1,200}")
_CHUNK_BYTES = 64 * 1024
# Shorter values are not redacted, because they may occur anywhere by chance.
_MIN_SECRET_CHARACTERS = 6

Result = TypeVar("Result")


class Documents(Protocol):
    """The part of :class:`scrapper.instagram.documents.Documents` that a context needs."""

    def current(self, source: str) -> tuple[str, dict[str, Any]]: ...

    def record_page(self, html: bytes) -> None: ...


class _Captured(Exception):
    """Carries a query's answer past Instaloader's own parsing."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


class _PacedRateController(RateController):
    """Instaloader's pacing hook, made to raise instead of sleeping.

    The inherited hook sleeps in the calling thread, sometimes for minutes.
    """

    def __init__(self, context: "Context") -> None:
        super().__init__(context)
        self._paced = context

    def wait_before_query(self, query_type: str) -> None:
        self._paced.count("page" if query_type == "other" else "query")


class Context(InstaloaderContext):
    """An Instaloader context for one thread; logged out unless it has a *session*.

    All logged-out contexts share *tokens*. *documents* are the web app's query documents.
    *on_request* is available as ``report``.

    Instaloader is configured to make only one attempt per request. If it made several, it would
    hide the cause of a failure behind a plain ``ConnectionException``, and sleep between attempts.
    """

    def __init__(
        self,
        transport: PooledTransport,
        pace: Pace,
        tokens: TokenCache,
        *,
        documents: Documents,
        session: Session | None = None,
        on_request: OnRequest = lambda *_: None,
    ) -> None:
        self.transport = transport
        self._documents = documents
        self.claim = "0"
        self.request_number = 0
        self._pace = pace
        self._tokens = tokens
        self.report = on_request
        self._capturing = False
        self._csrf_requested = False
        self._fields: Mapping[str, str] = {}
        super().__init__(
            sleep=False,
            quiet=True,
            max_connection_attempts=1,
            rate_controller=lambda _: _PacedRateController(self),
            iphone_support=False,
        )
        self._for_files = self.get_anonymous_session()
        # This session keeps no cookies, so that Instagram cannot link downloads to each other.
        self._for_files.cookies = RequestsCookieJar(DefaultCookiePolicy(allowed_domains=()))
        self.session = session
        if session is not None:
            self.load_session(session.username or "session", dict(session.cookies))

    def count(self, kind: Kind) -> None:
        """Count a request that is about to be sent, and set ``request_number``.

        Raises:
            PaceExceeded: the pace allows no request now.
        """
        self.request_number = self._pace.count(kind)

    def slow_down(self) -> None:
        """Slow the pace down after the last request hit a rate limit."""
        self._pace.slow_down(self.request_number)

    def query_by_instaloader(self, code: str) -> Any:
        """Send Instaloader's own query for a post, and return the answer as JSON data.

        Instaloader parses more of the answer than the service needs, and fails if any field that
        it parses is null. This method therefore captures the answer before Instaloader parses it.

        Raises:
            Exception: whatever Instaloader and requests raise.
        """

        def query() -> Any:
            self._capturing = True
            try:
                instaloader.Post.from_shortcode(self, code)
            except _Captured as captured:
                return captured.answer
            finally:
                self._capturing = False
            raise AssertionError("Instaloader sent no query")

        return query() if self.is_logged_in else self._with_tokens(query)

    def query_web(self, source: str, variables: Mapping[str, Any]) -> Any:
        """Send the web app's query for *source* without a login, and return the answer as JSON.

        Raises:
            Exception: whatever Instaloader and requests raise.
        """
        doc_id, flags = self._documents.current(source)
        all_variables = {**variables, **flags}
        return self._with_tokens(
            lambda: self.doc_id_graphql_query(doc_id, all_variables, web_api=True)
        )

    def script(self, url: str) -> Iterator[bytes]:
        """Yield the script at *url* in chunks, or nothing if the status is not 200.

        Raises:
            requests.RequestException: no answer arrived, or the connection broke.
        """
        response = self._for_files.get(url, stream=True, allow_redirects=False)
        if response.status_code == HTTPStatus.OK:
            yield from response.iter_content(_CHUNK_BYTES)

    def view(self, path: str, *, embedded: bool = False) -> requests.Response:
        """GET a page as a browser would, or as an iframe on another site if *embedded* is true.

        Redirects are not followed.

        Raises:
            PaceExceeded: the pace allows no page view now.
            requests.RequestException: no answer arrived.
        """
        self.count("page")
        headers: Any = _FRAME if embedded else _NAVIGATION
        response = self._session.get(WWW + path, headers=headers, allow_redirects=False)
        if not self.is_logged_in and response.ok:
            self._tokens.offer(lambda: _tokens_of(response))
            self._documents.record_page(response.content)
        return response

    def get_api(self, path: str, headers: Mapping[str, str]) -> Any:
        """GET *path* from the web app's REST API, and return the answer as JSON data.

        Raises:
            PaceExceeded: the pace allows no query now.
            Refused: the answer is a refusal.
            UnreadableJSON: the answer is not JSON.
            requests.RequestException: no answer arrived.
        """
        token = self._csrf_token()
        self.count("query")
        all_headers: Any = {"X-CSRFToken": token or None, "X-IG-WWW-Claim": self.claim, **headers}
        response = self._session.get(WWW + path, headers=all_headers, allow_redirects=False)
        claim = response.headers.get("x-ig-set-www-claim", "")
        if _CLAIM.fullmatch(claim):
            self.claim = claim
        if not response.ok or response.is_redirect:
            refused = reason_of_response(response, with_session=self.is_logged_in)
            raise refused or Refused(Reason.CHANGED)
        return response.json()

    @property
    def cookies(self) -> dict[str, str]:
        """The session's current cookies, which Instagram rotates."""
        return {cookie.name: cookie.value or "" for cookie in self._session.cookies}

    @property
    def secrets(self) -> list[str]:
        """The current cookies and tokens, which must not appear in any log."""
        values = (*self.cookies.values(), *self._fields.values())
        return [value for value in values if len(value) >= _MIN_SECRET_CHARACTERS]

    def doc_id_graphql_query(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        answer: dict[str, Any] = super().doc_id_graphql_query(*args, **kwargs)
        response = self.transport.response
        if "__ar" in answer and response is not None:
            # The answer comes from a server in front of the API, not from the API itself.
            refused = reason_of_response(response, with_session=self.is_logged_in)
            raise refused or Refused(Reason.CHANGED)
        if self._capturing:
            raise _Captured(answer)
        return answer

    def get_raw(self, url: str) -> requests.Response:
        """GET *url* from the CDN, and return the unread response, whatever its status.

        Raises:
            Exception: whatever requests raises.
        """
        # The inherited method opens a new session for each file, with seven useless cookies.
        response = self._for_files.get(url, stream=True)
        response.raw.decode_content = True
        return response

    def get_anonymous_session(self) -> requests.Session:
        return self._pooled(super().get_anonymous_session())

    def load_session(self, username: str, sessiondata: dict[str, str]) -> None:
        # Instaloader fails without a csrftoken.
        super().load_session(username, {"csrftoken": "", **sessiondata})  # type: ignore[no-untyped-call]
        # Instaloader sets cookies without a domain. After Instagram rotates a cookie, the old value
        # would be sent along with the new one.
        self._session.cookies = RequestsCookieJar()
        for name, value in sessiondata.items():
            self._session.cookies.set(name, value, domain=_DOMAIN)
        self._pooled(self._session)

    def error(self, msg: Any, repeat_at_end: bool = True) -> None:  # noqa: ARG002
        # The inherited method prints to stderr and keeps every message.
        log.debug("instaloader", message=str(msg))

    @contextmanager
    def _graphql_session(self, *args: Any, **kwargs: Any) -> Iterator[requests.Session]:
        with super()._graphql_session(*args, **kwargs) as session:
            yield self._pooled(session)

    def _follow_redirects(self, sess: Any, resp: requests.Response, *_: Any) -> requests.Response:
        # The inherited method follows redirects without a limit. No API redirect leads to a post.
        del sess
        return resp

    def _csrf_token(self) -> str:
        # To get the token, the inherited method views the start page without counting the view.
        token = self.cookies.get("csrftoken", "")
        if self.is_logged_in and not token and not self._csrf_requested:
            self._request_csrf_token()
            token = self.cookies.get("csrftoken", "")
        return token

    def _request_csrf_token(self) -> None:
        """View the start page with the session, so that Instagram sets ``csrftoken``."""
        response = self.view("")
        route = route_of(response.content)
        refused = refusal_of_page(response, with_session=True, route=route)
        self.report("start_page", refused.reason if refused else "ok")
        if refused:
            raise refused
        self._csrf_requested = True

    def _web_api_tokens(self) -> dict[str, str]:
        return dict(self._fields)

    def _with_tokens(self, query: Callable[[], Result]) -> Result:
        """Run *query* with the current tokens, and retry once with fresh ones if they are stale."""
        tokens = self._apply_tokens()
        try:
            result = query()
        except Exception:
            if not _are_stale(tokens, self.transport.response):
                raise
            self._tokens.drop(tokens)
            tokens = self._apply_tokens()
            tokens.renewed = True
            result = query()
        tokens.worked = True
        return result

    def _apply_tokens(self) -> PageTokens:
        left = self.transport.deadline - time.monotonic()
        tokens = self._tokens.get(self._fetch_tokens, seconds=left)
        self._fields = tokens.fields
        for name, value in tokens.cookies.items():
            self._session.cookies.set(name, value, domain=_DOMAIN)
        return tokens

    def _fetch_tokens(self) -> PageTokens:
        try:
            tokens = self._view_start_page()
        except Refused as refused:
            self.report("start_page", refused.reason)
            raise
        self.report("start_page", "ok")
        return tokens

    def _view_start_page(self) -> PageTokens:
        self.count("page")
        headers: Any = _NAVIGATION
        response = self._session.get(WWW, headers=headers, allow_redirects=False)
        # Logged-out visitors get a login form as the start page. It contains the tokens, too.
        tokens = _tokens_of(response) if response.status_code == HTTPStatus.OK else None
        self._documents.record_page(response.content)
        if tokens is None:
            route = route_of(response.content)
            refused = refusal_of_page(response, with_session=False, route=route)
            raise refused or Refused(Reason.CLOSED)
        return tokens

    def _pooled(self, session: requests.Session) -> requests.Session:
        session.mount("https://", self.transport)
        session.mount("http://", self.transport)
        # The transport itself applies the proxy settings of the environment.
        session.trust_env = False
        session.max_redirects = _MAX_REDIRECTS
        session.get_redirect_target = _redirect_target  # type: ignore[method-assign, assignment]
        return session


class Contexts:
    """Creates contexts, and caches them by transport.

    *paces* has one pace for each login state: ``logged_out`` and ``session``. *documents* are the
    web app's query documents.
    """

    def __init__(
        self, paces: Mapping[str, Pace], *, documents: Documents, on_request: OnRequest
    ) -> None:
        self._paces = paces
        self._documents = documents
        self._on_request = on_request
        self.tokens = TokenCache()
        self._logged_out: WeakKeyDictionary[PooledTransport, Context] = WeakKeyDictionary()
        self._with_session: WeakKeyDictionary[PooledTransport, Context] = WeakKeyDictionary()

    def logged_out(self, transport: PooledTransport) -> Context:
        """Return the logged-out context that uses *transport*."""
        context = self._logged_out.get(transport)
        if context is None:
            context = self._logged_out[transport] = self.make(None, transport)
        return context

    def with_session(self, session: Session, transport: PooledTransport) -> Context:
        """Return the context for *session* that uses *transport*."""
        context = self._with_session.get(transport)
        if context is None or context.session != session:
            context = self._with_session[transport] = self.make(session, transport)
        return context

    def make(self, session: Session | None, transport: PooledTransport) -> Context:
        """Return a new context without caching it."""
        return Context(
            transport,
            self._paces["session" if session else "logged_out"],
            self.tokens,
            documents=self._documents,
            session=session,
            on_request=self._on_request,
        )


def _tokens_of(response: requests.Response) -> PageTokens | None:
    fields = find_tokens(response.content)
    if fields is None:
        return None
    cookies = {cookie.name: cookie.value for cookie in response.cookies if cookie.value}
    return PageTokens(fields, cookies, time.monotonic())


def _are_stale(tokens: PageTokens, response: requests.Response | None) -> bool:
    if response is None:
        return False
    refused = reason_of_response(response, with_session=False)
    if refused is None:
        return False
    if refused.reason is Reason.STALE:
        return tokens.worked or not tokens.renewed
    return tokens.worked and not response.ok and refused.reason in _STALE_SIGNS


def _redirect_target(response: requests.Response) -> str | None:
    """Return a redirect's target, or None if it is invalid. The original method may raise."""
    known = location_of(response)
    return known.geturl() if known and response.is_redirect else None
