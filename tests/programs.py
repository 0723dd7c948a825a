"""Runs other programs in tests, and skips tests whose program is not installed."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.process import PATIENCE_SECONDS

__all__ = ["PROXIES", "output_of", "program"]

PROXIES = {name: value for name, value in os.environ.items() if name.upper().endswith("_PROXY")}
"""The developer's own proxies, for programs that download something.

The environment in which the tests run lacks these variables.
"""


def program(name: str, *, packages: str = "") -> str:
    """Return the path of a program; skip the test if it is not installed.

    The message names the Debian *packages* to install, by default one with the program's name.
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
    """Run *command* and return what it printed to stdout and stderr. Its exit code must be 0.

    *environment* is added to the environment of the tests.
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
