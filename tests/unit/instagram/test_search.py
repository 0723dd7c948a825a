"""Which sources a search tries, and what their answers change. No request is sent."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from requests.cookies import RequestsCookieJar
from structlog.testing import capture_logs

from scrapper.errors import (
    ChallengeRequired,
    InstagramChanged,
    InstagramFailed,
    InstagramUnreachable,
    PaceExceeded,
    PostForbidden,
    PostNotFound,
    RateLimited,
    ScrapeError,
    SessionRefused,
)
from scrapper.instagram.context import Context, Contexts
from scrapper.instagram.documents import Documents
from scrapper.instagram.login.session import Login
from scrapper.instagram.media import Description
from scrapper.instagram.order import SourceOrder
from scrapper.instagram.pace import Pace
from scrapper.instagram.search import Search, SourceResult
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import Source
from scrapper.instagram.transport import PooledTransport, tls_context
from scrapper.instagram.verdict import Reason, Refused
from tests.clock import Clock

R = Reason
CODE = Shortcode("DExample001")
TLS = tls_context()
COOKIES = {"sessionid": "1:alive:1", "csrftoken": "the-token"}


def picture(width: int, original: int = 640) -> dict[str, Any]:
    versions = [{"url": f"https://cdn.example/{width}", "width": width, "height": width}]
    return {
        "media_type": 1,
        "image_versions2": {"candidates": versions},
        "original_width": original,
    }


WHOLE, SMALL, LARGER = picture(640), picture(64), picture(320)
FIRST = {"media_type": 8, "carousel_media": [WHOLE, {}]}
SECOND = {"media_type": 8, "carousel_media": [{}, WHOLE]}

Answer = Mapping[str, Any] | Reason | Refused


class Stage:
    """A search over fake sources, each of which returns or raises its answer in ``answers``.

    The name of a source with the session ends with a star. Each source takes ``seconds`` to answer.
    ``tried`` has the names of the sources that were tried, in order, and ``left`` the seconds that
    each had.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._clock = Clock(1000.0)
        self.seconds = 0.0
        self.tried: list[str] = []
        self.left: list[float] = []
        self.scouted: list[float] = []
        self.reports: list[tuple[str, str]] = []
        self.looked_up: list[tuple[list[str], list[bytes], float]] = []
        self.on_ask: Callable[[Context], object] = lambda _: None
        self.replaced: set[str] = set()
        self.answers: Mapping[str, Answer] = {}
        self.transport = PooledTransport(TLS, ("instagram.com",))

    def open(self, *, session: bool = False, login_first: bool = False, pace: int = 100) -> "Stage":
        logged_out = [self._source(name) for name in ("api", "root_query", "page")]
        with_session = [self._source("media_info", has_stories=True), self._source("api")]
        stage = self

        class Order(SourceOrder):
            @contextmanager
            def scout(self, seconds: float) -> Iterator[None]:
                stage.scouted.append(seconds)
                with super().scout(seconds):
                    yield

        for name, value in {
            "LOGGED_OUT": logged_out,
            "WITH_SESSION": with_session,
            "SourceOrder": Order,
            "time": SimpleNamespace(monotonic=self._clock),
            "check_session": self._check_session,
            "open_share_link": self._open_share_link,
        }.items():
            self._patch.setattr(f"scrapper.instagram.search.{name}", value)
        self.login = Login()
        if session:
            self.login.use(COOKIES, "someone")
        self.paces = {name: Pace(pace, 600) for name in ("logged_out", "session")}
        documents = Documents()
        self._patch.setattr(documents, "look_up", self._look_up)
        self.contexts = Contexts(
            self.paces, documents=documents, on_request=lambda *report: self.reports.append(report)
        )
        self.search = Search(
            self.login,
            self.contexts,
            self.paces,
            cooldown=300,
            login_first=login_first,
            documents=documents,
            get_script=lambda url: iter([url.encode()]),
            extra_sources=[self._source("more")],
        )
        return self

    def find(self, answers: Mapping[str, Answer], **options: Any) -> Description:
        self._begin(answers)
        return self.search.find(CODE, self.transport, **options)

    def tries(self, answers: Mapping[str, Answer], **options: Any) -> str:
        """Return the names of the sources that a search tries, even if it fails."""
        with suppress(ScrapeError):
            self.find(answers, **options)
        return " ".join(self.tried)

    def examine(self, answers: Mapping[str, Answer], *, story: bool = False) -> Any:
        self._begin(answers)
        return self.search.examine(CODE, self.transport, story=story)

    @property
    def allowed(self) -> tuple[int, int]:
        """The number of queries that the pace allows logged out, and with the session."""
        return self.paces["logged_out"].allowed_now(), self.paces["session"].allowed_now()

    @property
    def seconds_to_the_deadline(self) -> float:
        return self.transport.deadline - self._clock.now

    def _begin(self, answers: Mapping[str, Answer]) -> None:
        self.tried, self.left, self.answers = [], [], answers
        self.transport.deadline = self._clock.now + 100

    def _source(self, name: str, *, has_stories: bool = False) -> Source:
        def ask(context: Context, _: Shortcode) -> dict[str, Any]:
            return dict(self._answer(name + "*" * context.is_logged_in, context))

        return Source(name, ask, has_stories)

    def _check_session(self, context: Context) -> str:
        return str(self._answer("login", context)["name"])

    def _open_share_link(self, context: Context, path: str) -> str:
        return str(self._answer("share", context)["url"]) + path

    def _answer(self, name: str, context: Context) -> Mapping[str, Any]:
        context.count("query")
        self.tried.append(name)
        self.left.append(self.seconds_to_the_deadline)
        self._clock.now += self.seconds
        self.on_ask(context)
        answer = self.answers.get(name, R.CLOSED)
        if isinstance(answer, Reason):
            raise Refused(answer)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def _look_up(
        self,
        sources: list[str],
        get: Callable[[str], Iterator[bytes]],
        begin: Callable[[], object],
        *,
        seconds: float,
    ) -> set[str]:
        before = self.contexts.logged_out(self.transport).request_number
        begin()
        assert self.contexts.logged_out(self.transport).request_number == before + 1
        self.looked_up.append((sources, list(get("script")), seconds))
        # Only the first lookup of a day finds anything.
        replaced, self.replaced = self.replaced, set()
        return replaced


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


