"""The version is the same everywhere."""

import re
import subprocess
import sys

from scrapper import __version__
from tests.conftest import StartService


def test_the_version_is_a_semantic_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_the_command_line_prints_the_version() -> None:
    command = [sys.executable, "-m", "scrapper", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"instagram-scrapper {__version__}\n"


async def test_the_description_and_a_metric_have_the_version(start_service: StartService) -> None:
    client = await start_service()
    async with client.get("/openapi.json") as response:
        assert (await response.json())["info"]["version"] == __version__
    async with client.get("/metrics") as response:
        [line] = re.findall(r"^scrapper_build_info\{.*$", await response.text(), re.MULTILINE)
    assert f'version="{__version__}"' in line
