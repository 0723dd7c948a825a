"""The response that a client gets for an exception."""

import pytest

from scrapper.errors import (
    INTERNAL_ERROR,
    RESPONSES,
    AudioLink,
    Busy,
    ChallengeRequired,
    CoolingDown,
    DeadlineExceeded,
    DiskFull,
    DiskReadOnly,
    FFmpegMissing,
    HighlightLink,
    InstagramChanged,
    InstagramFailed,
    InstagramUnreachable,
    InvalidURL,
    JobRunning,
    JobsFull,
    JobsUnreachable,
    MediaFolderGone,
    MediaIncomplete,
    MediaTooLarge,
    MediaUnexpected,
    PaceExceeded,
    PostForbidden,
    PostNotFound,
    ProfileLink,
    RateLimited,
    ScrapeError,
    ServerFull,
    SessionRefused,
    StoryLink,
    TooManyJobs,
    TooManyStreams,
    UnsupportedLink,
    response_to,
)

CODES: list[tuple[type[ScrapeError], int, str]] = [
    (InvalidURL, 400, "invalid_url"),
    (StoryLink, 400, "unsupported_link"),
    (HighlightLink, 400, "unsupported_link"),
    (AudioLink, 400, "unsupported_link"),
    (ProfileLink, 400, "unsupported_link"),
    (UnsupportedLink, 400, "unsupported_link"),
    (ChallengeRequired, 403, "challenge_required"),
    (PostForbidden, 403, "login_required"),
    (SessionRefused, 403, "login_required"),
    (PostNotFound, 404, "post_not_found"),
    (JobRunning, 409, "job_running"),
    (MediaTooLarge, 422, "media_too_large"),
    (CoolingDown, 429, "cooling_down"),
    (PaceExceeded, 429, "pace_exceeded"),
    (RateLimited, 429, "instagram_rate_limited"),
    (TooManyStreams, 429, "too_many_requests"),
    (TooManyJobs, 429, "too_many_requests"),
    (InstagramChanged, 502, "instagram_changed"),
    (InstagramFailed, 502, "instagram_failed"),
    (MediaIncomplete, 502, "media_incomplete"),
    (MediaUnexpected, 502, "media_unexpected"),
    (FFmpegMissing, 502, "ffmpeg_missing"),
    (InstagramUnreachable, 503, "instagram_unreachable"),
    (DeadlineExceeded, 503, "deadline_exceeded"),
    (ServerFull, 503, "server_full"),
    (Busy, 503, "busy"),
    (MediaFolderGone, 503, "media_folder_gone"),
    (JobsFull, 503, "jobs_full"),
    (JobsUnreachable, 503, "jobs_unreachable"),
    (DiskFull, 507, "disk_full"),
    (DiskReadOnly, 507, "disk_read_only"),
]


@pytest.mark.parametrize(("error", "status", "code"), CODES)
def test_each_error_has_its_status_and_code(
    error: type[ScrapeError], status: int, code: str
) -> None:
    assert response_to(error())[:2] == (status, code)
    assert issubclass(error, ScrapeError)
    assert error().retry_after is None


def test_every_error_with_a_response_is_tested() -> None:
    assert set(RESPONSES) == {error for error, _, _ in CODES}


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (StoryLink, UnsupportedLink),
        (HighlightLink, UnsupportedLink),
        (AudioLink, UnsupportedLink),
        (ProfileLink, UnsupportedLink),
        (ChallengeRequired, PostForbidden),
        (CoolingDown, RateLimited),
    ],
)
def test_a_specific_error_is_caught_with_its_base_class(error: type, base: type) -> None:
    assert issubclass(error, base)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (StoryLink, "stories"),
        (HighlightLink, "highlight"),
        (AudioLink, "audio"),
        (ProfileLink, "profile"),
        (UnsupportedLink, "other than a post"),
        (PostForbidden, "private"),
        (SessionRefused, "session"),
        (TooManyStreams, "streams"),
        (TooManyJobs, "jobs"),
    ],
)
def test_errors_with_the_same_code_have_different_messages(
    error: type[ScrapeError], word: str
) -> None:
    assert word in response_to(error())[2]


def test_a_limit_begins_a_cool_down_by_default() -> None:
    for limit in (RateLimited(retry_after=7.0), CoolingDown(retry_after=7.0)):
        assert (limit.retry_after, limit.cool_down) == (7.0, True)
    assert not RateLimited(cool_down=False).cool_down
    assert ServerFull(retry_after=7.0).retry_after == 7.0


def test_an_error_without_an_entry_gets_its_base_class_entry() -> None:
    class PostArchived(PostNotFound):
        pass

    assert response_to(PostArchived()) == RESPONSES[PostNotFound]


def test_unexpected_exception_is_an_internal_error() -> None:
    assert response_to(OSError("/a/secret/path")) == INTERNAL_ERROR
    assert response_to(ScrapeError()) == INTERNAL_ERROR


@pytest.mark.parametrize(
    ("size", "megabytes"),
    [(12_345_678, "12.35"), (12_340_000, "12.34"), (12_340_001, "12.35"), (12_000_000, "12")],
)
def test_media_too_large_states_the_smallest_size(size: int, megabytes: str) -> None:
    error = MediaTooLarge(size)
    assert response_to(error)[2].endswith(f": the smallest is {megabytes} MB")
    assert error.fields == {"smallest_size": size}
    assert response_to(MediaTooLarge()) == RESPONSES[MediaTooLarge]
    assert MediaTooLarge().fields == {"smallest_size": None}
