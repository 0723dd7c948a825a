"""Whatever Instagram sends, the search ends with a post or a ScrapeError."""

import io
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from urllib3 import HTTPResponse

from scrapper.errors import ScrapeError
from scrapper.instagram.context import Contexts
from scrapper.instagram.documents import Documents
from scrapper.instagram.login.session import Login, Session
from scrapper.instagram.media import Description
from scrapper.instagram.pace import Pace
from scrapper.instagram.search import Search
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.transport import PooledTransport, tls_context
from tests.instagram.answers import ANSWERS

WORDS = (
    "data errors message status code error error_type require_login items __ar media_type "
    "xdt_api__v1__media__shortcode__web_info xig_polaris_media if_not_gated_logged_out user "
    "carousel_media image_versions2 video_versions candidates url checkpoint_url gql_data "
    "shortcode_media edge_sidecar_to_children edges node pk caption text owner"
)
KEYS = st.sampled_from(WORDS.split())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["ok", "fail", "execution error", "https://x.cdninstagram.com/a.jpg", 10**30])
    | st.sampled_from([1675004, 1357004, 1357054, "checkpoint_required", 1, 2, 8])
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=12
)
PAGES = JSON.map(
    lambda data: (
        '<script type="application/json">{"canonicalRouteName":"x","code":"DExample001",'
        f'"if_not_gated_logged_out":{json.dumps(data)}}}</script>["LSD",[],{{"token":"t"}}]'
    )
)
BODIES = (
    st.binary(max_size=50)
    | JSON.map(lambda data: json.dumps(data).encode())
    | PAGES.map(str.encode)
    | st.sampled_from([answer.content for answer in ANSWERS.values()])
)
URLS = st.text(max_size=20) | st.sampled_from(
    [answer.headers["Location"] for answer in ANSWERS.values() if "Location" in answer.headers]
    + ["https://[", "//", "http://:0", "\xff", "https://www.instagram.com:99999/", "/p/x/#["]
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Location": URLS,
        "Retry-After": st.text(max_size=12) | st.integers().map(str),
        "Content-Type": st.text(max_size=12) | st.just("text/html; charset=no-such"),
        "Content-Length": st.text(max_size=5),
        "Set-Cookie": st.text(max_size=20),
        "x-ig-set-www-claim": st.text(max_size=5),
    },
)
ANSWER = st.tuples(
    st.sampled_from([200] * 6 + [301, 302, 400, 401, 403, 404, 410, 429, 500]), HEADERS, BODIES
)


TLS = tls_context()


class CannedTransport(PooledTransport):
    """A transport that returns *answers* in order, and then repeats the last one."""

    def __init__(self, answers: list[tuple[int, dict[str, str], bytes]]) -> None:
        super().__init__(TLS, ("instagram.com", "cdninstagram.com"))
        self._answers = answers
        self.sent: list[requests.PreparedRequest] = []

    def _send(
        self, request: requests.PreparedRequest, _stream: bool, _host: str
    ) -> requests.Response:
        self.sent.append(request)
        status, headers, body = self._answers[0]
        if len(self._answers) > 1:
            self._answers.pop(0)
        raw = HTTPResponse(io.BytesIO(body), headers, status, preload_content=False)
        return self.build_response(request, raw)


def search_with(session: bool) -> Search:
    login = Login()
    if session:
        login.use({"sessionid": "1:alive:1", "csrftoken": "t0ken"}, "someone")
    paces = {name: Pace(0, 600) for name in ("logged_out", "session")}
    documents = Documents()
    contexts = Contexts(paces, documents=documents, on_request=lambda *_: None)
    return Search(
        login,
        contexts,
        paces,
        cooldown=1,
        login_first=False,
        documents=documents,
        get_script=lambda _: iter(()),
    )


@pytest.fixture(scope="module", autouse=True)
def no_logs() -> Iterator[None]:
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


@settings(
    max_examples=int(os.environ.get("ARBITRARY_ANSWERS", "300")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(answers=st.lists(ANSWER, min_size=1, max_size=4), session=st.booleans())
def test_any_answer_leads_to_a_post_or_a_scrape_error(
    answers: list[tuple[int, dict[str, str], bytes]], session: bool
) -> None:
    search, transport = search_with(session), CannedTransport(answers)
    transport.deadline = time.monotonic() + 60
    for ask in (
        lambda: search.find(Shortcode("DExample001"), transport),
        lambda: search.open_share_link("share/token/", transport),
        lambda: search.check({"sessionid": "1:new:1"}, transport),
    ):
        try:
            found: Any = ask()
        except ScrapeError:
            continue
        assert found is not None
        assert not isinstance(found, Description) or any(found.items)


@pytest.mark.parametrize(
    ("claim", "is_sent"),
    [
        ("hmac.claim", True),
        ("c" * 200, True),
        ("c" * 201, False),
        ("", False),
        ("a\r\n b", False),
        ("a b", False),
        ("\xe9", False),
        ("\u0101", False),
    ],
)
def test_only_a_claim_that_fits_a_header_is_sent_back(claim: str, is_sent: bool) -> None:
    transport = CannedTransport([(200, {"x-ig-set-www-claim": claim}, b"{}")])
    transport.deadline = time.monotonic() + 60
    contexts = Contexts(
        {"session": Pace(0, 600)}, documents=Documents(), on_request=lambda *_: None
    )
    session = Session("1", {"sessionid": "1:alive:1", "csrftoken": "t0ken"}, "someone")
    context = contexts.with_session(session, transport)
    for _ in range(2):
        context.get_api("api/v1/media/1/info/", {})
    claims = [request.headers["X-IG-WWW-Claim"] for request in transport.sent]
    assert claims == ["0", claim if is_sent else "0"]
