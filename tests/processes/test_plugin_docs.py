"""A plugin made from the template in the docs is found and runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service, wait_for
from tests.processes.test_package import TRUST, UV
from tests.programs import output_of

pytestmark = pytest.mark.blocks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh environment with the service's requirements and a plugin made from the template."""
    folder = tmp_path_factory.mktemp("fresh")
    template = shutil.copytree(ROOT / "docs/plugin-template", folder / "memos")
    for path in list(template.iterdir()):
        renamed = path.rename(path.with_name(path.name.replace("notes", "memos")))
        renamed.write_text(renamed.read_text().replace("notes", "memos"))
    python = folder / "venv/bin/python"
    output_of([*UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"])
    install = [*UV, "pip", "install", "--quiet", "--python", python]
    locked = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--requirement",
        ROOT / "requirements/base.txt",
    ]
    for what in (locked, [template]):
        output_of([*install, *what], environment=TRUST)
    yield python
    shutil.rmtree(folder)


def test_a_plugin_made_from_the_template_runs(
    instagram: StandIn, media_root: Path, tmp_path: Path, fresh_python: Path
) -> None:
    notes = tmp_path / "notes"
    environment = {**instagram.environment, "NOTES_FOLDER": str(notes)}
    with Service(media_root, environment, python=fresh_python) as service:
        service.scrape("https://www.instagram.com/reel/reel-1/")
        wait_for((notes / "reel-1.md").exists)
        wait_for(lambda: "reel-1.mp4" in (notes / "reel-1.md").read_text())
        assert service.delete("/posts/reel-1").status_code == 204
        wait_for(lambda: not (notes / "reel-1.md").exists())
        # By now the ledger has recorded the plugin's calls.
        wait_for(lambda: 'plugin_behind{plugin="memos"} 0.0' in service.get("/metrics").text)
    shown = subprocess.run(
        [str(fresh_python), "-m", "scrapper", "plugins"],
        env={**os.environ, **environment, "MEDIA_ROOT": str(media_root), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == (
        "memos (instagram-scrapper-memos 0.1.0): configure, post_removed, post_stored; "
        "0 done, 0 failed, 0 behind\n"
    )


def test_a_misconfigured_plugin_is_reported_at_startup(
    media_root: Path, tmp_path: Path, fresh_python: Path
) -> None:
    done = subprocess.run(
        [str(fresh_python), "-m", "scrapper"],
        env={"PATH": os.environ["PATH"], "MEDIA_ROOT": str(media_root), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "plugin memos: NOTES_FOLDER: set it to the absolute path of a folder" in done.stderr
