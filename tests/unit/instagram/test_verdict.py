"""What each answer means, and which error follows from several refusals."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
import requests
import urllib3
from instaloader import exceptions

from scrapper.commands.doctor import MEANINGS
from scrapper.errors import PaceExceeded
from scrapper.instagram.page_refusal import refusal_of_page, route_of
from scrapper.instagram.transport import BodyTooLarge, HostRefused
from scrapper.instagram.verdict import (
    Reason,
    Refusal,
    Refused,
    chain_of,
    reason_of_error,
    reason_of_redirect,
    reason_of_response,
    retry_after_of,
    summary_of,
    verdict,
)
from tests.instagram.answers import ANSWERS, RawAnswer

R = Reason


def response_of(raw: RawAnswer) -> requests.Response:
    response = requests.Response()
    response.status_code = raw.status
    response.headers.update(raw.headers)
    response.raw = io.BytesIO(raw.content)
    return response


def reason_in(refused: Refused | None) -> Reason | None:
    """Return the refusal's reason, which must be valid."""
    return None if refused is None else Reason(refused.reason)


@pytest.mark.parametrize(
    ("name", "logged_out", "with_session"),
    [
        ("ratecode", R.RATE_LIMITED, R.RATE_LIMITED),
        ("ratetext", R.RATE_LIMITED, R.RATE_LIMITED),
        ("toomany", R.RATE_LIMITED, R.RATE_LIMITED),
        ("waitcapital", R.WAIT, R.WAIT),
        ("softblocked", R.SOFT_BLOCK, R.SOFT_BLOCK),
        ("staletokens", R.STALE, R.STALE),
        ("tlsrefused", R.CLOSED, R.CLOSED),
        ("feedbackword", R.CLOSED, R.CLOSED),
        ("guarded", None, None),
        ("geoblock", R.GATED, R.GATED),
        ("consentword", R.CHALLENGE, R.CHALLENGE),
        ("checkpointword", R.CHALLENGE, R.CHALLENGE),
        ("challengeword", R.CHALLENGE, R.CHALLENGE),
        ("errortype", R.CHALLENGE, R.CHALLENGE),
        ("errortypeonly", R.CHALLENGE, R.CHALLENGE),
        ("deleted", R.EMPTY, R.GONE),
        ("deletedtoo", R.EMPTY, R.GONE),
        ("retiredquery", R.RETIRED, R.RETIRED),
        ("loginword", R.NEEDS_LOGIN, R.SESSION_ENDED),
        ("fivehundred", R.FAILED, R.FAILED),
        ("teapot", R.CHANGED, R.CHANGED),
        ("nonsense", None, None),
        ("to_challenge", R.CHALLENGE, R.CHALLENGE),
        ("to_authplatform", R.CHALLENGE, R.CHALLENGE),
        ("to_terms", R.CHALLENGE, R.CHALLENGE),
        ("to_privacy", R.CHALLENGE, R.CHALLENGE),
        ("to_suspended", R.CHALLENGE, R.CHALLENGE),
        ("to_disabled", R.CHALLENGE, R.CHALLENGE),
        ("to_consent", R.NEEDS_LOGIN, R.CHALLENGE),
        ("to_loginform", R.NEEDS_LOGIN, R.SESSION_ENDED),
        ("to_start", R.NEEDS_LOGIN, R.SESSION_ENDED),
        ("to_elsewhere", R.CHANGED, R.CHANGED),
        ("to_nourl", R.CHANGED, R.CHANGED),
        ("to_noport", R.CHANGED, R.CHANGED),
        ("to_nothing", R.NEEDS_LOGIN, R.SESSION_ENDED),
    ],
)
def test_reason_of_each_api_answer(
    name: str, logged_out: Reason | None, with_session: Reason | None
) -> None:
    for session, expected in ((False, logged_out), (True, with_session)):
        refused = reason_of_response(response_of(ANSWERS[name]), with_session=session)
        assert reason_in(refused) == expected


