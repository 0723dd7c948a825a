"""The states of posts and jobs, and what each state allows."""

import time
from dataclasses import replace
from typing import Any, Literal

import pytest

from scrapper.jobs.model import Job, JobFilter, JobPost, PostState, new_job, unix_time
from scrapper.library.listing import Cursor
from scrapper.library.post import Preference, moment

POST = JobPost("url", "shortcode")
# A post that hit a limit and is running again.
TRIED = replace(
    POST,
    state="running",
    bytes_done=3,
    bytes_total=9,
    next_try_at=moment(1000.0),
    waiting_since=moment(500.0),
)


@pytest.mark.parametrize(
    ("state", "unfinished", "retry", "cancel"),
    [
        ("queued", True, False, True),
        ("waiting", True, False, True),
        ("running", True, False, False),
        ("done", False, False, False),
        ("failed", False, True, False),
        ("cancelled", False, True, False),
    ],
)
def test_the_state_of_a_post_determines_its_changes(
    state: PostState, unfinished: bool, retry: bool, cancel: bool
) -> None:
    post = replace(POST, state=state)
    assert (post.unfinished, post.can_be_retried, post.can_be_cancelled) == (
        unfinished,
        retry,
        cancel,
    )


@pytest.mark.parametrize(
    ("post", "changes"),
    [
        (replace(TRIED, state="waiting").started(), {"next_try_at": None}),
        (
            TRIED.done(7),
            {
                "state": "done",
                "next_try_at": None,
                "status": 200,
                "bytes_done": 7,
                "bytes_total": 7,
            },
        ),
        (
            TRIED.failed(429, "cooling_down", "Wait", 8),
            {
                "state": "failed",
                "next_try_at": None,
                "status": 429,
                "code": "cooling_down",
                "error": "Wait",
                "retry_after": 8,
            },
        ),
        (TRIED.cancelled(), {"state": "cancelled", "next_try_at": None}),
        (TRIED.interrupted(), {"state": "queued", "bytes_done": 0, "bytes_total": None}),
        (TRIED.waiting(99.5, limited=False), {"state": "waiting", "next_try_at": moment(100.0)}),
        (TRIED.waiting(99.0, limited=True), {"state": "waiting", "next_try_at": moment(99.0)}),
        (TRIED.delayed(1000.5), {"next_try_at": moment(1001.0)}),
    ],
)
def test_each_transition_changes_only_its_fields(post: JobPost, changes: dict[str, Any]) -> None:
    assert post == replace(TRIED, **changes)


@pytest.mark.parametrize(("post", "until"), [(POST, 1000.0), (TRIED, 1000.0), (TRIED, 999.0)])
def test_an_earlier_time_does_not_change_a_post(post: JobPost, until: float) -> None:
    assert post.delayed(until) is post


def test_a_retry_clears_the_failure_of_a_post() -> None:
    assert TRIED.failed(404, "post_not_found", "Gone").retried() == POST


def test_patience_counts_from_the_first_limit() -> None:
    before = int(time.time())
    limited = POST.waiting(0.0, limited=True)
    assert limited.waiting_since is not None
    assert before <= unix_time(limited.waiting_since) <= time.time()
    assert POST.waiting(0.0, limited=False).waiting_since is None
    # The clock has been set back since.
    ahead = replace(POST, waiting_since=moment(time.time() + 3600)).waiting(0.0, limited=True)
    assert ahead.waiting_since is not None
    assert unix_time(ahead.waiting_since) <= time.time()


@pytest.mark.parametrize(
    ("next_try", "seconds"), [(1050.0, 50.0), (1100.0, 100.0), (1101.0, 0.0), (950.0, 0.0)]
)
def test_an_implausibly_long_wait_is_ignored(
    next_try: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert replace(POST, next_try_at=moment(next_try)).seconds_to_wait(100.0) == seconds


def test_a_post_without_a_next_try_does_not_wait() -> None:
    assert POST.seconds_to_wait(100.0) == 0.0


def test_clients_get_the_fields_of_a_post_in_order() -> None:
    assert list(POST.to_json().items()) == [
        ("url", "url"),
        ("shortcode", "shortcode"),
        ("state", "queued"),
        ("bytes_done", 0),
        ("bytes_total", None),
        ("status", None),
        ("error", None),
        ("retry_after", None),
        ("code", None),
        ("next_try_at", None),
        ("waiting_since", None),
    ]


def job_of(*states: PostState, **options: Any) -> Job:
    return Job("id", 1000.0, [replace(POST, state=state) for state in states], **options)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("done", "queued"), "running"),
        (("cancelled", "waiting"), "running"),
        (("running",), "running"),
        (("done", "failed"), "done"),
        (("done", "cancelled"), "cancelled"),
        ((), "done"),
    ],
)
def test_the_state_of_a_job_follows_from_its_posts(
    states: tuple[PostState, ...], expected: str
) -> None:
    assert job_of(*states).state == expected


