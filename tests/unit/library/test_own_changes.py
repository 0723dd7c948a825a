"""Which changes of the media folder this process made itself."""

import os
from pathlib import Path

import pytest

from scrapper.library.own_changes import OwnChanges

pytestmark = pytest.mark.blocks


def change(root: Path, at: int) -> None:
    os.utime(root, ns=(at, at))


def made(root: Path, *changes: tuple[str, int, int]) -> OwnChanges:
    own = OwnChanges(root)
    for shortcode, before, after in changes:
        change(root, before)
        with own.making(shortcode):
            change(root, after)
    return own


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (10, 10, set()),
        (10, 20, {"one"}),
        (10, 30, {"one", "two"}),
        (20, 30, {"two"}),
        # A third change came between, or before.
        (10, 50, None),
        (30, 50, None),
        (5, 20, None),
        # Within one tick of the clock.
        (40, 50, {"four", "five"}),
        (50, 50, {"five"}),
        (40, 60, {"four", "five", "six"}),
        (10, 99, None),
    ],
)
def test_a_chain_of_times_names_the_changed_posts(
    tmp_path: Path, start: int, end: int, found: set[str] | None
) -> None:
    own = made(
        tmp_path,
        ("one", 10, 20),
        ("two", 20, 30),
        ("four", 40, 50),
        ("five", 50, 50),
        ("six", 50, 60),
    )
    assert own.between(start, end) == found
