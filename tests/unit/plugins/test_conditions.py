"""Which changes of the login's state and of the conditions plugins are notified of."""

import json
import sqlite3
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

from scrapper.instagram.login.session import Login, LoginState
from scrapper.plugins.conditions import Condition, Conditions
from scrapper.settings import Settings
from tests.conftest import until
from tests.unit.plugins.test_follower import Harness, Recorder, module

pytestmark = pytest.mark.blocks
NONE = LoginState("none", None, None)
ACTIVE = LoginState("active", "anna", 1.0)
EXPIRED = LoginState("expired", "anna", 2.0)


class Scripted:
    """Conditions that a test sets."""

    def __init__(self) -> None:
        self.login = NONE
        self.full = False

    def now(self) -> Any:
        return {"login": self.login, "disk": Condition("disk_nearly_full", self.full)}


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    made = Harness(tmp_path / "media")
    made.conditions = Scripted()
    return made


def following(recorder: Recorder) -> ModuleType:
    def login_changed(login: LoginState) -> None:
        recorder.record(login.state)

    async def condition_changed(condition: Condition) -> None:
        recorder.record(condition.name, str(condition.holds))

    return module(login_changed=login_changed, condition_changed=condition_changed)


def recorded(harness: Harness) -> set[str]:
    """Return the values of the conditions in the ledger."""
    with closing(sqlite3.connect(harness.ledger_path)) as database:
        return {value for (value,) in database.execute("SELECT value FROM conditions")}


async def test_each_change_is_one_event_across_restarts(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    expected: list[tuple[str, ...]] = []
    changes: list[tuple[str, Any, tuple[str, ...]]] = [
        ("login", ACTIVE, ("active",)),
        ("login", EXPIRED, ("expired",)),
        ("full", True, ("disk_nearly_full", "True")),
        ("full", False, ("disk_nearly_full", "False")),
        ("login", NONE, ("none",)),
    ]
    for name, value, event in changes:
        # The change happens while no process is running.
        setattr(harness.conditions, name, value)
        expected.append(event)
        for _ in range(2):
            async with harness.running(monkeypatch, one=following(recorder)):
                await until(lambda: recorder.events == expected)
                # A restart would repeat an event that is not in the ledger yet.
                condition = harness.conditions.now()["login" if name == "login" else "disk"]
                known = json.dumps(astuple(condition))
                await until(lambda: known in recorded(harness))  # noqa: B023


async def test_a_new_plugin_gets_no_default_conditions(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    async with harness.running(monkeypatch, one=following(recorder)):
        harness.conditions.full = True
        await until(lambda: recorder.events == [("disk_nearly_full", "True")])


async def test_a_failing_call_is_tried_three_times(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    recorder.fail = 3
    async with harness.running(monkeypatch, one=following(recorder)):
        harness.conditions.full = True
        await until(lambda: len(recorder.events) == 3)
        harness.conditions.login = EXPIRED
        await until(lambda: recorder.events[3:] == [("expired",)])


async def test_a_call_for_an_undone_change_is_not_retried(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    recorder.fail = 1
    harness.pauses = type(harness.pauses)(polls=0.01, tries=(3600.0, 3600.0), error=0.01)
    async with harness.running(monkeypatch, one=following(recorder)):
        harness.conditions.full = True
        await until(lambda: len(recorder.events) == 1)
        harness.conditions.full = False
        harness.conditions.login = ACTIVE
        await until(lambda: recorder.events[1:] == [("active",)])
        await until(lambda: 'plugin_behind{plugin="one"} 0.0' in harness.metrics_page())


@pytest.mark.parametrize(("min_free", "max_media"), [("100", "1024"), ("0", "1")])
def test_a_disk_without_room_for_one_file_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, min_free: str, max_media: str
) -> None:
    monkeypatch.setenv("MEDIA_ROOT", str(tmp_path))
    monkeypatch.setenv("MIN_FREE_DISK_MB", min_free)
    monkeypatch.setenv("MAX_MEDIA_MB", max_media)
    limit = (int(min_free) + int(max_media)) * 1_000_000
    free = iter((limit, limit - 1, limit, None, limit * 2, limit * 2))
    conditions = Conditions(Settings(), Login(), Mock(have_lasted=False), free=lambda _: next(free))
    seen = []
    for _ in range(5):
        now = conditions.now()["disk_nearly_full"]
        assert isinstance(now, Condition)
        seen.append(now.holds)
    # While the disk is unavailable, the condition does not change.
    assert seen == [False, True, True, True, False]
    assert conditions.now()["login"] == NONE