@pytest.mark.parametrize(
    ("webhook", "state", "outcome", "expected"),
    [
        (None, "done", None, "none"),
        ("https://example.com/", "running", None, "waiting"),
        ("https://example.com/", "done", None, "waiting"),
        ("https://example.com/", "done", "delivered", "delivered"),
        ("https://example.com/", "done", "given_up", "given_up"),
        ("https://example.com/", "running", "delivered", "waiting"),
    ],
)
def test_clients_see_whether_the_webhook_was_delivered(
    webhook: str | None,
    state: PostState,
    outcome: Literal["delivered", "given_up"] | None,
    expected: str,
) -> None:
    job = job_of(state, webhook=webhook, webhook_outcome=outcome, keep=True)
    response = job.to_response()
    assert response.webhook_state == expected
    assert (response.id, response.state, response.created_at, response.posts, response.keep) == (
        "id",
        job.state,
        "1970-01-01T00:16:40Z",
        job.posts,
        True,
    )


@pytest.mark.parametrize(
    ("wanted", "forgotten", "expected"),
    [
        (JobFilter(), False, True),
        (JobFilter(), True, False),
        (JobFilter(owner="one"), False, True),
        (JobFilter(owner="two"), False, False),
        (JobFilter(state="done"), False, True),
        (JobFilter(state="running"), False, False),
        (JobFilter("one", "done"), True, False),
    ],
)
def test_a_filter_matches_by_owner_and_state(
    wanted: JobFilter, forgotten: bool, expected: bool
) -> None:
    assert wanted.allows(job_of("done", owner="one", forgotten=forgotten)) is expected


def test_changes_are_numbered_and_listed_oldest_first() -> None:
    job = job_of("queued", "queued", "queued")
    for index, version in ((2, 1), (0, 2), (1, 3), (2, 4)):
        job.record_version(index, version)
    posts = [{"index": index, **POST.to_json()} for index in range(3)]
    assert job.changes(-1) == [(2, posts[0]), (3, posts[1]), (4, posts[2])]
    assert job.changes(3) == [(4, posts[2])]
    # Recording an older version later does not lower the job's version.
    job.record_version(0, 2)
    assert job.version == 4


def test_a_job_has_default_options() -> None:
    job = job_of("queued")
    assert (job.keep, job.forgotten, job.version, job.preference) == (False, False, 0, Preference())
    assert (job.client, job.webhook, job.owner, job.webhook_outcome) == (None, None, None, None)
    assert job.changes(-1) == []
    # All jobs of a process have the same epoch.
    assert job.epoch
    assert job.epoch == job_of("done").epoch


def test_a_delay_applies_only_to_waiting_posts() -> None:
    job = Job("id", 1000.0, [POST, TRIED])
    job.delay(2000.0)
    assert job.posts == [POST, replace(TRIED, next_try_at=moment(2000.0))]


def test_jobs_and_posts_have_a_sort_position() -> None:
    job = job_of("queued", "queued")
    assert job.cursor == Cursor(1000.0, "id")
    assert tuple(job.place(1)) == (1000.0, "id", 1)


REEL = "https://www.instagram.com/reel/abcde/"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (REEL, JobPost(REEL, "abcde")),
        (f"\u200b {REEL}\n", JobPost(REEL, "abcde")),
        (
            "https://www.instagram.com/share/reel/abcde/",
            JobPost("https://www.instagram.com/share/reel/abcde/", None),
        ),
        ("https://example.com/", (400, "invalid_url")),
        (REEL + "?" + "x" * 100, (400, "invalid_url")),
        ("https://www.instagram.com/instagram/", (400, "unsupported_link")),
    ],
)
def test_links_to_anything_but_posts_fail_at_once(url: str, expected: Any) -> None:
    [post] = new_job([url], max_url_length=len(REEL) + 50).posts
    if isinstance(expected, JobPost):
        assert post == expected
    else:
        assert (post.state, post.shortcode, post.status, post.code) == ("failed", None, *expected)


def test_a_new_job_has_an_id_and_a_time() -> None:
    before = time.time()
    jobs = [new_job([REEL], max_url_length=512) for _ in range(2)]
    assert jobs[0].id != jobs[1].id
    assert before <= jobs[0].created_at <= time.time()
    assert not jobs[0].keep


def test_a_new_job_has_the_requested_options() -> None:
    options: dict[str, Any] = {
        "client": "192.0.2.1",
        "keep": True,
        "webhook": "https://example.com/",
        "owner": "one",
        "preference": Preference("best", 8_000_000),
    }
    job = new_job([REEL], max_url_length=512, **options)
    assert {name: getattr(job, name) for name in options} == options