@pytest.mark.parametrize(
    ("raw", "logged_out", "with_session"),
    [
        (RawAnswer(400, {"message": "Execution error"}), R.RETIRED, R.RETIRED),
        (RawAnswer(200, {"message": "invalid request", "status": "fail"}), R.RETIRED, R.RETIRED),
        (RawAnswer(200, {"message": "invalid request"}), None, None),
        (RawAnswer(200, {"message": "surprise", "status": "fail"}), R.CHANGED, R.CHANGED),
        (RawAnswer(200, {"status": "fail"}), None, None),
        (RawAnswer(200, {"status": "ok", "message": "wait a few minutes"}), R.WAIT, R.WAIT),
        (RawAnswer(200, {"caption": "wait a few minutes"}), None, None),
        (RawAnswer(200, "please wait a few minutes"), None, None),
        (RawAnswer(400, "Please Wait a few minutes"), R.WAIT, R.WAIT),
        (RawAnswer(400, "x" * 982 + "wait a few minutes"), R.WAIT, R.WAIT),
        (RawAnswer(400, "x" * 983 + "wait a few minutes"), R.CHANGED, R.CHANGED),
        (RawAnswer(400, "media not found"), R.CHANGED, R.CHANGED),
        (RawAnswer(400, {"message": "The post was removed"}), R.EMPTY, R.GONE),
        (RawAnswer(400, {"message": "Media not found"}), R.EMPTY, R.GONE),
        (RawAnswer(400, {"message": "This post is unavailable"}), R.EMPTY, R.GONE),
        (RawAnswer(400, {"message": "post" + " " * 40 + "removed"}), R.EMPTY, R.GONE),
        (RawAnswer(400, {"message": "post" + " " * 41 + "removed"}), R.CHANGED, R.CHANGED),
        *(
            (RawAnswer(400, {"message": message}), R.CHANGED, R.CHANGED)
            for message in (
                "mediation deleted",
                "multimedia deleted",
                "post undeleted",
                "post deleted_by",
                "post found",
                "post not ready",
            )
        ),
        (RawAnswer(400, {"message": "x" * 983 + "geoblock_required"}), R.GATED, R.GATED),
        (RawAnswer(400, {"message": "x" * 984 + "geoblock_required"}), R.CHANGED, R.CHANGED),
        (RawAnswer(401, {"message": "x", "require_login": True}), R.NEEDS_LOGIN, R.NEEDS_LOGIN),
        (RawAnswer(401, {"require_login": True}), R.SOFT_BLOCK, R.SOFT_BLOCK),
        (RawAnswer(401, {"require_login": 1}), R.NEEDS_LOGIN, R.NEEDS_LOGIN),
        (
            RawAnswer(401, {"message": "", "error_type": "", "require_login": True}),
            R.SOFT_BLOCK,
            R.SOFT_BLOCK,
        ),
        (RawAnswer(401), R.NEEDS_LOGIN, R.NEEDS_LOGIN),
        (RawAnswer(403, []), R.NEEDS_LOGIN, R.NEEDS_LOGIN),
        (RawAnswer(404), R.EMPTY, R.EMPTY),
        (RawAnswer(410), R.CHANGED, R.CHANGED),
        (RawAnswer(500, {"message": "checkpoint_required"}), R.CHALLENGE, R.CHALLENGE),
        (RawAnswer(500, {"message": "surprise"}), R.FAILED, R.FAILED),
        (RawAnswer(200, {"code": 1357004}), R.STALE, R.STALE),
        (RawAnswer(200, {"error": 1357054, "message": "login_required"}), R.CLOSED, R.CLOSED),
        (RawAnswer(200, {"errors": "login_required"}), None, None),
        (RawAnswer(200, {"errors": ["login_required", 7]}), None, None),
        (RawAnswer(200, {"errors": [{}] * 9 + [{"code": 1357004}]}), R.STALE, R.STALE),
        (RawAnswer(200, {"errors": [{}] * 10 + [{"code": 1357004}]}), None, None),
        (RawAnswer(200, {"message": ["login_required"], "code": [1357004]}), None, None),
        (
            RawAnswer(400, {"message": "feedback_required", "error_type": "challenge_required"}),
            R.CHALLENGE,
            R.CHALLENGE,
        ),
    ],
)
def test_error_text_counts_only_in_error_fields(
    raw: RawAnswer, logged_out: Reason | None, with_session: Reason | None
) -> None:
    for session, expected in ((False, logged_out), (True, with_session)):
        found = reason_of_response(response_of(raw), with_session=session)
        assert reason_in(found) == expected


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("toomany", 7.0),
        ("ratecode", 7.0),
        ("softblocked", 7.0),
        ("waitcapital", 7.0),
        ("feedbackword", None),
        ("fivehundred", None),
    ],
)
def test_only_limits_have_a_retry_after(name: str, seconds: float | None) -> None:
    response = response_of(ANSWERS[name])
    response.headers["Retry-After"] = "7"
    found = reason_of_response(response, with_session=False)
    assert found is not None
    assert found.retry_after == seconds


