"""Runs the service's programs as forks of a process that has already imported them.

Imports take half a second of CPU time, which is most of a program's startup. A fork does not test
the startup of Python itself, and does not reveal that a module is missing or imported too early.
"""

import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from functools import cache
from importlib import import_module
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import TimeoutExpired
from typing import IO, Any

__all__ = ["Fork"]

_ROOT = Path(__file__).resolve().parents[1]


class Fork:
    """A process that runs ``python -m``, with some of the methods of ``subprocess.Popen``.

    *module* is the module's name and its arguments. *constants* replaces constants of modules, as
    in ``{"scrapper.plugins.outbox._MAX_BYTES": 100}``. *streams* are the descriptors of the
    process's standard streams. Without them, its input is empty, and ``stdout`` reads its output.
    """

    stdout: IO[str] | None = None

    def __init__(
        self,
        module: Sequence[str],
        environment: Mapping[str, str],
        constants: Mapping[str, Any] | None = None,
        *,
        streams: Sequence[int] = (),
    ) -> None:
        if streams:
            numbers = [os.dup(stream) for stream in streams]
        else:
            reader, writer = os.pipe()
            numbers = [os.open(os.devnull, os.O_RDWR), writer, os.dup(2)]
            self.stdout = open(reader)  # noqa: SIM115, PTH123 - the reader closes it
        connections = [Connection(number) for number in numbers]
        self._process = _server().Process(
            target=_run, args=[module, dict(environment), constants or {}, connections], daemon=True
        )
        self._process.start()
        for connection in connections:
            connection.close()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise TimeoutExpired(self._process.name, timeout)
        return code


@cache
def _server() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    # The server imports modules from the folder in which it was started.
    with chdir(_ROOT):
        forkserver.ensure_running()
    return context


def _run(
    module: Sequence[str],
    environment: Mapping[str, str],
    constants: Mapping[str, Any],
    streams: Sequence[Connection],
) -> None:
    """Run the program in this process."""
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = ["", *environment.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = list(module)
    for name, value in constants.items():
        where, _, constant = name.rpartition(".")
        getattr(import_module(where), constant)
        setattr(import_module(where), constant, value)
    runpy.run_module(module[0], run_name="__main__", alter_sys=True)
