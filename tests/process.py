"""Runs the service in a separate process, as a user does."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import requests

from tests.forks import Fork

__all__ = [
    "MALLOC",
    "PATIENCE_SECONDS",
    "Process",
    "Service",
    "Worker",
    "free_port",
    "run",
    "wait_for",
    "wait_for_answer",
]

PATIENCE_SECONDS = int(os.environ.get("PATIENCE_SECONDS", "300"))
"""A test fails if it waits longer than this, which is plenty of time even on a slow machine."""

MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}
"""Set by the image, the systemd unit and ``make``, so that malloc retains less memory."""

_ROOT = Path(__file__).resolve().parents[1]
_MAX_RESERVED = 100
_reserved: deque[int] = deque()


class Process:
    """A process that runs ``python -m`` with *module*, which is a module's name and its arguments.

    *environment* is added to the default environment, and :attr:`environment` is the result.
    :attr:`log` has the process's log lines so far as objects, and :attr:`raw_log` has them as text.
    If *keep_log* is false, another process discards the lines, which costs the tests no time.

    If :attr:`forks` is true, the process is forked from one that has already imported the program,
    unless *fresh* is true. In a fork, *constants* replaces constants of modules, such as pauses.
    """

    forks: ClassVar[bool] = False

    def __init__(
        self,
        module: Sequence[str],
        media_root: Path,
        environment: Mapping[str, str] | None = None,
        *,
        python_path: Path | None = None,
        keep_log: bool = True,
        python: Path = Path(sys.executable),
        fresh: bool = False,
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        folders = [_ROOT, python_path] if python_path else [_ROOT]
        self._keep_log = keep_log
        self._module, self._python = module, str(python)
        self._is_fork = self.forks and not fresh and self._python == sys.executable
        self._constants = constants or {}
        assert self._is_fork or not self._constants
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "HOST": "127.0.0.1",
            "MEDIA_ROOT": str(media_root),
            "RATE_LIMIT_MAX_REQUESTS": "0",
            **MALLOC,
            **(environment or {}),
        }
        self.raw_log: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()

    def start(self, **more: str) -> None:
        """Start the process with *more* in its environment, without waiting for it."""
        environment = {**more, **self.environment}
        self._process: Fork | subprocess.Popen[str]
        if self._is_fork:
            self._process = Fork(self._module, environment, self._constants)
        else:
            command = [self._python, "-m", *self._module]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, env=environment, stdout=pipe, text=True)
        assert self._process.stdout
        if self._keep_log:
            self._reader = threading.Thread(target=self.raw_log.extend, args=[self._process.stdout])
        else:
            command = ["cat"]
            drain = partial(subprocess.run, command, stdin=self._process.stdout, check=True)
            self._reader = threading.Thread(target=drain, kwargs={"stdout": subprocess.DEVNULL})
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.raw_log)]

    def logged(self, event: str) -> int:
        """Return how many log lines have this *event*."""
        return sum(line["event"] == event for line in self.log)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def pause(self) -> None:
        """Send SIGSTOP, which suspends the process until :meth:`resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the exit."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for the exit, and return the exit code."""
        code = self._process.wait(timeout=PATIENCE_SECONDS)
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()
        return code


class Worker(Process):
    """``python -m scrapper worker``."""

    def __init__(
        self,
        media_root: Path,
        environment: Mapping[str, str],
        **options: Any,
    ) -> None:
        super().__init__(("scrapper", "worker"), media_root, environment, **options)

    def __enter__(self) -> Self:
        self.start()
        wait_for(lambda: self.logged("working") == 1)
        return self


class Service(Process):
    """The service on loopback, on a free port unless *environment* sets ``PORT``.

    Another *module* can run in its place. *authority* is a file with a CA certificate. If it is
    given, requests use https. The other *options* are those of :class:`Process`.
    """

    def __init__(
        self,
        media_root: Path,
        environment: Mapping[str, str] | None = None,
        *,
        module: Sequence[str] = ("scrapper",),
        authority: Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(module, media_root, environment, **options)
        self.headers: dict[str, str] = {}
        self._authority = authority

    def __enter__(self) -> Self:
        port = int(self.environment.get("PORT") or free_port())
        self.url = f"{'https' if self._authority else 'http'}://127.0.0.1:{port}"
        # HTTPS_PROXY is for the service, not for requests to it.
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(self._authority) if self._authority else True
        self.start(PORT=str(port))
        wait_for(lambda: self._is_up)
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._session.close()

    @property
    def _is_up(self) -> bool:
        assert self._process.poll() is None, self.raw_log
        return _answers(self._session, self.url + "/health")

    def get(self, path: str) -> requests.Response:
        return self._session.get(self.url + path, headers=self.headers, timeout=PATIENCE_SECONDS)

    def post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return self._session.post(
            self.url + path, json=body, headers=self.headers, timeout=PATIENCE_SECONDS
        )

    def put(self, path: str) -> requests.Response:
        return self._session.put(self.url + path, headers=self.headers, timeout=PATIENCE_SECONDS)

    def delete(self, path: str) -> requests.Response:
        return self._session.delete(self.url + path, headers=self.headers, timeout=PATIENCE_SECONDS)

    def scrape(self, url: str, **body: Any) -> requests.Response:
        return self.post("/scrape", {"url": url, **body})


def run(
    *words: str, given: str = "", environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m scrapper`` with the arguments *words*, as a fork.

    *given* is its standard input.
    """
    with ExitStack() as opened:
        files = [opened.enter_context(TemporaryFile("w+", newline="")) for _ in range(3)]
        files[0].write(given)
        files[0].seek(0)
        streams = [file.fileno() for file in files]
        code = Fork(("scrapper", *words), environment, streams=streams).wait(PATIENCE_SECONDS)
        for file in files:
            file.seek(0)
        return subprocess.CompletedProcess(words, code, files[1].read(), files[2].read())


def free_port() -> int:
    """Return a free loopback port, and reserve it for a while."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    # A program can still listen on this port, but the kernel never assigns the port by itself.
    _reserved.append(holder.detach())
    if len(_reserved) > _MAX_RESERVED:
        os.close(_reserved.popleft())
    return port


def wait_for(holds: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until *holds* returns true, for at most *seconds*."""
    begin = time.monotonic()
    while not holds():
        waited = time.monotonic() - begin
        assert waited < seconds
        # Back off, because each check may be a request.
        time.sleep(min(max(0.01, waited / 10), 0.1))


def wait_for_answer(url: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a server responds at *url*, with any status, for at most *seconds*."""
    with requests.Session() as session:
        session.trust_env = False
        wait_for(partial(_answers, session, url), seconds=seconds)


def _answers(session: requests.Session, url: str) -> bool:
    address = urlsplit(url)
    with suppress(OSError):
        # Connect first, because that is cheaper than a request. The connection is closed at once,
        # because some servers serve only one at a time.
        socket.create_connection((address.hostname, address.port)).close()
        session.get(url, timeout=PATIENCE_SECONDS, headers={"Connection": "close"})
        return True
    return False