DAY = 24 * 60 * 60


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17.0),
        (" 0017 ", 17.0),
        ("0", 0.0),
        ("000", 0.0),
        (str(DAY), DAY),
        (str(DAY + 1), DAY),
        ("12345", 12345.0),
        ("99999", DAY),
        ("100000", DAY),
        ("1" + "0" * 5000, DAY),
        ("0" * 5000 + "5", 5.0),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0),
        ("Wed, 01 Jan 2098 00:00:00 GMT", DAY),
        ("Wed, 01 Jan 2098 00:00:00", DAY),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("\u0665", None),
        ("soon", None),
        ("Wed, 01 Jan 99999999999 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after_of(response_of(RawAnswer(429, "", {"Retry-After": value}))) == seconds


@pytest.mark.parametrize(("zone", "hours"), [("", 1), (" GMT", 1), (" -0100", 2)])
def test_date_without_a_time_zone_is_in_utc(zone: str, hours: int) -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    value = moment.strftime("%a, %d %b %Y %H:%M:%S") + zone
    found = retry_after_of(response_of(RawAnswer(429, "", {"Retry-After": value})))
    assert found == pytest.approx(hours * 3600, abs=60)


def test_missing_retry_after_is_none() -> None:
    assert retry_after_of(response_of(RawAnswer(429))) is None


def with_cause(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.ConnectionError(), R.UNREACHABLE),
        (requests.Timeout(), R.UNREACHABLE),
        (TimeoutError(), R.UNREACHABLE),
        (with_cause(exceptions.ConnectionException(), requests.ConnectionError()), R.UNREACHABLE),
        (with_cause(exceptions.InstaloaderException(), PaceExceeded(retry_after=3.0)), R.PACE),
        (BodyTooLarge("x"), R.CHANGED),
        (HostRefused("x"), R.CHANGED),
        (exceptions.InstaloaderException(), R.CHANGED),
        (exceptions.AbortDownloadException(), R.CHANGED),
        (requests.RequestException(), R.CHANGED),
        (urllib3.exceptions.HTTPError(), R.CHANGED),
        (AssertionError(), R.CHANGED),
        (AttributeError(), R.CHANGED),
        (KeyError(), R.CHANGED),
        (OverflowError(), R.CHANGED),
        (RecursionError(), R.CHANGED),
        (TypeError(), R.CHANGED),
        (ValueError(), R.CHANGED),
        (OSError(), None),
        (RuntimeError(), None),
        (MemoryError(), None),
    ],
)
def test_reason_of_each_exception(error: Exception, reason: Reason | None) -> None:
    found = reason_of_error(error)
    assert reason_in(found) == reason
    assert (found and found.retry_after) == (3.0 if reason is R.PACE else None)


def test_chain_of_causes_may_be_a_cycle() -> None:
    first, second, third = ValueError("1"), ValueError("2"), ValueError("3")
    first.__cause__, second.__context__, third.__cause__ = second, third, first
    assert [str(link) for link in chain_of(first)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("https://instagram.com/challenge/", R.CHALLENGE),
        ("http://www.instagram.com/challenge/", R.CHALLENGE),
        ("https://i.instagram.com/challenge/", R.CHANGED),
        ("/challenge", R.CHALLENGE),
        ("/p/other/", R.CHANGED),
        ("/accounts/login", R.SESSION_ENDED),
        ("/accounts/edit", R.CHANGED),
        ("//", R.SESSION_ENDED),
        ("//www.instagram.com:port/accounts/login", R.CHANGED),
    ],
)
def test_redirect_is_judged_by_host_and_path(to: str, reason: Reason) -> None:
    response = response_of(RawAnswer(302, "", {"Location": to}))
    assert reason_of_redirect(response, with_session=True).reason is reason


