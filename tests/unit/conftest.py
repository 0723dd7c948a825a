"""Unit tests open no socket and start no process, so any number of them can run in parallel."""

import socket
import subprocess
from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def neither_sockets_nor_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a test fail if it connects or binds a socket, or starts a process."""

    def refuse(*_arguments: Any, **_options: Any) -> NoReturn:
        pytest.fail("a unit test must use neither sockets nor processes")

    for name in ("bind", "connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("fork", "posix_spawn"):
        monkeypatch.setattr(f"os.{name}", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