LOGGED_OUT = "api root_query page more"
GATED = dict.fromkeys(LOGGED_OUT.split(), R.GATED)


@pytest.mark.parametrize(
    ("options", "answers", "tried", "found"),
    [
        pytest.param({}, {"api": WHOLE}, "api", "1 image", id="a whole post ends the search"),
        pytest.param(
            {},
            {"page": WHOLE},
            "api root_query page",
            "1 image",
            id="a refusal does not end the search",
        ),
        pytest.param(
            {},
            {"api": FIRST, "page": SECOND},
            "api root_query page",
            "2 images",
            id="another source fills the gaps",
        ),
        pytest.param(
            {}, {"api": FIRST}, LOGGED_OUT, "1 image, 1 missing", id="no source fills the gap"
        ),
        pytest.param(
            {}, {"root_query": R.GONE}, "api root_query", PostNotFound, id="the post is gone"
        ),
        pytest.param(
            {},
            {"api": FIRST, "root_query": R.GONE},
            "api root_query",
            "1 image, 1 missing",
            id="items found before the post was gone are kept",
        ),
        pytest.param({}, {}, LOGGED_OUT, RateLimited, id="no source has the post"),
        pytest.param({}, {"api": R.PACE}, "api", PaceExceeded, id="all sources share one pace"),
        pytest.param({}, GATED, LOGGED_OUT, PostForbidden, id="a gate stops no logged-out source"),
        pytest.param(
            {"session": True},
            {**GATED, "media_info*": WHOLE},
            f"{LOGGED_OUT} media_info*",
            "1 image",
            id="the session gets a gated post",
        ),
        pytest.param(
            {"session": True},
            {"media_info*": R.GATED},
            f"{LOGGED_OUT} media_info*",
            PostForbidden,
            id="a gate stops all sources with the session",
        ),
        pytest.param(
            {"session": True},
            {"api": R.GONE, "media_info*": WHOLE},
            "api",
            PostNotFound,
            id="the session is not used for a post that is gone",
        ),
        pytest.param(
            {"session": True},
            {"api": R.PACE, "media_info*": WHOLE},
            "api media_info*",
            "1 image",
            id="the session has its own pace",
        ),
        pytest.param(
            {"session": True, "login_first": True},
            {"api*": WHOLE},
            "media_info* api*",
            "1 image",
            id="the session can be tried first",
        ),
        pytest.param(
            {"session": True, "story": True},
            {},
            "media_info*",
            RateLimited,
            id="only the session has stories",
        ),
        pytest.param(
            {"story": True}, {"media_info*": WHOLE}, "", RateLimited, id="a story without a session"
        ),
        pytest.param(
            {"without": frozenset({"logged_out api"}), "session": True},
            {},
            "page more media_info* api*",
            RateLimited,
            id="excluded queries are not sent",
        ),
    ],
)
def test_sources_are_tried_until_the_post_is_complete(
    stage: Stage,
    options: dict[str, Any],
    answers: dict[str, Any],
    tried: str,
    found: str | type[ScrapeError],
) -> None:
    find_options = {key: options[key] for key in ("story", "without") if key in options}
    stage.open(**{key: value for key, value in options.items() if key not in find_options})
    if "media_info*" not in answers:
        answers = {"media_info*": R.CLOSED, **answers}
    answers = {key: refused_for_pace(value) for key, value in answers.items()}
    with capture_logs() as logs:
        if isinstance(found, str):
            assert stage.find(answers, **find_options).summary == found
        else:
            with pytest.raises(found):
                stage.find(answers, **find_options)
    outcomes = [line["outcome"] for line in logs if "outcome" in line]
    assert outcomes == ([] if isinstance(found, str) else [found.__name__])
    assert " ".join(stage.tried) == tried
    # A search does not wait for the scout of a login state that it does not use.
    assert len(stage.scouted) == len({name.endswith("*") for name in stage.tried} or {tried})
    assert stage.seconds_to_the_deadline == 100


