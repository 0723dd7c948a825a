"""The table for a file, without a socket."""

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
    PASSING,
    Outcome,
    Step,
    next_step,
    outcome_of_error,
    outcome_of_file,
    outcome_of_status,
    worst,
)
from scrapper.instagram.media import Kind
from scrapper.instagram.transport import HostRefused

OPERATIONS = Path(__file__).parents[3] / "docs/operations.md"
EVERY = (Step.AGAIN, Step.NEXT, Step.FRESH, Step.OTHER)


def steps(outcome: Outcome) -> str:
    """What is done one after the other where each step ends in the same way."""
    left = list(EVERY)
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
        (Outcome.SLOW, "next again missing", DeadlineExceeded),
        (Outcome.STALLED, "next fresh other missing", InstagramUnreachable),
        (Outcome.UNREACHABLE, "again next fresh other missing", InstagramUnreachable),
        (Outcome.FAILED, "again next fresh other missing", InstagramFailed),
        (Outcome.CUT, "again next fresh other missing", MediaIncomplete),
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
    assert type(worst([outcome])) is error


def test_only_faults_of_the_connection_are_passing() -> None:
    assert [outcome for outcome in Outcome if outcome in PASSING] == [
        Outcome.UNREACHABLE,
        Outcome.FAILED,
    ]


def test_the_docs_name_each_outcome_of_the_log() -> None:
    [row] = re.findall(r"^\| `media candidate failed`.*", OPERATIONS.read_text(), re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", row.partition("says why")[2]))
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
def test_each_status_means_something(status: int, outcome: Outcome | None) -> None:
    assert outcome_of_status(status) is outcome


def broken(cause: Exception) -> Exception:
    """The error of requests for a body that breaks off."""
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
def test_each_fault_means_something(error: Exception, began: bool, outcome: Outcome | None) -> None:
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
def test_received_bytes_are_compared_with_the_announcement(
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


def test_the_most_temporary_reason_counts() -> None:
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
        assert worst(in_order[: first - 1 : -1] if first else in_order[::-1]) is error
    assert type(worst([Outcome.TOO_LARGE, Outcome.GONE])) is PostNotFound
