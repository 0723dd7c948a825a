"""When the wall clock is trusted; no test reads a real clock."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.library.clock import ClockWatch, Reading

HOUR, DAY, YEAR = 3600.0, 24 * 3600.0, 365 * 24 * 3600.0
START = Reading(wall=1_800_000_000.0, running=1000.0, boot="one")


class Clocks:
    """Two clocks that the tests control."""

    def __init__(self) -> None:
        self.now = START

    def read(self) -> Reading:
        return self.now

    def advance(self, seconds: float, *, jump: float = 0.0) -> None:
        wall, running, boot = self.now.wall, self.now.running, self.now.boot
        self.now = Reading(wall + seconds + jump, running + seconds, boot)

    def boot(self, *, off: float) -> None:
        self.now = Reading(self.now.wall + off, 20.0, self.now.boot + "+")


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def watch(tmp_path: Path, clocks: Clocks) -> ClockWatch:
    return ClockWatch(tmp_path / "clock.json", read=clocks.read)


def test_a_steady_clock_is_trusted_from_the_start(watch: ClockWatch, clocks: Clocks) -> None:
    for _ in range(50):
        assert watch.is_trusted()
        clocks.advance(HOUR)


def test_a_jump_is_detected_without_the_file(
    watch: ClockWatch, clocks: Clocks, tmp_path: Path
) -> None:
    assert watch.is_trusted()
    (tmp_path / "clock.json").unlink()
    clocks.advance(HOUR, jump=YEAR)
    assert not watch.is_trusted()
    clocks.advance(HOUR, jump=-YEAR)
    assert watch.is_trusted()
    assert (tmp_path / "clock.json").exists()


@pytest.mark.parametrize("jump", [YEAR, 2 * DAY, HOUR, -HOUR, -YEAR])
def test_a_clock_is_trusted_again_once_it_is_corrected(
    watch: ClockWatch, clocks: Clocks, jump: float
) -> None:
    assert watch.is_trusted()
    clocks.advance(HOUR, jump=jump)
    for _ in range(3):
        assert not watch.is_trusted()
        clocks.advance(HOUR)
    clocks.advance(HOUR, jump=-jump)
    assert watch.is_trusted()


def test_a_clock_is_trusted_a_day_after_a_jump(watch: ClockWatch, clocks: Clocks) -> None:
    assert watch.is_trusted()
    clocks.advance(HOUR, jump=YEAR)
    checks = 0
    while not watch.is_trusted():
        clocks.advance(HOUR)
        checks += 1
    assert checks == 24


def test_a_clock_that_jumped_during_a_reboot_is_not_trusted(
    tmp_path: Path, watch: ClockWatch, clocks: Clocks
) -> None:
    assert watch.is_trusted()
    clocks.boot(off=YEAR)
    restarted = ClockWatch(tmp_path / "clock.json", read=clocks.read)
    assert not restarted.is_trusted()
    # NTP corrects the clock.
    clocks.advance(30, jump=60 - YEAR)
    assert restarted.is_trusted()


@pytest.mark.parametrize("off", [0.0, HOUR, DAY])
def test_the_clock_is_trusted_after_a_short_shutdown(
    tmp_path: Path, watch: ClockWatch, clocks: Clocks, off: float
) -> None:
    assert watch.is_trusted()
    clocks.boot(off=off)
    assert ClockWatch(tmp_path / "clock.json", read=clocks.read).is_trusted()


def test_a_clock_reset_during_a_reboot_is_not_trusted(
    tmp_path: Path, watch: ClockWatch, clocks: Clocks
) -> None:
    assert watch.is_trusted()
    clocks.boot(off=-40 * YEAR)
    assert not ClockWatch(tmp_path / "clock.json", read=clocks.read).is_trusted()


@pytest.mark.parametrize("value", ["null", "[]", '"x"', "NaN", "Infinity", "1" + 400 * "0"])
@pytest.mark.parametrize("name", ["wall", "running"])
def test_a_malformed_reading_is_ignored(tmp_path: Path, name: str, value: str) -> None:
    values = {"wall": "1", "running": "1", "boot": '"one"', name: value}
    path = tmp_path / "clock.json"
    path.write_text("{" + ",".join(f'"{key}":{text}' for key, text in values.items()) + "}")
    assert ClockWatch(path, read=lambda: START).is_trusted()


@given(content=st.binary(max_size=300))
def test_a_damaged_file_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("clock") / "clock.json"
    path.write_bytes(content)
    watch = ClockWatch(path, read=lambda: START)
    assert watch.is_trusted()
    assert watch.is_trusted()
