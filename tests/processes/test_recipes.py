"""Runs the commands of the recipes exactly as the docs show them."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service
from tests.programs import program

RECIPES = Path(__file__).resolve().parents[2] / "docs/recipes.md"
_ADDRESS = re.compile("(http://)?localhost:5633")
COMMANDS = re.findall(r"^```sh\n(.*?)\n```", RECIPES.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def service(instagram: StandIn, media_root: Path) -> Service:
    return Service(media_root, instagram.environment)


def run(command: str, service: Service, folder: Path) -> str:
    program(command.split(maxsplit=1)[0])
    done: subprocess.CompletedProcess[str] = subprocess.run(
        ["/bin/sh", "-c", _ADDRESS.sub(service.url, command)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize("command", [it for it in COMMANDS if "/download" in it])
def test_a_download_saves_the_post_under_its_own_name(
    instagram: StandIn, service: Service, tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    with service:
        run(command, service, folder)
    [saved] = folder.iterdir()
    if "archive=zip" in command:
        assert saved.name == "carousel-demo.zip"
    else:
        assert saved.name == "reel-demo.mp4"
        assert [saved.read_bytes()] == instagram.bytes_of("reel-demo")


def test_a_file_of_links_becomes_a_job(service: Service, tmp_path: Path) -> None:
    [command] = [it for it in COMMANDS if "/jobs" in it]
    links = [f"https://www.instagram.com/reel/reel-{number}/" for number in range(3)]
    (tmp_path / "links.txt").write_text("\n".join(links) + "\n")
    with service:
        job = json.loads(run(command, service, tmp_path))
    assert [post["url"] for post in job["posts"]] == links
