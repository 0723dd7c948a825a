"""What each answer means, without a socket."""

import json

import pytest
import requests

from scrapper.instagram.page_refusal import refusal_of_page, route_of
from scrapper.instagram.verdict import (
    Reason,
    Refusal,
    reason_of_redirect,
    reason_of_response,
    seen_in,
    verdict,
)
from tests.instagram.answers import ANSWERS, RawAnswer

R = Reason


def response_of(raw: RawAnswer) -> requests.Response:
    response = requests.Response()
    response.status_code = raw.status
    response.headers.update(raw.headers)
    response._content = raw.content
    return response


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
def test_each_answer_of_the_api_has_its_meaning(
    name: str, logged_out: Reason | None, with_session: Reason | None
) -> None:
    for session, expected in ((False, logged_out), (True, with_session)):
        refused = reason_of_response(response_of(ANSWERS[name]), with_session=session)
        assert (refused and refused.reason) == expected


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
        (RawAnswer(404), R.GONE, R.GONE),
        (RawAnswer(403), R.LOGIN_WALL, R.LOGIN_WALL),
    ],
)
def test_each_page_has_its_meaning(
    raw: RawAnswer, logged_out: Reason | None, with_session: Reason | None
) -> None:
    response = response_of(raw)
    for session, expected in ((False, logged_out), (True, with_session)):
        refused = refusal_of_page(response, with_session=session, route=route_of(response.content))
        assert (refused and refused.reason) == expected


def test_a_limit_says_how_long_to_wait() -> None:
    refused = reason_of_response(response_of(ANSWERS["toomany"]), with_session=False)
    assert refused is not None
    assert refused.retry_after == 120


def test_a_page_on_another_host_says_nothing() -> None:
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
def test_refusals_together_have_one_meaning(reasons: list[Reason], code: str) -> None:
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
def test_the_session_s_trouble_is_that_of_a_gated_post(
    logged_out: list[Reason], reasons: list[Reason], code: str
) -> None:
    refusals = [Refusal("page", False, reason, None) for reason in logged_out]
    refusals += [Refusal("media_info", True, reason, None) for reason in reasons]
    error = verdict(refusals)
    assert type(error).__name__ == code
    assert not getattr(error, "cool_down", False)


def test_a_gated_post_hidden_from_the_account_is_forbidden() -> None:
    refusals = [Refusal("page", False, R.GATED, None), Refusal("media_info", True, R.EMPTY, None)]
    assert type(verdict(refusals)).__name__ == "PostForbidden"


def test_one_query_under_two_ids_is_no_second_opinion() -> None:
    nulls = [Refusal(name, False, R.NULL, None) for name in ("api", "root_query")]
    assert type(verdict(nulls)).__name__ == "InstagramChanged"


def test_a_refusal_with_a_time_beats_one_without() -> None:
    refusals = [
        Refusal("api", False, R.RATE_LIMITED, None),
        Refusal("page", False, R.RATE_LIMITED, 90.0),
    ]
    assert verdict(refusals).retry_after == 90


def test_the_logged_answer_is_short_and_without_secrets() -> None:
    data = {
        "token": "s3cret-token",
        "url": "https://scontent.cdninstagram.com/a.mp4?oh=s1gned&oe=7FFFFFFF",
        "cookie": "of-the-session",
        "text": "x" * 1000,
    }
    seen = seen_in(response_of(RawAnswer(200, data)), ["of-the-session"])
    assert (seen["status"], seen["keys"]) == (200, ["token", "url", "cookie", "text"])
    assert len(seen["start"]) == 200
    assert not any(text in json.dumps(seen) for text in ("s3cret", "s1gned", "of-the-session"))


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
@pytest.mark.parametrize("body", ["", "[]", "null", "1", "{", '"text"', "[" * 10**5, "\ud83d"])
def test_no_body_is_too_strange(status: int, body: str) -> None:
    response = response_of(RawAnswer(status))
    response._content = body.encode("utf-8", "surrogatepass")
    reason_of_response(response, with_session=True)
    assert seen_in(response)["status"] == status
