"""``python -m scrapper fetch``, run as a user runs it."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import stored_files
from tests.instagram import StandIn
from tests.service import PATIENCE_SECONDS

REEL = "https://www.instagram.com/reel/{}/"
ROOT = Path(__file__).resolve().parents[3]


class Run(NamedTuple):
    code: int
    out: str
    err: str


async def fetch(*arguments: str, **environment: str) -> Run:
    command = [sys.executable, "-m", "scrapper", "fetch", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    return Run(done.returncode, done.stdout, done.stderr)


async def test_posts_land_in_the_folder_and_each_is_told_in_a_line_of_json(
    instagram: StandIn, tmp_path: Path
) -> None:
    urls = [REEL.format("reel-cli"), "https://www.instagram.com/p/carousel-cli/"]
    run = await fetch(*urls, "--into", str(tmp_path))
    assert (run.code, run.err) == (0, "")
    answers = {answer["shortcode"]: answer for answer in map(json.loads, run.out.splitlines())}
    assert set(answers) == {"reel-cli", "carousel-cli"}
    assert answers["reel-cli"]["original_url"] == urls[0]
    for shortcode in answers:
        paths = [Path(item["path"]) for item in answers[shortcode]["media"]]
        assert [path.read_bytes() for path in paths] == instagram.bytes_of(shortcode)
    assert set(os.listdir(tmp_path)) == {"reel-cli", "carousel-cli"}


async def test_a_stored_post_is_not_downloaded_again(instagram: StandIn, tmp_path: Path) -> None:
    for cached in (False, True):
        run = await fetch(REEL.format("reel-twice"), "--into", str(tmp_path))
        assert json.loads(run.out)["cached"] is cached
    assert instagram.requests("graphql") == 1


@pytest.mark.parametrize(
    ("scenario", "code", "status"),
    [
        ("notfound", 3, 404),
        ("forbidden", 4, 403),
        ("limited", 5, 429),
        ("reset", 6, 503),
        ("servererror", 1, 502),
    ],
)
async def test_the_exit_code_tells_what_went_wrong(
    instagram: StandIn, tmp_path: Path, scenario: str, code: int, status: int
) -> None:
    url = REEL.format(f"{scenario}-cli")
    run = await fetch(url, REEL.format("removed-cli"), "--into", str(tmp_path))
    assert (run.code, run.err) == (code, "")
    told = next(line for line in map(json.loads, run.out.splitlines()) if line["url"] == url)
    assert told["status"] == status
    assert told["error"]
    assert stored_files(tmp_path) == set()


@pytest.mark.parametrize(
    "arguments", [[], [REEL.format("reel-ok"), "https://example.com/"], ["--unknown"]]
)
async def test_wrong_usage_downloads_nothing(
    instagram: StandIn, tmp_path: Path, arguments: list[str]
) -> None:
    run = await fetch(*arguments, "--into", str(tmp_path))
    assert (run.code, run.out) == (2, "")
    assert run.err
    assert instagram.requests() == 0


async def test_a_folder_that_cannot_be_written_is_wrong_usage(
    instagram: StandIn, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    run = await fetch(REEL.format("reel-ok"), "--into", str(tmp_path / "file"))
    assert (run.code, run.out) == (2, "")
    assert "cannot be written" in run.err


async def test_a_terminal_shows_progress_and_paths(instagram: StandIn, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "scrapper", "fetch", REEL.format("slow-tty")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(  # noqa: ASYNC220
        command, cwd=tmp_path, env=environment, stdout=follower, stderr=follower
    )
    os.close(follower)

    def read() -> str:
        text = b""
        try:
            while piece := os.read(leader, 65536):
                text += piece
        # What Linux answers once nobody has the other end open.
        except OSError:
            pass
        return text.decode()

    text = await asyncio.to_thread(read)
    os.close(leader)
    assert await asyncio.to_thread(process.wait) == 0
    assert "slow-tty" in text
    assert "MB" in text
    assert str(tmp_path / "slow-tty/slow-tty.mp4") in text
