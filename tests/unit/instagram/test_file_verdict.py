"""Which outcome an attempt to download a file has, and which step follows."""

import re
from pathlib import Path

import pytest
import requests
import urllib3

from scrapper.errors import (
    DeadlineExceeded,
    FFmpegMissing,
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
)
from scrapper.instagram.files.kinds import FileKind
from scrapper.instagram.files.verdict import (
    TRANSIENT,
    Outcome,
    Step,
    error_to_report,
    next_step,
    outcome_of_error,
    outcome_of_file,
    outcome_of_status,
)
from scrapper.instagram.media import Kind
from scrapper.instagram.transport import HostRefused

OPERATIONS = Path(__file__).parents[3] / "docs/operations.md"
ALL_STEPS = (Step.RETRY, Step.NEXT, Step.FRESH, Step.OTHER)


def steps(outcome: Outcome) -> str:
    """Return the steps that are taken, in order, if every attempt has the same outcome."""
    left = list(ALL_STEPS)
    done = []
    while (step := next_step(outcome, left)) in left:
        left.remove(step)
        done.append(step)
    return " ".join(step.name for step in (*done, step)).lower()


@pytest.mark.parametrize(
    ("outcome", "expected", "error"),
    [
        (Outcome.WHOLE, "take", MediaUnexpected),
        (Outcome.MUTE, "next take", MediaUnexpected),
        (Outcome.LIMITED, "stop", RateLimited),
        (Outcome.LATE, "missing", DeadlineExceeded),
        (Outcome.SLOW, "next retry missing", DeadlineExceeded),
        (Outcome.STALLED, "next fresh other missing", InstagramUnreachable),
        (Outcome.UNREACHABLE, "retry next fresh other missing", InstagramUnreachable),
        (Outcome.FAILED, "retry next fresh other missing", InstagramFailed),
        (Outcome.CUT, "retry next fresh other missing", MediaIncomplete),
        (Outcome.UNEXPECTED, "next fresh other missing", MediaUnexpected),
        (Outcome.REFUSED, "next fresh other missing", InstagramChanged),
        (Outcome.FORBIDDEN, "next fresh other missing", PostForbidden),
        (Outcome.GONE, "next fresh other missing", PostNotFound),
        (Outcome.TOO_LARGE, "next missing", MediaTooLarge),
        (Outcome.UNJOINED, "next missing", MediaUnexpected),
        (Outcome.NO_FFMPEG, "next other missing", FFmpegMissing),
    ],
)
def test_each_outcome_has_its_steps_and_its_error(
    outcome: Outcome, expected: str, error: type[ScrapeError]
) -> None:
    assert steps(outcome) == expected
    assert type(error_to_report([outcome])) is error


def test_only_connection_and_server_failures_are_transient() -> None:
    assert [outcome for outcome in Outcome if outcome in TRANSIENT] == [
        Outcome.UNREACHABLE,
        Outcome.FAILED,
    ]


def test_the_docs_list_every_logged_outcome() -> None:
    [row] = re.findall(r"^\| `media candidate failed`.*", OPERATIONS.read_text(), re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", row.partition("`outcome`")[2]))
    assert documented == {*Outcome} - {Outcome.WHOLE, Outcome.MUTE}


def test_only_a_limit_stops_the_post() -> None:
    stopping = [outcome for outcome in Outcome if next_step(outcome, ()) is Step.STOP]
    assert stopping == [Outcome.LIMITED]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, None),
        (203, None),
        (206, None),
        (300, Outcome.REFUSED),
        (304, Outcome.REFUSED),
        (400, Outcome.REFUSED),
        (403, Outcome.FORBIDDEN),
        (404, Outcome.GONE),
        (410, Outcome.GONE),
        (418, Outcome.REFUSED),
        (429, Outcome.LIMITED),
        (500, Outcome.FAILED),
        (502, Outcome.FAILED),
        (503, Outcome.FAILED),
    ],
)
def test_every_status_has_an_outcome(status: int, outcome: Outcome | None) -> None:
    assert outcome_of_status(status) is outcome


def broken(cause: Exception) -> Exception:
    """Return the error that requests raises if a body breaks off because of *cause*."""
    error = requests.ConnectionError()
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "began", "outcome"),
    [
        (requests.ConnectionError(), False, Outcome.UNREACHABLE),
        (requests.ReadTimeout(), False, Outcome.STALLED),
        (requests.ConnectTimeout(), False, Outcome.STALLED),
        (urllib3.exceptions.TimeoutError(), True, Outcome.STALLED),
        (broken(urllib3.exceptions.TimeoutError()), True, Outcome.STALLED),
        (HostRefused("http://127.0.0.1"), False, Outcome.REFUSED),
        (requests.TooManyRedirects(), False, Outcome.REFUSED),
        (urllib3.exceptions.ProtocolError(), True, Outcome.CUT),
        (urllib3.exceptions.IncompleteRead(1, 2), True, Outcome.CUT),
        (TimeoutError(), True, Outcome.STALLED),
        (OSError(28, "No space left on device"), True, None),
    ],
)
def test_every_error_has_an_outcome(error: Exception, began: bool, outcome: Outcome | None) -> None:
    assert outcome_of_error(error, began=began) is outcome


VIDEO, MUTE = FileKind("video", ".mp4", True), FileKind("video", ".mp4", False)
PICTURE, SOUND = FileKind("image", ".jpg"), FileKind("audio", ".m4a", True)


@pytest.mark.parametrize(
    ("kind", "promised", "whole", "with_sound", "outcome"),
    [
        (VIDEO, "video", True, True, Outcome.WHOLE),
        (VIDEO, "video", False, True, Outcome.CUT),
        (MUTE, "video", True, True, Outcome.MUTE),
        (MUTE, "video", True, False, Outcome.WHOLE),
        (FileKind("video", ".mp4"), "video", True, True, Outcome.WHOLE),
        (PICTURE, "video", True, True, Outcome.UNEXPECTED),
        (SOUND, "video", True, True, Outcome.UNEXPECTED),
        (VIDEO, "image", True, False, Outcome.UNEXPECTED),
        (PICTURE, "image", True, False, Outcome.WHOLE),
        (None, "image", True, False, Outcome.UNEXPECTED),
    ],
)
def test_files_are_compared_with_what_was_promised(
    kind: FileKind | None, promised: Kind, whole: bool, with_sound: bool, outcome: Outcome
) -> None:
    found = outcome_of_file(
        kind, promised, size=9, whole=whole, with_sound=with_sound, content_type="image/x-y"
    )
    assert found is outcome


@pytest.mark.parametrize(
    ("content_type", "outcome"), [("video/mp4", Outcome.CUT), ("text/html", Outcome.UNEXPECTED)]
)
def test_an_empty_body_is_cut_or_unexpected(content_type: str, outcome: Outcome) -> None:
    found = outcome_of_file(
        None, "video", size=0, whole=True, with_sound=False, content_type=content_type
    )
    assert found is outcome


def test_the_failure_most_worth_a_retry_is_reported() -> None:
    in_order: list[ScrapeError] = [
        PaceExceeded(),
        RateLimited(),
        DeadlineExceeded(),
        InstagramUnreachable(),
        InstagramFailed(),
        MediaIncomplete(),
        MediaUnexpected(),
        InstagramChanged(),
        FFmpegMissing(),
        PostForbidden(),
        PostNotFound(),
        MediaTooLarge(),
    ]
    for first, error in enumerate(in_order):
        assert error_to_report(in_order[: first - 1 : -1] if first else in_order[::-1]) is error
    assert type(error_to_report([Outcome.TOO_LARGE, Outcome.GONE])) is PostNotFound
