"""Sweeps use the time that was read before the clock was checked."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scrapper.library.store import Library
from scrapper.library.sweeper import sweeping
from scrapper.setting_types import DAY
from scrapper.telemetry.metrics import Metrics
from tests.conftest import until
from tests.unit.library.test_catalogue import store
from tests.unit.library.test_store import all_but


@asynccontextmanager
async def free_turn() -> AsyncIterator[bool]:
    yield True


@pytest.mark.blocks
async def test_a_clock_that_jumps_after_its_check_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, metrics = Library(tmp_path), Metrics()
    await library.open()
    store(library, "abcde")
    later = time.time() + 3650 * DAY

    def is_trusted() -> bool:
        monkeypatch.setattr(time, "time", lambda: later)
        return True

    async with sweeping(
        library,
        metrics,
        turn=free_turn,
        clock_is_trusted=is_trusted,
        max_age=7 * DAY,
        interval=3600,
        reserve=all_but(),
    ):
        sample = metrics.registry.get_sample_value
        await until(lambda: sample("library_sweeps_total", {"outcome": "ok"}) == 1)
    assert await library.versions()
