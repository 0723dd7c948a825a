"""Runs ffmpeg and ffprobe on untrusted files, within limits.

At most two programs run at once, at low priority. Each program can open only the files that it is
given. Its memory, output and time are bounded, and it does not outlive the service. This module
needs ffmpeg, and setpriv and prlimit from util-linux.
"""

import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FFmpeg", "FFmpegFailed", "missing_programs"]

_MAX_RUNNING = 2
_OUTPUT_BYTES, _ERROR_BYTES = 100_000, 10_000
_PIECE_BYTES = 64 * 1024
_PROGRAMS = (("ffmpeg", "ffprobe"), ("setpriv", "prlimit", "nice"))
_INPUT = ("-protocol_whitelist", "file", "-max_pixels", "40000000")
# Shared by the whole process, because a Raspberry Pi has four cores and little memory.
_slots = threading.BoundedSemaphore(_MAX_RUNNING)


class FFmpegFailed(Exception):
    """A program failed. The message is the program's own error output, if there is any."""


def missing_programs() -> list[str]:
    """Return the names of the required programs that are not installed.

    If ffmpeg or ffprobe is missing, the programs that limit them are not checked.
    """
    missing = ([name for name in names if shutil.which(name) is None] for names in _PROGRAMS)
    return next(filter(None, missing), [])


class FFmpeg:
    """Runs ffmpeg and ffprobe with at most *memory* bytes of memory each; thread-safe."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    @staticmethod
    def input(path: Path, *, delay: float = 0.0, form: str = "mov") -> Sequence[str]:
        """Return the input arguments for *path*; its timestamps are shifted by *delay* seconds.

        *form* is an ffmpeg demuxer, by default the one for MP4 and related formats. Naming the
        demuxer keeps ffmpeg from reading the file as a playlist that refers to other files.
        """
        late = ("-itsoffset", f"{delay:.6f}") if delay else ()
        return (*late, *_INPUT, "-f", form, "-i", str(path))

    def run(self, program: str, *arguments: str, seconds: float, max_bytes: int = 0) -> bytes:
        """Run *program* and return the first 100 kB of its output.

        Each file that *program* writes may have at most *max_bytes* bytes.

        Raises:
            FFmpegFailed: *program* fails or reaches one of its limits.
            TimeoutError: *program* takes more than *seconds* seconds, including the wait for a
                slot.
        """
        deadline = time.monotonic() + seconds
        if not _slots.acquire(timeout=max(0.0, seconds)):
            raise TimeoutError(f"{program} waited too long for a slot")
        try:
            return self._run(program, arguments, deadline, max_bytes)
        finally:
            _slots.release()

    def kill(self) -> None:
        """Kill the running programs."""
        with self._lock:
            for process in self._running:
                _kill(process)

    def _run(
        self, program: str, arguments: Sequence[str], deadline: float, max_bytes: int
    ) -> bytes:
        alloc = ("-max_alloc", str(self._memory))
        options = ("-hide_banner", "-loglevel", "error", *alloc)
        limits = (f"--data={self._memory}", f"--fsize={max_bytes}", "--core=0")
        # setpriv kills the program if the service is killed. nice lets requests take precedence.
        command = ("setpriv", "--pdeathsig", "KILL", "nice", "prlimit", *limits, program)
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell, and paths of our own
                [*command, *options, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            # There are too many processes, or the program was removed after the check.
            raise FFmpegFailed(f"{program} did not start: {error.strerror}") from error
        with self._lock:
            self._running.add(process)
        try:
            output, error_output = _communicate(process, deadline)
        finally:
            with self._lock:
                self._running.discard(process)
                _kill(process)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        if process.returncode != 0:
            text = error_output.decode(errors="replace").strip()
            raise FFmpegFailed(text or f"{program} exited with code {process.returncode}")
        return output


def _communicate(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """Return the beginning of the process's output and the end of its error output."""
    printed = {process.stdout: b"", process.stderr: b""}
    with selectors.DefaultSelector() as selector:
        for pipe in printed:
            selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type]
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the program took too long")
            for key, _ in selector.select(left):
                piece = os.read(key.fd, _PIECE_BYTES)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    printed[process.stdout] = (printed[process.stdout] + piece)[:_OUTPUT_BYTES]
                else:
                    printed[process.stderr] = (printed[process.stderr] + piece)[-_ERROR_BYTES:]
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError("the program took too long") from None
    return printed[process.stdout], printed[process.stderr]


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