def refused_for_pace(answer: Any) -> Any:
    return Refused(R.PACE, retry_after=5) if answer is R.PACE else answer


def test_description_lists_the_queries_it_comes_from(stage: Stage) -> None:
    stage.open(session=True)
    assert stage.find({"root_query": FIRST, "media_info*": SECOND}).sources == {
        *("logged_out api", "session media_info")
    }


@pytest.mark.parametrize(
    ("session", "left"),
    [(False, [50, 45, 40, 70]), (True, [50, 45, 40, 35, 30, 50])],
)
def test_each_source_but_the_last_gets_half_the_time(
    stage: Stage, session: bool, left: list[float]
) -> None:
    stage.seconds = 10
    stage.open(session=session).tries({})
    assert stage.left == left
    assert stage.scouted == [100, 60][: 1 + session]


def test_hanging_transport_ends_the_search(stage: Stage) -> None:
    def hang(_: Context) -> None:
        stage.transport.abandoned = len(stage.tried) == 2

    stage.on_ask = hang
    assert stage.open(session=True).tries({}) == "api root_query"
    assert stage.scouted == [100]
    stage.transport.abandoned = False
    assert stage.tries({"root_query": SMALL}) == "api root_query"


# ---- larger pictures


@pytest.mark.parametrize(
    ("answers", "tried", "widths"),
    [
        pytest.param({"api": WHOLE}, "api", [640], id="large enough"),
        pytest.param(
            {"api": SMALL, "page": LARGER}, "api page", [320, 64], id="the page is tried first"
        ),
        pytest.param({"api": SMALL}, "api page", [64], id="only one more request is sent"),
        pytest.param(
            {"page": SMALL, "root_query": R.NULL, "more": LARGER},
            "api root_query page more",
            [320, 64],
            id="a source that refused is not tried again",
        ),
        pytest.param(
            {"root_query": SMALL, "page": R.NULL, "api": R.NULL},
            "api root_query page",
            [64],
            id="the same query is not sent again",
        ),
    ],
)
def test_small_pictures_cause_one_more_request(
    stage: Stage, answers: dict[str, Any], tried: str, widths: list[int]
) -> None:
    [found] = stage.open().find(answers).items
    assert found is not None
    assert [one.width for one in found.candidates] == widths
    assert " ".join(stage.tried) == tried