def page(*scripts: str) -> RawAnswer:
    return RawAnswer(200, f"<script>{'</script><script>'.join(scripts)}</script>")


@pytest.mark.parametrize(
    ("raw", "logged_out", "with_session"),
    [
        (page('{"canonicalRouteName":"comet.igweb.PolarisErrorRoute"}'), R.GONE, R.GONE),
        (
            page('{"canonicalRouteName": "comet.igweb.PolarisCAAIGLoginHomepageRoute"}'),
            R.LOGIN_WALL,
            R.SESSION_ENDED,
        ),
        (page('{"canonicalRouteName":"comet.igweb.PolarisPostRoute"}'), None, None),
        (ANSWERS["to_loginform"], R.LOGIN_WALL, R.SESSION_ENDED),
        (ANSWERS["to_start"], R.LOGIN_WALL, R.SESSION_ENDED),
        (ANSWERS["to_consent"], R.LOGIN_WALL, R.CHALLENGE),
        (ANSWERS["to_authplatform"], R.CHALLENGE, R.CHALLENGE),
        (ANSWERS["to_nourl"], R.CHANGED, R.CHANGED),
        (ANSWERS["toomany"], R.RATE_LIMITED, R.RATE_LIMITED),
        (ANSWERS["fivehundred"], R.FAILED, R.FAILED),
        (ANSWERS["loginword"], R.LOGIN_WALL, R.SESSION_ENDED),
        (RawAnswer(404), R.GONE, R.GONE),
        (RawAnswer(410), R.GONE, R.GONE),
        (RawAnswer(403), R.LOGIN_WALL, R.LOGIN_WALL),
        (RawAnswer(204), R.CHANGED, R.CHANGED),
        (RawAnswer(200), None, None),
    ],
)
def test_reason_of_each_page(
    raw: RawAnswer, logged_out: Reason | None, with_session: Reason | None
) -> None:
    response = response_of(raw)
    for session, expected in ((False, logged_out), (True, with_session)):
        refused = refusal_of_page(response, with_session=session, route=route_of(response.content))
        assert reason_in(refused) == expected


@pytest.mark.parametrize(
    ("html", "route"),
    [
        ('{"canonicalRouteName":"comet.igweb.PolarisPostRoute"}', "comet.igweb.PolarisPostRoute"),
        ('"canonicalRouteName": "x"', "x"),
        (f'"canonicalRouteName":"{"x" * 200}"', "x" * 200),
        (f'"canonicalRouteName":"{"x" * 201}"', None),
        ('"canonicalRouteName":""', None),
        ('"canonicalRouteName":null', None),
        ("", None),
    ],
)
def test_route_is_read_from_a_page(html: str, route: str | None) -> None:
    assert route_of(html.encode()) == (None if route is None else route.encode())


@pytest.mark.parametrize("is_page", [False, True])
def test_a_rate_limit_includes_the_time_to_wait(is_page: bool) -> None:
    response = response_of(ANSWERS["toomany"])
    refused = (
        refusal_of_page(response, with_session=False, route=None)
        if is_page
        else reason_of_response(response, with_session=False)
    )
    assert refused is not None
    assert refused.retry_after == 120


def test_redirect_to_another_host_is_not_understood() -> None:
    raw = RawAnswer(302, "", {"Location": "https://instagram.com.example/challenge/"})
    assert reason_of_redirect(response_of(raw), with_session=True).reason is R.CHANGED


