"""Tampers with the files and the clock of a running service, and records what its plugins see."""

import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.process import Service

__all__ = ["NOTING", "PLUGIN", "Clock", "Notes", "tamper"]

PLUGIN = "soak_notes"
_ROOT = Path(__file__).resolve().parents[1]
_SECONDS_TO_NOTICE = 1.0
_SECONDS_TO_CATCH_UP = 60
# Python imports this module at startup. It does not change the times of files, so it looks as if
# the clock had jumped just now.
_SITECUSTOMIZE = """
import os, threading, time
offset, path, real, real_ns = 0.0, os.environ.get("SOAK_CLOCK"), time.time, time.time_ns

def follow():
    global offset
    while True:
        try:
            with open(path) as file:
                offset = float(file.read() or 0)
        except (OSError, ValueError):
            pass
        time.sleep(0.1)

if path:
    time.time = lambda: real() + offset
    time.time_ns = lambda: real_ns() + int(offset * 1e9)
    threading.Thread(target=follow, daemon=True).start()
"""
NOTING = """
import os
from scrapper.plugins.hooks import hookimpl

def note(*words):
    with open(os.environ["NOTED"], "a") as file:
        file.write(" ".join(words) + "\\n")

@hookimpl
def post_stored(post):
    note("stored", post.shortcode)

@hookimpl
def post_removed(shortcode):
    note("removed", shortcode)

@hookimpl
def job_finished(job):
    note("job", job.id, *(post.state for post in job.posts))
"""
"""A plugin that appends each call to the file ``NOTED``."""


def tamper(state: Path, turn: int, spared: Iterable[str] = ()) -> list[str]:
    """Remove each file in *state* except those *spared*, and replace one of them with a FIFO.

    *turn* decides which one is replaced. Return the names of the removed files.
    """
    names = sorted(
        path.name
        for path in state.glob("*")
        if path.is_file() and path.name not in spared and ".damaged-" not in path.name
    )
    for index, name in enumerate(names):
        # The service may have removed the file itself.
        with suppress(OSError):
            (state / name).unlink()
            if index == turn % len(names):
                os.mkfifo(state / name)
        time.sleep(_SECONDS_TO_NOTICE)
    return names


class Clock:
    """An adjustable wall clock for services that run with :attr:`environment`."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "clock"
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self.environment = {
            "SOAK_CLOCK": str(self._offset),
            "PYTHONPATH": os.pathsep.join(map(str, (_ROOT, folder))),
        }
        self.move(0)

    def move(self, seconds: float) -> None:
        """Set the clock *seconds* ahead of the real time, and wait until services notice."""
        self._offset.write_text(str(seconds))
        time.sleep(_SECONDS_TO_NOTICE)


class Notes:
    """The calls of the plugin :data:`PLUGIN` in services that run with :attr:`environment`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "notes"
        self._path.touch()
        self._calls: Counter[str] = Counter()
        (folder / f"{PLUGIN}.py").write_text(NOTING)
        self.environment = {"PLUGINS": PLUGIN, "NOTED": str(self._path)}

    def unaccounted(self, service: Service, root: Path, jobs: Iterable[str]) -> list[str]:
        """Return the events of posts under *root* and of finished *jobs* that the plugin missed.

        No post may be stored or removed while this method runs.
        """
        behind = f'plugin_behind{{plugin="{PLUGIN}"}} 0.0'
        for _ in range(2 * _SECONDS_TO_CATCH_UP):
            if behind in service.get("/metrics").text:
                break
            time.sleep(0.5)
        last, ended = dict[str, str](), set[str]()
        words = [line.split() for line in self._path.read_text().splitlines()]
        for event, name, *_ in words:
            if event == "job":
                ended.add(name)
            else:
                last[name] = event
        self._calls = Counter(event for event, *_ in words)
        stored = {path.parent.name for path in root.glob("[!.]*/post.json")}
        known = {shortcode for shortcode, event in last.items() if event == "stored"}
        return [
            *(f"stored {shortcode}" for shortcode in sorted(stored - known)),
            *(f"removed {shortcode}" for shortcode in sorted(known - stored)),
            *(f"job {job}" for job in sorted(set(jobs) - ended)),
        ]

    def counts(self) -> dict[str, int]:
        """Return the number of calls for each event, as of the last :meth:`unaccounted`."""
        return dict(self._calls)
