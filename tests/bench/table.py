"""Helpers for the rows of the table: ratios, posts and load."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import NamedTuple

import aiohttp

from tests.bench.load import post_each
from tests.process import Service

__all__ = [
    "KEY",
    "LATENCY",
    "POSTS",
    "REEL_BYTES",
    "ROUNDS",
    "Row",
    "codes",
    "fill",
    "finish",
    "in_background",
    "milliseconds",
    "multiply",
    "ratio",
    "scratch",
    "url_of",
]

ROUNDS = 3
KEY = "key"
POSTS = 200
REEL_BYTES = 2_000_000
LATENCY = "0.2"
"""How many seconds the stand-in's API waits before each answer."""
_POLL_SECONDS = 0.1


class Row(NamedTuple):
    """A line of the table. ``met`` is None for a figure without a goal."""

    what: str
    measured: str
    goal: str
    met: bool | None


def ratio(
    what: str,
    ours: list[float],
    other: list[float],
    *,
    least: float | None = None,
    most: float | None = None,
) -> Row:
    value = median(ours) / median(other)
    single = [one / another for one, another in zip(ours, other, strict=True)]
    measured = f"{value:.2f} ({min(single):.2f} to {max(single):.2f})"
    if least is not None:
        return Row(what, measured, f"≥ {least}", value >= least)
    if most is None:
        return Row(what, measured, "", None)
    return Row(what, measured, f"≤ {most}", value <= most)


def milliseconds(what: str, times: list[float]) -> Row:
    """Return a row with the median of *times* in milliseconds; *times* are in seconds."""
    return Row(what, f"{median(times) * 1000:.1f} ms", "", None)


def url_of(shortcode: str) -> str:
    return f"https://www.instagram.com/reel/{shortcode}/"


def codes(posts: int, turn: int) -> list[str]:
    return [f"reel-{turn}-{number}" for number in range(posts)]


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder for one run. Its removal frees memory pages, which the next run reuses."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def fill(ours: Service, shortcodes: list[str]) -> None:
    with suppress(aiohttp.ClientError):
        post_each(ours.url, shortcodes=shortcodes, clients=len(shortcodes), key=KEY)


def finish(ours: Service, *jobs: str) -> None:
    """Wait until the *jobs* are done. Polls are rare, and each post must be stored."""
    for job in jobs:
        while (shown := ours.get(job).json())["state"] == "running":
            time.sleep(_POLL_SECONDS)
        assert {post["status"] for post in shown["posts"]} == {HTTPStatus.OK}


def multiply(root: Path, posts: int) -> None:
    """Copy the post ``reel-seed`` and link its files, until *posts* posts are stored."""
    manifest = (root / "reel-seed/post.json").read_text()
    media = list((root / "reel-seed").glob("reel-seed.*"))
    for number in range(posts - 1):
        shortcode = f"copy-{number}"
        folder = root / shortcode
        folder.mkdir()
        (folder / "post.json").write_text(manifest.replace("reel-seed", shortcode))
        for file in media:
            (folder / f"{shortcode}{file.suffix}").hardlink_to(file)


@contextmanager
def in_background(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
