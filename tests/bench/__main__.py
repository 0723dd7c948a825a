"""Prints the table of results, and replaces the one in ``tests/bench/RESULTS.md``.

``make bench`` runs this. ``python -m tests.bench NAME...`` measures only the named groups of rows,
and writes no file.
"""

import os
import platform
import shutil
import sys
import sysconfig
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.bench import felt, growth, rows, sizes
from tests.bench.table import ROUNDS, Row

_RESULTS = Path(__file__).with_name("RESULTS.md")
_ROWS = {**rows.ROWS, **growth.ROWS, **sizes.ROWS, **felt.ROWS}
_BEFORE, _AFTER = "## The table", "## Reading it"
_MARKS = {True: "met", False: "**missed**", None: ""}


def main() -> int:
    if not all(map(shutil.which, ("wrk", "ab", "redis-server", "chromium"))):
        packages = "wrk apache2-utils redis-server chromium"
        print(
            f"needs wrk, ab, Redis and Chromium: on Debian, apt install {packages}", file=sys.stderr
        )
        return 1
    text = _RESULTS.read_text()
    if _BEFORE not in text or _AFTER not in text:
        print(f"needs the headings of {_RESULTS}", file=sys.stderr)
        return 1
    names = sys.argv[1:] or list(_ROWS)
    print(_python(), file=sys.stderr)
    table = ["| what | measured | goal | |", "| --- | --- | --- | --- |"]
    print("\n".join(table))
    started = time.monotonic()
    for name in names:
        began = time.monotonic()
        for row in _rows(name):
            table.append(_line(row))
            print(table[-1], flush=True)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if not sys.argv[1:]:
        before, _, rest = text.partition(_BEFORE)
        after = rest.partition(_AFTER)[2]
        about = _about(round((time.monotonic() - started) / 60))
        results = "\n".join([about, "", *table])
        _RESULTS.write_text(f"{before}{_BEFORE}\n\n{results}\n\n{_AFTER}{after}")
    return 0


def _rows(name: str) -> Iterator[Row]:
    try:
        yield from _ROWS[name]()
    # All groups together take 20 minutes, so an error must not waste the results of the others.
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        yield Row(f"the group {name}", "an error", "no error", met=False)


def _line(row: Row) -> str:
    return f"| {row.what} | {row.measured} | {row.goal} | {_MARKS[row.met]} |"


def _about(minutes: int) -> str:
    return (
        f"Measured by `make bench` in one run of {minutes} minutes, on {os.cpu_count()} cores of "
        f"{platform.machine()}, with\n{_python()}. Most rows have {ROUNDS} rounds. Each round "
        "measures both\nsides of a comparison in turn. A ratio is the ratio of the two medians. "
        "The lowest and highest ratios of\nsingle rounds follow in brackets."
    )


def _python() -> str:
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = "with" if "--enable-optimizations" in options else "without"
    return f"Python {platform.python_version()} (built {built} profile-guided optimisation)"


if __name__ == "__main__":
    sys.exit(main())