@pytest.mark.parametrize(
    ("reasons", "code"),
    [
        ([R.GONE, R.GATED, R.RATE_LIMITED], "PostNotFound"),
        ([R.CHALLENGE, R.GATED], "ChallengeRequired"),
        ([R.GATED, R.NULL], "PostForbidden"),
        ([R.STALE], "PostForbidden"),
        ([R.STALE, R.RETIRED], "PostForbidden"),
        ([R.RATE_LIMITED, R.CLOSED], "RateLimited"),
        ([R.CLOSED], "RateLimited"),
        ([R.CLOSED, R.LOGIN_WALL], "PostForbidden"),
        ([R.NULL, R.NULL], "PostNotFound"),
        ([R.CHANGED, R.LOGIN_WALL], "InstagramChanged"),
    ],
)
def test_verdict_on_several_refusals(reasons: list[Reason], code: str) -> None:
    error = verdict(
        [Refusal(str(number), False, reason, None) for number, reason in enumerate(reasons)]
    )
    assert type(error).__name__ == code


@pytest.mark.parametrize(
    ("reasons", "code"),
    [
        ([R.FAILED, R.NEEDS_LOGIN], "InstagramFailed"),
        ([R.CHANGED, R.NEEDS_LOGIN], "InstagramChanged"),
        ([R.UNREACHABLE, R.LATE], "InstagramUnreachable"),
        ([R.RATE_LIMITED], "RateLimited"),
        ([R.SOFT_BLOCK, R.NEEDS_LOGIN], "RateLimited"),
        ([R.WAIT], "RateLimited"),
        ([R.CLOSED, R.RETIRED], "RateLimited"),
        ([R.CHALLENGE], "ChallengeRequired"),
        ([R.SESSION_ENDED, R.FAILED], "PostForbidden"),
        ([R.GATED], "PostForbidden"),
        ([R.STALE], "PostForbidden"),
        ([R.GONE], "PostNotFound"),
    ],
)
@pytest.mark.parametrize("logged_out", [[R.GATED], [R.NEEDS_LOGIN, R.LOGIN_WALL]])
def test_failure_of_the_session_overrides_a_gated_post(
    logged_out: list[Reason], reasons: list[Reason], code: str
) -> None:
    refusals = [Refusal("page", False, reason, None) for reason in logged_out]
    refusals += [Refusal("media_info", True, reason, None) for reason in reasons]
    error = verdict(refusals)
    assert type(error).__name__ == code
    assert not getattr(error, "cool_down", False)


def refused(
    reason: Reason, seconds: float | None = None, *, with_session: bool = False, source: str = ""
) -> Refusal:
    return Refusal(source or reason, with_session, reason, seconds)


@pytest.mark.parametrize(
    ("reasons", "code", "cools_down"),
    [
        ([R.EMPTY], "PostNotFound", None),
        ([R.EMPTY, R.WAIT], "PostNotFound", None),
        ([R.NULL], "InstagramChanged", None),
        ([R.RETIRED], "InstagramChanged", None),
        ([R.CHANGED], "InstagramChanged", None),
        ([R.FAILED, R.LATE], "InstagramFailed", None),
        ([R.LATE, R.FAILED], "DeadlineExceeded", None),
        ([R.UNREACHABLE], "InstagramUnreachable", None),
        ([R.CHALLENGE, R.RATE_LIMITED], "ChallengeRequired", None),
        ([R.GATED, R.RATE_LIMITED], "PostForbidden", None),
        ([R.RATE_LIMITED, R.EMPTY], "RateLimited", True),
        ([R.SOFT_BLOCK], "RateLimited", True),
        ([R.THROTTLED], "RateLimited", True),
        ([R.WAIT, R.NEEDS_LOGIN], "RateLimited", False),
        ([R.WAIT], "RateLimited", False),
        ([R.WAIT, R.FAILED], "RateLimited", False),
        ([R.WAIT, R.LOGIN_WALL], "RateLimited", False),
        ([R.CLOSED], "RateLimited", False),
        ([R.PACE], "RateLimited", False),
        ([R.NEEDS_LOGIN, R.CHANGED], "PostForbidden", None),
        ([R.LOGIN_WALL], "PostForbidden", None),
        ([R.SESSION_ENDED], "PostForbidden", None),
        ([R.NULL, R.LOGIN_WALL], "PostForbidden", None),
        ([R.RETIRED, R.LOGIN_WALL], "PostForbidden", None),
        ([R.RETIRED, R.STALE], "PostForbidden", None),
        ([R.CLOSED, R.CHANGED, R.LOGIN_WALL], "PostForbidden", None),
        ([R.CLOSED, R.CHANGED], "InstagramChanged", None),
    ],
)
def test_verdict_and_cool_down_without_a_session(
    reasons: list[Reason], code: str, cools_down: bool | None
) -> None:
    error = verdict([refused(reason) for reason in reasons])
    assert (type(error).__name__, getattr(error, "cool_down", None)) == (code, cools_down)


