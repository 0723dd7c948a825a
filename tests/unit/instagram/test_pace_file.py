"""The file that keeps the learned pace across restarts."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.instagram.pace import PaceFile


def test_learned_pace_survives_a_restart(tmp_path: Path) -> None:
    pace = PaceFile(tmp_path / "pace.json").make_pace("logged_out", 200, 660)
    pace.slow_down(pace.count("query"))
    again = PaceFile(tmp_path / "pace.json")
    assert again.make_pace("logged_out", 200, 660).allowed_now() == 100
    assert again.make_pace("session", 200, 660).allowed_now() == 200


@pytest.mark.parametrize(
    "entry",
    [
        "null",
        "[]",
        '{"allowed": 1}',
        '{"allowed": Infinity, "at": 1}',
        '{"allowed": NaN, "at": 1}',
        '{"allowed": -1, "at": 1}',
        '{"allowed": 1, "at": Infinity}',
        '{"allowed": 1, "at": 1' + 400 * "0" + "}",
        '{"allowed": 1' + 400 * "0" + ', "at": 1}',
    ],
)
def test_malformed_pace_entry_is_ignored(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "pace.json"
    path.write_text('{"logged_out": ' + entry + "}")
    assert PaceFile(path).make_pace("logged_out", 200, 660).allowed_now() == 200


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(content=st.binary())
def test_damaged_pace_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pace.json"
    path.write_bytes(content)
    assert PaceFile(path).make_pace("logged_out", 200, 660).allowed_now() == 200
