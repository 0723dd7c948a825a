"""Whether the wall clock is believed; no test looks at a real one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.library.clock import ClockWatch, Reading

HOUR, DAY, YEAR = 3600.0, 24 * 3600.0, 365 * 24 * 3600.0
START = Reading(wall=1_800_000_000.0, running=1000.0, boot="one")


class Clocks:
    """Two clocks that tests set."""

    def __init__(self) -> None:
        self.now = START

    def read(self) -> Reading:
        return self.now

    def go_on(self, seconds: float, *, jump: float = 0.0) -> None:
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


def test_a_first_look_and_steady_clocks_are_believed(watch: ClockWatch, clocks: Clocks) -> None:
    for _ in range(50):
        assert watch.is_right()
        clocks.go_on(HOUR)


def test_a_clock_is_doubted_although_its_file_vanished(
    watch: ClockWatch, clocks: Clocks, tmp_path: Path
) -> None:
    assert watch.is_right()
    (tmp_path / "clock.json").unlink()
    clocks.go_on(HOUR, jump=YEAR)
    assert not watch.is_right()
    clocks.go_on(HOUR, jump=-YEAR)
    assert watch.is_right()
    assert (tmp_path / "clock.json").exists()


@pytest.mark.parametrize("jump", [YEAR, 2 * DAY, HOUR, -HOUR, -YEAR])
def test_a_clock_that_jumps_is_believed_when_it_is_back(
    watch: ClockWatch, clocks: Clocks, jump: float
) -> None:
    assert watch.is_right()
    clocks.go_on(HOUR, jump=jump)
    for _ in range(3):
        assert not watch.is_right()
        clocks.go_on(HOUR)
    clocks.go_on(HOUR, jump=-jump)
    assert watch.is_right()


def test_a_clock_that_jumped_is_believed_after_a_day(watch: ClockWatch, clocks: Clocks) -> None:
    assert watch.is_right()
    clocks.go_on(HOUR, jump=YEAR)
    looks = 0
    while not watch.is_right():
        clocks.go_on(HOUR)
        looks += 1
    assert looks == 24


def test_a_clock_ahead_at_a_start_is_not_believed(
    tmp_path: Path, watch: ClockWatch, clocks: Clocks
) -> None:
    assert watch.is_right()
    clocks.boot(off=YEAR)
    again = ClockWatch(tmp_path / "clock.json", read=clocks.read)
    assert not again.is_right()
    # The right time comes from the network.
    clocks.go_on(30, jump=60 - YEAR)
    assert again.is_right()


@pytest.mark.parametrize("off", [0.0, HOUR, DAY])
def test_a_machine_off_for_a_day_is_believed(
    tmp_path: Path, watch: ClockWatch, clocks: Clocks, off: float
) -> None:
    assert watch.is_right()
    clocks.boot(off=off)
    assert ClockWatch(tmp_path / "clock.json", read=clocks.read).is_right()


def test_a_clock_that_begins_in_the_past_is_not_believed(
    tmp_path: Path, watch: ClockWatch, clocks: Clocks
) -> None:
    assert watch.is_right()
    clocks.boot(off=-40 * YEAR)
    assert not ClockWatch(tmp_path / "clock.json", read=clocks.read).is_right()


@pytest.mark.parametrize("value", ["null", "[]", '"x"', "NaN", "Infinity", "1" + 400 * "0"])
@pytest.mark.parametrize("name", ["wall", "running"])
def test_a_malformed_look_counts_as_none(tmp_path: Path, name: str, value: str) -> None:
    values = {"wall": "1", "running": "1", "boot": '"one"', name: value}
    path = tmp_path / "clock.json"
    path.write_text("{" + ",".join(f'"{key}":{text}' for key, text in values.items()) + "}")
    assert ClockWatch(path, read=lambda: START).is_right()


@given(content=st.binary(max_size=300))
def test_a_damaged_file_counts_as_none(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("clock") / "clock.json"
    path.write_bytes(content)
    watch = ClockWatch(path, read=lambda: START)
    assert watch.is_right()
    assert watch.is_right()