def test_search_for_larger_pictures_gets_a_quarter_of_the_time(stage: Stage) -> None:
    stage.seconds = 20
    stage.open().find({"api": SMALL})
    assert stage.left == [50, 20]


def test_source_with_larger_pictures_is_tried_first_afterwards(stage: Stage) -> None:
    stage.open().find({"api": SMALL, "page": LARGER})
    assert stage.tries({"page": SMALL}) == "page more"


@pytest.mark.parametrize("answer", [R.CLOSED, SMALL])
def test_source_without_larger_pictures_is_not_tried_again(stage: Stage, answer: Answer) -> None:
    stage.open()
    tried = [stage.tries({"api": SMALL, "page": answer, "more": answer}) for _ in range(3)]
    assert tried == ["api page", "api more", "api"]


def test_source_that_just_refused_is_not_tried_for_larger_pictures(stage: Stage) -> None:
    answers = {"api": {"media_type": 8, "carousel_media": [SMALL, {}]}}
    assert stage.open().tries(answers) == LOGGED_OUT


def test_session_pictures_may_be_replaced_by_larger_logged_out_ones(stage: Stage) -> None:
    stage.open(session=True, login_first=True)
    assert stage.tries({"media_info*": SMALL}) == "media_info* page"


@pytest.mark.parametrize(("reason", "allowed"), [(R.THROTTLED, 50), (R.CLOSED, 100)])
def test_limit_during_search_for_larger_pictures_slows_the_pace(
    stage: Stage, reason: Reason, allowed: int
) -> None:
    stage.open().find({"api": SMALL, "page": reason})
    assert stage.allowed == (allowed, 100)


# ---- what a search changes for the next one


@pytest.mark.parametrize(
    ("answers", "tried"),
    [
        pytest.param({"root_query": WHOLE}, "root_query", id="a post that another source refused"),
        pytest.param({"api": R.GONE}, "api", id="a post that is gone"),
        pytest.param(
            {"root_query": FIRST, "more": SECOND}, "root_query more", id="two sources with gaps"
        ),
    ],
)
def test_source_that_had_the_post_is_tried_first_next_time(
    stage: Stage, answers: dict[str, Any], tried: str
) -> None:
    stage.open().tries(answers)
    assert stage.tries(answers) == tried
    names = stage.search.source_groups["logged_out"].source_names
    assert " ".join(names).startswith(tried)


@pytest.mark.parametrize(
    ("reason", "looked_up"),
    [(R.NULL, ["api"]), (R.RETIRED, ["api"]), (R.CLOSED, None), (R.CHANGED, None)],
)
def test_retired_query_is_looked_up_if_another_source_works(
    stage: Stage, reason: Reason, looked_up: list[str] | None
) -> None:
    stage.seconds, stage.replaced = 10, {"api"}
    stage.open().find({"api": reason, "root_query": WHOLE})
    assert stage.looked_up == ([(looked_up, [b"script"], 20)] if looked_up else [])
    # A source with a new document is back in its usual place.
    assert stage.tries({"api": WHOLE, "root_query": WHOLE}) == "api" if looked_up else "root_query"


