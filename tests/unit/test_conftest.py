"""Checks of the fixtures that every test relies on."""

import asyncio
from pathlib import Path

import pytest
from blockbuster import BlockingError

from scrapper.library.store import Library


async def test_a_call_that_blocks_the_loop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BlockingError):
        Library(tmp_path).stage("SHORTCODE")
    await asyncio.to_thread(Library(tmp_path).stage, "SHORTCODE")
