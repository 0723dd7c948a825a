"""The list of ended sessions: bounded, shared through a file, and safe against damage."""

import json
from pathlib import Path

import pytest

from scrapper.access.ended_sessions import EndedSessions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.json"


def test_an_ended_session_is_known_to_all_processes(path: Path) -> None:
    one, other = EndedSessions(path), EndedSessions(path)
    one.add("anna", (200, "a"), now=100)
    other.add("anna", (300, "b"), now=100)
    one.reload_if_changed()
    later = EndedSessions(path)
    later.reload_if_changed()
    for ended in (one, other, later):
        assert ended.has("anna", (200, "a"))
        assert ended.has("anna", (300, "b"))
        assert not ended.has("bob", (200, "a"))
        assert not ended.has("anna", (200, "b"))


def test_expired_sessions_are_dropped(path: Path) -> None:
    ended = EndedSessions(path)
    ended.add("anna", (200, "a"), now=100)
    ended.add("bob", (900, "b"), now=300)
    assert "anna" not in path.read_text()
    assert ended.has("bob", (900, "b"))


def test_no_ended_session_becomes_valid_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapper.access.ended_sessions._MAX_PER_KEY", 5)
    ended = EndedSessions(path)
    for number in range(12):
        ended.add("anna", (1000 + number, f"{number:016x}"), now=100)
    assert all(ended.has("anna", (1000 + number, f"{number:016x}")) for number in range(12))
    assert not ended.has("anna", (2000, "not ended"))
    assert not ended.has("bob", (1000, "of another key"))
    assert len(json.loads(path.read_text())["anna"]) == 5


@pytest.mark.parametrize("content", ["", "{", "[]", '{"anna": 1}', '{"anna": [["x", "y"]]}'])
def test_a_damaged_list_is_replaced(path: Path, content: str) -> None:
    path.write_text(content)
    ended = EndedSessions(path)
    ended.reload_if_changed()
    ended.add("anna", (200, "a"), now=100)
    later = EndedSessions(path)
    later.reload_if_changed()
    assert later.has("anna", (200, "a"))


def test_sessions_stay_ended_after_the_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    ended = EndedSessions(path)
    ended.add("one", (2_000_000_000, "a"), now=0.0)
    path.unlink()
    ended.reload_if_changed()
    later = EndedSessions(path)
    later.reload_if_changed()
    assert later.has("one", (2_000_000_000, "a"))
