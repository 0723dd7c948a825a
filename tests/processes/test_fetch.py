"""``python -m scrapper fetch`` as a process."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import stored_files, until
from tests.instagram import StandIn
from tests.instagram.dash import CODE, Cdn, Stream
from tests.process import PATIENCE_SECONDS, run, wait_for

REEL = "https://www.instagram.com/reel/{}/"
ROOT = Path(__file__).resolve().parents[2]


class Run(NamedTuple):
    code: int
    out: str
    err: str


async def fetch(*arguments: str, given: str = "", **environment: str) -> Run:
    environment = {**os.environ, **environment}
    done = await asyncio.to_thread(run, "fetch", *arguments, given=given, environment=environment)
    return Run(done.returncode, done.stdout, done.stderr)


async def test_each_stored_post_is_printed_as_a_json_line(
    instagram: StandIn, tmp_path: Path
) -> None:
    urls = [REEL.format("reel-cli"), "https://www.instagram.com/p/carousel-cli/"]
    done = await fetch(*urls, "--into", str(tmp_path))
    assert (done.code, done.err) == (0, "")
    answers = {answer["shortcode"]: answer for answer in map(json.loads, done.out.splitlines())}
    assert set(answers) == {"reel-cli", "carousel-cli"}
    assert answers["reel-cli"]["original_url"] == urls[0]
    for shortcode in answers:
        paths = [Path(item["path"]) for item in answers[shortcode]["media"]]
        assert [path.read_bytes() for path in paths] == instagram.bytes_of(shortcode)
    assert set(os.listdir(tmp_path)) == {"reel-cli", "carousel-cli"}


async def test_a_stored_post_is_not_downloaded_again(instagram: StandIn, tmp_path: Path) -> None:
    for cached in (False, True):
        done = await fetch(REEL.format("reel-twice"), "--into", str(tmp_path))
        assert json.loads(done.out)["cached"] is cached
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
async def test_the_exit_code_depends_on_the_error(
    instagram: StandIn, tmp_path: Path, scenario: str, code: int, status: int
) -> None:
    url = REEL.format(f"{scenario}-cli")
    done = await fetch(url, REEL.format("removed-cli"), "--no-wait", "--into", str(tmp_path))
    assert (done.code, done.err) == (code, "")
    printed = next(line for line in map(json.loads, done.out.splitlines()) if line["url"] == url)
    assert printed["status"] == status
    assert printed["error"]
    assert stored_files(tmp_path) == set()


@pytest.mark.parametrize(
    "arguments", [[], [REEL.format("reel-ok"), "https://example.com/"], ["--unknown"]]
)
async def test_wrong_usage_downloads_nothing(
    instagram: StandIn, tmp_path: Path, arguments: list[str]
) -> None:
    done = await fetch(*arguments, "--into", str(tmp_path))
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert instagram.requests() == 0


async def test_links_come_from_files_and_standard_input(instagram: StandIn, tmp_path: Path) -> None:
    listed = tmp_path / "links.txt"
    listed.write_bytes(
        b"\xef\xbb\xbf# my links\r\n"
        + f"  {REEL.format('reel-file-1')}  # the first\r\n\r\n".encode()
        + f"{REEL.format('reel-file-2')}#part\n#{REEL.format('reel-not')}".encode()
    )
    arguments = (REEL.format("reel-argument"), "-", "--from", str(listed), "--ordered")
    into = tmp_path / "into"
    given = REEL.format("reel-input") + "\n"
    done = await fetch(*arguments, "--into", str(into), given=given)
    assert (done.code, done.err) == (0, "")
    shortcodes = [json.loads(line)["shortcode"] for line in done.out.splitlines()]
    assert shortcodes == ["reel-argument", "reel-input", "reel-file-1", "reel-file-2"]


async def test_an_empty_list_ends_at_once(instagram: StandIn, tmp_path: Path) -> None:
    assert await fetch("-", "--into", str(tmp_path), given="# nothing\n") == (0, "", "")


async def test_every_invalid_line_is_reported_before_any_download(
    instagram: StandIn, tmp_path: Path
) -> None:
    listed = tmp_path / "links.txt"
    listed.write_text(f"{REEL.format('reel-fine')}\nhttps://example.com/\n\nnonsense\n")
    done = await fetch("--from", str(listed), "--into", str(tmp_path / "into"))
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"{listed}, line 2: Not the URL of an Instagram post: https://example.com/",
        f"{listed}, line 4: Not the URL of an Instagram post: nonsense",
    ]
    assert instagram.requests() == 0


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
async def test_a_file_that_cannot_be_read_is_wrong_usage(
    instagram: StandIn, tmp_path: Path, content: bytes | None
) -> None:
    listed = tmp_path / "links.txt"
    if content is not None:
        listed.write_bytes(content)
    done = await fetch("--from", str(listed), "--into", str(tmp_path / "into"))
    assert (done.code, done.out) == (2, "")
    assert str(listed) in done.err


async def test_thousands_of_links_are_reported_in_order(instagram: StandIn, tmp_path: Path) -> None:
    shortcodes = [f"reel-many-{number % 7}" for number in range(3000)]
    given = "\r\n".join(map(REEL.format, shortcodes))
    done = await fetch("-", "--ordered", "--into", str(tmp_path), given=given)
    assert (done.code, done.err) == (0, "")
    assert [json.loads(line)["shortcode"] for line in done.out.splitlines()] == shortcodes


async def test_a_wait_for_a_limit_is_announced(instagram: StandIn, tmp_path: Path) -> None:
    for source in ("api", "root", "web", "page", "embed"):
        instagram.override_answer(source, "limitedbare")
    urls = [REEL.format(f"reel-wait-{number}") for number in range(5)]
    environment = {"INSTAGRAM_COOLDOWN_SECONDS": "1", "INSTAGRAM_MAX_QUERIES": "0"}
    running = asyncio.create_task(fetch(*urls, "--ordered", "--into", str(tmp_path), **environment))
    # After the first refusals, every post waits and is retried.
    await until(lambda: instagram.requests("graphql") >= 12)
    instagram.reset()
    done = await running
    assert done.code == 0
    shortcodes = [json.loads(line)["shortcode"] for line in done.out.splitlines()]
    assert shortcodes == [f"reel-wait-{number}" for number in range(5)]
    lines = done.err.splitlines()
    assert lines
    assert all(line.startswith("Limit reached: waiting until") for line in lines)


async def test_a_file_in_place_of_the_folder_is_wrong_usage(
    instagram: StandIn, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = await fetch(REEL.format("reel-ok"), "--into", str(tmp_path / "file"))
    assert (done.code, done.out) == (2, "")
    assert "is not a folder" in done.err


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
        # Linux raises this once the other end is closed.
        except OSError:
            pass
        return text.decode()

    text = await asyncio.to_thread(read)
    os.close(leader)
    assert await asyncio.to_thread(process.wait) == 0
    assert "slow-tty" in text
    assert "MB" in text
    assert str(tmp_path / "slow-tty/slow-tty.mp4") in text


def start(*arguments: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scrapper", "fetch", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_without_leftovers(
    instagram: StandIn, tmp_path: Path, number: int, code: int
) -> None:
    done, held = REEL.format("reel-finished"), REEL.format("silent-held")
    process = start(done, held, "--into", str(tmp_path))
    assert process.stdout
    # The other post's download has begun, but no data ever arrives.
    finished = json.loads(process.stdout.readline())
    wait_for(lambda: instagram.requests("graphql", "silent-held") == 1)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (code, "", "")
    assert finished["shortcode"] == "reel-finished"
    assert os.listdir(tmp_path) == ["reel-finished"]


def test_a_signal_during_a_download_leaves_no_files(instagram: StandIn, tmp_path: Path) -> None:
    instagram.hold_media()
    process = start(REEL.format("reel-middle"), "--into", str(tmp_path))
    wait_for(lambda: instagram.requests("media", "reel-middle") == 1)
    process.terminate()
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, err) == (143, "")
    assert os.listdir(tmp_path) == []


def test_the_next_command_removes_what_a_killed_one_left(
    instagram: StandIn, tmp_path: Path
) -> None:
    instagram.hold_media()
    process = start(REEL.format("reel-killed"), "--into", str(tmp_path))
    wait_for(lambda: instagram.requests("media", "reel-killed") == 1)
    process.kill()
    process.communicate()
    assert ".incoming" in os.listdir(tmp_path)
    instagram.release_media()
    process = start(REEL.format("reel-next"), "--into", str(tmp_path))
    process.communicate(timeout=PATIENCE_SECONDS)
    assert os.listdir(tmp_path) == ["reel-next"]


def test_a_closed_pipe_ends_the_command_quietly(instagram: StandIn, tmp_path: Path) -> None:
    urls = [REEL.format(f"reel-{number}") for number in range(20)]
    process = start(*urls, "--into", str(tmp_path))
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr
    with process.stderr as errors:
        assert errors.read() == ""
    assert process.wait(timeout=PATIENCE_SECONDS) in (0, 141)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_an_output_error_is_reported_in_one_line(instagram: StandIn, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(REEL.format("reel-full"), "--into", str(tmp_path), stdout=full)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, err.count("\n")) == (1, 1)
    assert "No space left" in err


def test_a_closed_standard_output_is_not_an_error(instagram: StandIn, tmp_path: Path) -> None:
    command = f"{sys.executable} -m scrapper fetch {REEL.format('reel-closed')} --into {tmp_path}"
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {command} >&-"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path) == ["reel-closed"]


async def test_quality_and_size_are_options(cdn: Cdn, tmp_path: Path) -> None:
    cdn.set_manifest(
        [Stream("video", height=1920), Stream("sound", "mp4a.40.2")],
        {"video": "h264", "sound": "aac"},
    )
    best = await fetch(REEL.format(CODE), "--into", str(tmp_path), "--quality", "best")
    assert (best.code, "/video/" in json.loads(best.out)["cdn_url"]) == (0, True)
    small = await fetch(REEL.format(CODE), "--into", str(tmp_path), "--max-mb", "0.001")
    assert (small.code, json.loads(small.out)["code"]) == (1, "media_too_large")
    for wrong in (("--quality", "good"), ("--max-mb", "0"), ("--max-mb", "nan")):
        assert (await fetch(REEL.format(CODE), *wrong)).code == 2
