"""The limits of ffmpeg, tested with scripts in its place."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scrapper.ffmpeg import FFmpeg, FFmpegFailed, missing_programs
from tests.process import wait_for

pytestmark = pytest.mark.skipif(bool(missing_programs()), reason="needs ffmpeg and util-linux")

Fake = Callable[[str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Replace ``ffmpeg`` with a script."""

    def write(script: str) -> None:
        program = tmp_path / "ffmpeg"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return write


@pytest.fixture
def ffmpeg() -> Iterator[FFmpeg]:
    ffmpeg = FFmpeg(64_000_000)
    yield ffmpeg
    ffmpeg.kill()


def test_a_slow_program_is_killed(fake: Fake, ffmpeg: FFmpeg, tmp_path: Path) -> None:
    fake(f"exec tail -f {tmp_path}/ffmpeg")
    with pytest.raises(TimeoutError):
        ffmpeg.run("ffmpeg", seconds=1, max_bytes=1_000)
    # No running process has the script's path among its arguments.
    left = subprocess.run(["pgrep", "--full", f"{tmp_path}/ffmpeg"], check=False)
    assert left.returncode == 1


def test_a_program_that_needs_too_much_memory_fails(fake: Fake, ffmpeg: FFmpeg) -> None:
    fake(f"exec {sys.executable} -c 'x = bytearray(100_000_000)'")
    with pytest.raises(FFmpegFailed, match="MemoryError"):
        ffmpeg.run("ffmpeg", seconds=60)


def test_a_program_that_writes_too_much_fails(fake: Fake, ffmpeg: FFmpeg, tmp_path: Path) -> None:
    fake(f"exec dd if=/dev/zero of={tmp_path}/out bs=1000 count=9")
    with pytest.raises(FFmpegFailed):
        ffmpeg.run("ffmpeg", seconds=60, max_bytes=4_000)
    assert (tmp_path / "out").stat().st_size <= 4_000
    ffmpeg.run("ffmpeg", seconds=60, max_bytes=10_000)


def test_long_output_is_truncated(fake: Fake, ffmpeg: FFmpeg) -> None:
    fake("yes output | head -c 5000000; yes error | head -c 5000000 >&2")
    assert len(ffmpeg.run("ffmpeg", seconds=60)) == 100_000
    fake("yes error | head -c 5000000 >&2; echo last >&2; exit 1")
    with pytest.raises(FFmpegFailed, match=r"last$") as failed:
        ffmpeg.run("ffmpeg", seconds=60)
    assert len(str(failed.value)) <= 10_000


def test_at_most_two_programs_run_at_once(fake: Fake, tmp_path: Path) -> None:
    fake(f"touch {tmp_path}/$$.runs; while ! [ -e {tmp_path}/go ]; do sleep 0.05; done; echo done")
    with ThreadPoolExecutor(4) as threads:
        runs = [
            threads.submit(FFmpeg(64_000_000).run, "ffmpeg", seconds=60, max_bytes=1_000)
            for _ in range(3)
        ]
        wait_for(lambda: len(list(tmp_path.glob("*.runs"))) == 2)
        with pytest.raises(TimeoutError):
            FFmpeg(64_000_000).run("ffmpeg", seconds=0.2)
        assert len(list(tmp_path.glob("*.runs"))) == 2
        (tmp_path / "go").touch()
        assert [run.result() for run in runs] == [b"done\n"] * 3


def test_a_program_has_its_own_group_and_low_priority(fake: Fake, ffmpeg: FFmpeg) -> None:
    fake("ps -o pid=,pgid=,ni= -p $$")
    pid, group, niceness = map(int, ffmpeg.run("ffmpeg", seconds=60).split())
    assert pid == group
    assert niceness > os.getpriority(os.PRIO_PROCESS, 0)


def test_another_thread_can_kill_the_program(fake: Fake, ffmpeg: FFmpeg, tmp_path: Path) -> None:
    fake(f"touch {tmp_path}/runs; exec sleep 600")
    ended: list[Exception] = []

    def run() -> None:
        try:
            ffmpeg.run("ffmpeg", seconds=600, max_bytes=1_000)
        except FFmpegFailed as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for((tmp_path / "runs").exists)
    ffmpeg.kill()
    thread.join()
    assert len(ended) == 1


def test_a_killed_service_leaves_no_program_behind(fake: Fake, tmp_path: Path) -> None:
    fake(f"echo $$ >{tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600")
    code = (
        "from scrapper.ffmpeg import FFmpeg; FFmpeg(10**8).run('ffmpeg', seconds=600, max_bytes=9)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as service:
        wait_for((tmp_path / "pid").exists)
        service.send_signal(signal.SIGKILL)
    pid = int((tmp_path / "pid").read_text())

    def is_gone() -> bool:
        time.sleep(0.01)
        try:
            return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True

    wait_for(is_gone)