@pytest.mark.parametrize(
    ("refusals", "code", "retry_after", "cools_down"),
    [
        ([refused(R.PACE, 30.0), refused(R.PACE, 20.0)], "PaceExceeded", 30.0, None),
        ([refused(R.PACE, 90.0), refused(R.WAIT, 10.0)], "RateLimited", 10.0, False),
        ([refused(R.RATE_LIMITED, 10.0), refused(R.WAIT, 50.0)], "RateLimited", 50.0, True),
        ([refused(R.RATE_LIMITED, 0.0)], "RateLimited", 0.0, True),
        ([refused(R.RATE_LIMITED, 5.0, with_session=True)], "RateLimited", 5.0, False),
        ([refused(R.GATED), refused(R.RATE_LIMITED, 5.0)], "RateLimited", 5.0, True),
        ([refused(R.GONE), refused(R.RATE_LIMITED, 5.0)], "PostNotFound", None, None),
    ],
)
def test_verdict_keeps_the_longest_wait(
    refusals: list[Refusal], code: str, retry_after: float | None, cools_down: bool | None
) -> None:
    error = verdict(refusals)
    assert (type(error).__name__, error.retry_after) == (code, retry_after)
    assert getattr(error, "cool_down", None) == cools_down


@pytest.mark.parametrize(
    ("logged_out", "with_session", "code", "cools_down"),
    [
        (R.GATED, R.NULL, "PostForbidden", None),
        (R.GATED, R.RETIRED, "PostForbidden", None),
        (R.GATED, R.EMPTY, "PostForbidden", None),
        (R.GATED, R.LATE, "DeadlineExceeded", None),
        (R.GATED, R.CLOSED, "RateLimited", False),
        (R.GATED, R.THROTTLED, "RateLimited", False),
        (R.NEEDS_LOGIN, R.SESSION_ENDED, "PostForbidden", None),
        (R.NEEDS_LOGIN, R.GATED, "PostForbidden", None),
        (R.RATE_LIMITED, R.FAILED, "RateLimited", True),
    ],
)
def test_session_counts_only_for_posts_that_need_it(
    logged_out: Reason, with_session: Reason, code: str, cools_down: bool | None
) -> None:
    error = verdict([refused(logged_out), refused(with_session, with_session=True)])
    assert (type(error).__name__, getattr(error, "cool_down", None)) == (code, cools_down)


@pytest.mark.parametrize("reason", [R.GATED, R.SESSION_ENDED])
def test_gate_or_ended_session_overrides_its_other_failures(reason: Reason) -> None:
    trouble = [refused(one, with_session=True) for one in (R.FAILED, reason, R.RATE_LIMITED)]
    assert type(verdict([refused(R.GATED), *trouble])).__name__ == "PostForbidden"


def test_logged_out_limit_counts_for_gated_posts_too() -> None:
    refusals = [refused(R.GATED), refused(R.SOFT_BLOCK), refused(R.WAIT, with_session=True)]
    error = verdict(refusals)
    assert (type(error).__name__, getattr(error, "cool_down", None)) == ("RateLimited", True)


def test_doctor_explains_every_reason() -> None:
    assert set(MEANINGS) == {*R, "ok", "not_needed", "no_session"}


def test_gated_post_hidden_from_the_account_is_forbidden() -> None:
    refusals = [Refusal("page", False, R.GATED, None), Refusal("media_info", True, R.EMPTY, None)]
    assert type(verdict(refusals)).__name__ == "PostForbidden"


def test_two_nulls_from_the_same_query_count_once() -> None:
    nulls = [Refusal(name, False, R.NULL, None) for name in ("api", "root_query")]
    assert type(verdict(nulls)).__name__ == "InstagramChanged"