def test_source_with_a_new_document_keeps_its_usual_place(stage: Stage) -> None:
    stage.replaced = {"api"}
    stage.open().find({"api": R.NULL, "root_query": FIRST, "page": SECOND})
    assert stage.search.source_groups["logged_out"].source_names == LOGGED_OUT.split()


@pytest.mark.parametrize("reason", Reason)
def test_only_limits_slow_the_pace_of_their_login_state(stage: Stage, reason: Reason) -> None:
    is_limit = reason in (R.RATE_LIMITED, R.SOFT_BLOCK, R.THROTTLED)
    stage.open(session=True).tries({"api": reason, "root_query": R.GONE})
    assert stage.allowed == (50 if is_limit else 100, 100)
    stage.open(session=True).tries({"media_info*": reason}, story=True)
    assert stage.allowed == (100, 50 if is_limit else 100)


@pytest.mark.parametrize(
    ("reason", "check", "state", "tried"),
    [
        (R.SESSION_ENDED, WHOLE, "expired", "media_info*"),
        (R.CHALLENGE, WHOLE, "challenged", "media_info*"),
        *(
            (reason, {"name": "someone"}, "active", "media_info* login")
            for reason in (R.NEEDS_LOGIN, R.WAIT, R.SOFT_BLOCK, R.LOGIN_WALL, R.STALE)
        ),
        (R.NEEDS_LOGIN, R.SESSION_ENDED, "expired", "media_info* login"),
        (R.NEEDS_LOGIN, R.CHALLENGE, "challenged", "media_info* login"),
        (R.NEEDS_LOGIN, R.FAILED, "active", "media_info* login"),
        (R.FAILED, WHOLE, "active", "media_info*"),
        (R.GATED, WHOLE, "active", "media_info*"),
    ],
)
def test_refusal_may_mean_that_the_session_ended(
    stage: Stage, reason: Reason, check: Answer, state: str, tried: str
) -> None:
    stage.open(session=True)
    assert stage.tries({"media_info*": reason, "login": check}, story=True) == tried
    assert stage.login.state.state == state
    assert [name for name, _ in stage.reports] == tried.replace("*", "").split()
    # The session is checked at most once an hour.
    assert "login" not in stage.tries({"media_info*": reason}, story=True)


def test_challenge_when_logged_out_does_not_affect_the_session(stage: Stage) -> None:
    stage.open(session=True).find({"api": WHOLE})
    stage.tries({"api": R.CHALLENGE, "root_query": R.SESSION_ENDED})
    assert stage.login.state.state == "active"


def test_paused_source_of_the_account_is_not_tried(stage: Stage) -> None:
    stage.open(session=True)
    limited = {"media_info*": Refused(R.RATE_LIMITED, retry_after=600)}
    assert stage.tries(limited) == f"{LOGGED_OUT} media_info*"
    with pytest.raises(RateLimited) as refused:
        stage.find({"media_info*": WHOLE}, story=True)
    assert stage.tried == []
    assert refused.value.retry_after == pytest.approx(600, abs=60)
    stage.open(session=True, login_first=True).tries({"media_info*": R.CLOSED, "api*": R.EMPTY})
    assert stage.tries({"api*": WHOLE}) == "api*"


def set_cookie(context: Context, name: str, value: str) -> None:
    """Set a cookie as a response from Instagram would."""
    jar = RequestsCookieJar()
    jar.set(name, value, domain=".instagram.com")
    context.update_cookies(jar)  # type: ignore[no-untyped-call]


