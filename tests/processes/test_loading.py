"""Plugins on the command line: the commands that they add, and missing plugins."""

import os
import subprocess
import sys
from pathlib import Path


def run(*arguments: str, path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scrapper", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": f"{path}:.",
            "MEDIA_ROOT": str(path / "media"),
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )


COMMAND = """
from scrapper.plugins.hooks import hookimpl

def greet(options):
    print(f"hello {options.name}")
    return 3

@hookimpl
def register_commands(parser):
    command = parser.add_parser("greet", help="greet a person")
    command.add_argument("name")
    command.set_defaults(func=greet)
"""


def test_plugin_commands_run_and_appear_in_help(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(COMMAND)
    done = run("greet", "you", path=tmp_path, PLUGINS="mine")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello you\n", "")
    assert "greet a person" in run("--help", path=tmp_path, PLUGINS="mine").stdout
    assert run("greet", "you", path=tmp_path).returncode == 2


def test_a_plugin_that_cannot_be_imported_exits_with_2(tmp_path: Path) -> None:
    done = run(path=tmp_path, PLUGINS="nowhere.to_be_found")
    assert done.returncode == 2
    assert "PLUGINS: 'nowhere.to_be_found' cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr
