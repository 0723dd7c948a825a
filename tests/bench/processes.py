"""Starts and stops the measured processes, and reads their CPU time and memory."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.process import MALLOC, Service, free_port, wait_for_answer

__all__ = [
    "InstagramProcess",
    "bare",
    "cpu_seconds",
    "flask",
    "memory_mb",
    "service",
    "shared_memory_mb",
    "streaming",
]

# The service's limits must not affect the measurements.
_UNLIMITED = {
    "API_KEY": "key",
    "RATE_LIMIT_MAX_REQUESTS": "1000000000",
    "INSTAGRAM_MAX_QUERIES": "0",
    "SCRAPE_TIMEOUT_SECONDS": "600",
}


class InstagramProcess:
    """The stand-in for Instagram in a separate process."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.instagram", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environment: dict[str, str] = self._read()

    def __enter__(self) -> "InstagramProcess":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def counters(self, command: str = "counters") -> dict[str, int]:
        """Send *command*; return the counts of requests and connections since ``reset``."""
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        counters: dict[str, int] = self._read()
        return counters

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


@contextmanager
def service(
    media_root: Path,
    environment: Mapping[str, str],
    *,
    without: str = "",
    malloc: bool = True,
    python_path: Path | None = None,
) -> Iterator[Service]:
    """Run the service with all middlewares, while another process reads its log from a pipe.

    *without* names an optimisation that :mod:`tests.bench.without` disables. If *malloc* is false,
    malloc has glibc's default settings.
    """
    module = ("tests.bench.without", without) if without else ("scrapper",)
    started = Service(
        media_root,
        {**_UNLIMITED, **environment},
        keep_log=False,
        module=module,
        python_path=python_path,
    )
    started.headers["X-API-Key"] = "key"
    for name in () if malloc else MALLOC:
        del started.environment[name]
    with started:
        yield started


@contextmanager
def bare(file: Path) -> Iterator[tuple[str, int]]:
    """Run the bare aiohttp server, and yield its URL and process ID."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.peers.bare", str(port), str(file)]
    with _running(command, dict(os.environ), f"http://127.0.0.1:{port}", "/file") as pid:
        yield f"http://127.0.0.1:{port}", pid


@contextmanager
def flask(
    media_root: Path, environment: Mapping[str, str], workers: int
) -> Iterator[tuple[str, int]]:
    """Run Flask and Instaloader under gunicorn; yield the URL and the parent's process ID."""
    port = free_port()
    media_root.mkdir(parents=True, exist_ok=True)
    gunicorn = shutil.which("gunicorn", path=str(Path(sys.executable).parent))
    assert gunicorn, "gunicorn is not installed"
    command = [gunicorn, "--workers", str(workers), "--timeout", "600", "--log-level", "error"]
    command += ["--bind", f"127.0.0.1:{port}", "tests.bench.peers.flask_app:app"]
    environment = {**os.environ, **environment, "MEDIA_ROOT": str(media_root)}
    with _running(command, environment, f"http://127.0.0.1:{port}", "/health") as pid:
        yield f"http://127.0.0.1:{port}", pid


@contextmanager
def streaming(environment: Mapping[str, str]) -> Iterator[str]:
    """Run the downloader that stores nothing, and yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.peers.streaming", str(port)]
    with _running(command, {**os.environ, **environment}, f"http://127.0.0.1:{port}", "/health"):
        yield f"http://127.0.0.1:{port}"


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far, in seconds."""
    # The clock ID of clock_getcpuclockid(3). psutil has a resolution of only 10 ms.
    return time.clock_gettime(~pid << 3 | 2)


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process, in millions of bytes."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def shared_memory_mb(pid: int) -> float:
    """Return the proportional set size (PSS) of a process and its children, in million bytes."""
    parent = psutil.Process(pid)
    processes = (parent, *parent.children(recursive=True))
    return sum(float(process.memory_full_info().pss) for process in processes) / 1e6


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], url: str, path: str
) -> Iterator[int]:
    process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE)
    # Another process reads the output, as with the service.
    reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    try:
        wait_for_answer(url + path)
        yield process.pid
    finally:
        process.terminate()
        process.wait()
        assert process.stdout
        process.stdout.close()
        reader.wait()