def test_rotated_cookies_are_kept(stage: Stage) -> None:
    used: list[Context] = []

    def rotate(context: Context) -> None:
        used.append(context)
        set_cookie(context, "csrftoken", "rotated-token")

    for ask in (stage.find, stage.examine):
        stage.open(session=True).on_ask = rotate
        ask({"media_info*": WHOLE}, story=True)
        session = stage.login.session()
        assert session is not None
        assert session.cookies == {**COOKIES, "csrftoken": "rotated-token"}
        assert stage.contexts.with_session(session, stage.transport) is used[-1]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["logged_out"]),
        ({"session": True}, ["logged_out", "session"]),
        ({"session": True, "login_first": True}, ["session", "logged_out"]),
    ],
)
def test_login_states_are_listed_in_order_of_use(
    stage: Stage, options: dict[str, Any], names: list[str]
) -> None:
    groups = stage.open(**options).search.source_groups
    assert list(groups) == names
    assert [groups[name].pace for name in names] == [stage.paces[name] for name in names]
    assert groups["logged_out"].source_names == LOGGED_OUT.split()


# ---- doctor: every source once


def result(name: str, outcome: str, files: str = "", wait: float | None = None) -> SourceResult:
    return SourceResult(name, outcome, 418, files, 1230, wait)


CLOSED = [result(name, "closed") for name in ("root_query", "page", "more")]


@pytest.mark.parametrize(
    ("options", "answers", "rows", "error"),
    [
        pytest.param(
            {},
            {"api": WHOLE},
            [
                *(result("api", "ok", "1 image"), *CLOSED),
                *(
                    SourceResult("media_info (session)", "no_session"),
                    SourceResult("api (session)", "no_session"),
                ),
            ],
            None,
            id="a post that one source has",
        ),
        pytest.param(
            {"session": True},
            {"api": Refused(R.RATE_LIMITED, retry_after=7)},
            [
                *(result("api", "rate_limited", wait=7), *CLOSED),
                *(
                    SourceResult("media_info (session)", "not_needed"),
                    SourceResult("api (session)", "not_needed"),
                ),
            ],
            RateLimited,
            id="the account is not used without need",
        ),
        pytest.param(
            {"session": True},
            {"api": R.GATED, "api*": FIRST},
            [
                *(result("api", "gated"), *CLOSED, result("media_info (session)", "closed")),
                result("api (session)", "ok", "1 image, 1 missing"),
            ],
            None,
            id="the account is used for a gated post",
        ),
        pytest.param(
            {"session": True, "story": True},
            {"media_info*": R.GATED},
            [result("media_info (session)", "gated")],
            PostForbidden,
            id="the account is used for a story",
        ),
        pytest.param(
            {"story": True},
            {},
            [SourceResult("media_info (session)", "no_session")],
            PostForbidden,
            id="a story without a session",
        ),
    ],
)
def test_doctor_tries_each_source_once(
    stage: Stage,
    options: dict[str, Any],
    answers: dict[str, Any],
    rows: list[SourceResult],
    error: type[ScrapeError] | None,
) -> None:
    def respond(_: Context) -> None:
        stage.transport.status = 418
        stage.transport.clock_difference = 9.0 if len(stage.tried) == 1 else None

    stage.seconds, stage.on_ask = 1.2304, respond
    story = options.get("story", False)
    findings = stage.open(session=options.get("session", False)).examine(answers, story=story)
    assert findings.rows == rows
    assert type(findings.error) is (error or type(None))
    assert findings.clock_difference == (9.0 if stage.tried else None)
    assert stage.seconds_to_the_deadline == pytest.approx(100 - 1.2304 * len(stage.tried))


def test_doctor_does_not_try_a_paused_source(stage: Stage) -> None:
    stage.open(session=True).tries({"media_info*": R.CLOSED}, story=True)
    findings = stage.examine({**GATED, "media_info*": WHOLE, "api*": R.EMPTY})
    *_, row, _ = findings.rows
    assert (row.source, row.outcome, row.files) == ("media_info (session)", "closed", "")
    assert row.retry_after == pytest.approx(300, abs=60)
    assert " ".join(stage.tried) == f"{LOGGED_OUT} api*"
    # The refusal that paused the source decides the error.
    assert isinstance(findings.error, RateLimited)


def test_doctor_divides_the_time_between_the_sources(stage: Stage) -> None:
    stage.seconds = 10
    stage.open(session=True).examine({"api": R.GATED})
    assert stage.left == pytest.approx([100 / 6, 90 / 5, 80 / 4, 70 / 3, 60 / 2, 50])


@pytest.mark.parametrize(("reason", "allowed"), [(R.SOFT_BLOCK, 50), (R.CLOSED, 100)])
def test_doctor_slows_the_pace_after_a_limit(stage: Stage, reason: Reason, allowed: int) -> None:
    stage.open().examine({"api": reason})
    assert stage.allowed == (allowed, 100)


# ---- share links and logins


@pytest.mark.parametrize(
    ("reason", "error", "allowed"),
    [
        (Refused(R.RATE_LIMITED, retry_after=7), RateLimited, 50),
        (R.THROTTLED, RateLimited, 50),
        (R.EMPTY, PostNotFound, 100),
        (R.LOGIN_WALL, PostForbidden, 100),
    ],
)
def test_share_link_is_opened_or_refused(
    stage: Stage, reason: Answer, error: type[ScrapeError], allowed: int
) -> None:
    stage.open()
    stage.answers = {"share": {"url": "https://www.instagram.com/"}}
    assert stage.search.open_share_link("p/x", stage.transport) == "https://www.instagram.com/p/x"
    stage.answers = {"share": reason}
    with pytest.raises(error) as refused:
        stage.search.open_share_link("p/x", stage.transport)
    assert stage.allowed == (allowed, 100)
    assert [name for name, _ in stage.reports] == ["share", "share"]
    assert refused.value.retry_after == getattr(reason, "retry_after", None)
    assert getattr(refused.value, "cool_down", None) in (None, allowed == 50)


@pytest.mark.parametrize(
    ("reason", "error", "allowed", "wait"),
    [
        (R.SESSION_ENDED, SessionRefused, 100, None),
        (R.NEEDS_LOGIN, SessionRefused, 100, None),
        (R.LOGIN_WALL, SessionRefused, 100, None),
        (R.STALE, SessionRefused, 100, None),
        (R.CHALLENGE, ChallengeRequired, 100, None),
        (R.FAILED, InstagramFailed, 100, None),
        (R.CHANGED, InstagramChanged, 100, None),
        (R.UNREACHABLE, InstagramUnreachable, 100, None),
        (R.SOFT_BLOCK, RateLimited, 50, 300),
        (R.WAIT, RateLimited, 100, 300),
        (Refused(R.RATE_LIMITED, retry_after=7), RateLimited, 50, 7),
        (Refused(R.PACE, retry_after=7), PaceExceeded, 100, 7),
    ],
)
def test_cookies_that_fail_the_check_are_not_used(
    stage: Stage, reason: Answer, error: type[ScrapeError], allowed: int, wait: float | None
) -> None:
    stage.open()
    stage.answers = {"login": reason}
    with pytest.raises(error) as refused:
        stage.search.check(COOKIES, stage.transport)
    assert refused.value.retry_after == wait
    assert not getattr(refused.value, "cool_down", False)
    assert stage.allowed == (100, allowed)
    assert [name for name, _ in stage.reports] == ["login"]
    assert stage.login.state.state == "none"


def test_checked_session_includes_cookies_that_instagram_added(stage: Stage) -> None:
    def add(context: Context) -> None:
        set_cookie(context, "mid", "m")

    stage.open().on_ask = add
    stage.answers = {"login": {"name": "someone"}}
    session = stage.search.check(COOKIES, stage.transport)
    assert (session.username, session.cookies) == ("someone", {**COOKIES, "mid": "m"})
