"""The record of this process's own changes to the media folder."""

import os
from pathlib import Path

import pytest

from scrapper.library.own_changes import OwnChanges

pytestmark = pytest.mark.blocks


def set_time(root: Path, nanoseconds: int) -> None:
    os.utime(root, ns=(nanoseconds, nanoseconds))


def own_changes(root: Path, *changes: tuple[str, int, int]) -> OwnChanges:
    own = OwnChanges(root)
    for shortcode, before, after in changes:
        set_time(root, before)
        with own.recording(shortcode):
            set_time(root, after)
    return own


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (10, 10, set()),
        (10, 20, {"one"}),
        (10, 30, {"one", "two"}),
        (20, 30, {"two"}),
        # Another process made a change in between, or before.
        (10, 50, None),
        (30, 50, None),
        (5, 20, None),
        # Two changes within one clock tick.
        (40, 50, {"four", "five"}),
        (50, 50, {"five"}),
        (40, 60, {"four", "five", "six"}),
        (10, 99, None),
    ],
)
def test_a_chain_of_times_identifies_the_changed_posts(
    tmp_path: Path, start: int, end: int, found: set[str] | None
) -> None:
    own = own_changes(
        tmp_path,
        ("one", 10, 20),
        ("two", 20, 30),
        ("four", 40, 50),
        ("five", 50, 50),
        ("six", 50, 60),
    )
    assert own.between(start, end) == found
