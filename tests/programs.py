"""Programs that tests run, and without which they are skipped."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.process import PATIENCE_SECONDS

__all__ = ["PROXIES", "output_of", "program"]

PROXIES = {name: value for name, value in os.environ.items() if name.upper().endswith("_PROXY")}
"""The tester's own proxies, for programs that download; the tests' environment lacks them."""


def program(name: str, *, packages: str = "") -> str:
    """The path of a program; without it the test is skipped, and says which *packages* to install.

    By default Debian's package has the program's name.
    """
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}: on Debian, apt install {packages or name}")
    return path


def output_of(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What *command* prints, to both outputs, with *environment* on top of ours.

    Its exit code must be 0.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