def test_refusal_with_a_wait_beats_one_without() -> None:
    refusals = [
        Refusal("api", False, R.RATE_LIMITED, None),
        Refusal("page", False, R.RATE_LIMITED, 90.0),
    ]
    assert verdict(refusals).retry_after == 90


def test_logged_answer_is_short_and_without_secrets() -> None:
    data = {
        "token": "s3cret-token",
        "url": "https://scontent.cdninstagram.com/a.mp4?oh=s1gned&oe=7FFFFFFF",
        "cookie": "of-the-session",
        "text": "x" * 1000,
    }
    seen = summary_of(response_of(RawAnswer(200, data)), ["of-the-session"])
    assert (seen["status"], seen["keys"]) == (200, ["token", "url", "cookie", "text"])
    assert len(seen["start"]) == 200
    assert '"cookie": "[secret]"' in seen["start"]
    assert not any(text in json.dumps(seen) for text in ("s3cret", "s1gned", "of-the-session"))


@pytest.mark.parametrize("name", ["token", "nonce", "secret", "csrf_token", "LSD", "l", "f"])
@pytest.mark.parametrize("quote", ['"', '\\"'])
def test_tokens_are_not_logged(name: str, quote: str) -> None:
    body = f"{{{quote}{name}{quote}: {quote}hidden{quote}, {quote}x{quote}:{quote}seen{quote}}}"
    start = summary_of(response_of(RawAnswer(200, body)))["start"]
    assert start == body.replace("hidden", "[secret]")


@pytest.mark.parametrize(
    ("body", "logged"),
    [
        ('{"token":"hidden"}', '{"token":"[secret]"}'),
        ('{"token" : "hidden"}', '{"token" : "[secret]"}'),
        ('{"detail":"seen","my-token":"seen"}', '{"detail":"seen","my-token":"seen"}'),
        ('"https://x/?hidden" seen', '"https://x/?[scrubbed]" seen'),
        ("'https://x/?hidden' seen", "'https://x/?[scrubbed]' seen"),
        ("<https://x/?hidden> seen", "<https://x/?[scrubbed]> seen"),
        ("https://x/?hidden<br>seen", "https://x/?[scrubbed]<br>seen"),
    ],
)
def test_only_secrets_are_removed_from_a_logged_answer(body: str, logged: str) -> None:
    assert summary_of(response_of(RawAnswer(200, body)))["start"] == logged


@pytest.mark.parametrize("name", ["fb_dtsg", "sessionid"])
def test_session_values_are_not_logged(name: str) -> None:
    assert "hidden" not in summary_of(response_of(RawAnswer(200, {name: "hidden"})))["start"]


def test_logged_keys_are_few_and_short() -> None:
    keys = [f"{number:060}" for number in range(30)]
    seen = summary_of(response_of(RawAnswer(404, dict.fromkeys(keys))))
    assert (seen["status"], seen["keys"]) == (404, [key[:50] for key in keys[:20]])
    for body in ("<html>", "[1]"):
        assert summary_of(response_of(RawAnswer(200, body)))["keys"] is None


def test_secrets_are_redacted_before_an_answer_is_truncated() -> None:
    url = "https://x/?" + "s" * 900
    seen = summary_of(response_of(RawAnswer(200, f"{url} {url} end")))
    assert seen["start"] == "https://x/?[scrubbed] https://x/?[scrubbed] end"


def test_only_the_beginning_of_an_answer_is_scrubbed_and_logged() -> None:
    url = "https://x/?".ljust(2000, "s")
    assert summary_of(response_of(RawAnswer(200, f"{url} end")))["start"] == "https://x/?[scrubbed]"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
@pytest.mark.parametrize("body", ["", "[]", "null", "1", "{", '"text"', "[" * 10**5, "\ud83d"])
def test_verdict_never_raises_on_any_body(status: int, body: str) -> None:
    response = response_of(RawAnswer(status))
    response.raw = io.BytesIO(body.encode("utf-8", "surrogatepass"))
    reason_of_response(response, with_session=True)
    assert summary_of(response)["status"] == status
