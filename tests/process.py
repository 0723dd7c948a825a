"""The service as a process of its own, as a user runs it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import requests

__all__ = [
    "MALLOC",
    "PATIENCE_SECONDS",
    "Process",
    "Service",
    "Worker",
    "free_port",
    "wait_for",
    "wait_for_answer",
]

PATIENCE_SECONDS = int(os.environ.get("PATIENCE_SECONDS", "300"))
"""A test that waits for longer than this fails: no machine is that slow."""

MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}
"""What the image, the systemd unit and ``make`` set, so that malloc keeps less memory."""

_ROOT = Path(__file__).resolve().parents[1]


class Process:
    """``python -m`` with *module* and its arguments, and *environment* on top of ours.

    :attr:`environment` is its whole environment, :attr:`log` holds its log lines so far as objects,
    :attr:`raw_log` as text. If *keep_log* is false, another process drops the lines, at no cost to
    this one.
    """

    def __init__(
        self,
        module: Sequence[str],
        media_root: Path,
        environment: Mapping[str, str] | None = None,
        *,
        python_path: Path | None = None,
        keep_log: bool = True,
        python: Path = Path(sys.executable),
    ) -> None:
        folders = [_ROOT, python_path] if python_path else [_ROOT]
        self._keep_log = keep_log
        self._command = [str(python), "-m", *module]
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
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()

    def _start(self, **more: str) -> None:
        self._process = subprocess.Popen(
            self._command,
            env={**more, **self.environment},
            stdout=subprocess.PIPE,
            text=True,
        )
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
        """How many log lines have this *event*."""
        return sum(line["event"] == event for line in self.log)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: until :meth:`go_on` it does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
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
        *,
        python_path: Path | None = None,
    ) -> None:
        super().__init__(("scrapper", "worker"), media_root, environment, python_path=python_path)

    def __enter__(self) -> Self:
        self._start()
        wait_for(lambda: self.logged("working") == 1)
        return self


class Service(Process):
    """The service on loopback, on a free port unless *environment* has one.

    Another *module* can run in its place. With *authority*, a file with a CA's certificate, it
    speaks https.
    """

    def __init__(
        self,
        media_root: Path,
        environment: Mapping[str, str] | None = None,
        *,
        python_path: Path | None = None,
        keep_log: bool = True,
        module: Sequence[str] = ("scrapper",),
        python: Path = Path(sys.executable),
        authority: Path | None = None,
    ) -> None:
        super().__init__(
            module,
            media_root,
            environment,
            python_path=python_path,
            keep_log=keep_log,
            python=python,
        )
        self.headers: dict[str, str] = {}
        self._authority = authority

    def __enter__(self) -> Self:
        port = int(self.environment.get("PORT") or free_port())
        self.url = f"{'https' if self._authority else 'http'}://127.0.0.1:{port}"
        self._start(PORT=str(port))
        verify = str(self._authority) if self._authority else True
        wait_for_answer(self.url + "/health", verify=verify)
        # HTTPS_PROXY is for the service, not for requests to it.
        self._session = requests.Session()
        self._session.trust_env, self._session.verify = False, verify
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._session.close()

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


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(holds: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until *holds* returns true, for at most *seconds*."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_answer(
    url: str, *, seconds: float = PATIENCE_SECONDS, verify: str | bool = True
) -> None:
    """Wait until a server answers at *url*, with whatever status, for at most *seconds*."""
    end = time.monotonic() + seconds
    with requests.Session() as session:
        session.trust_env, session.verify = False, verify
        while True:
            try:
                session.get(url, timeout=PATIENCE_SECONDS, headers={"Connection": "close"})
            except requests.ConnectionError:
                assert time.monotonic() < end, f"{url} does not answer"
                time.sleep(0.02)
            else:
                return
