"""``make bench`` prints the table, and puts it into ``tests/bench/RESULTS.md``.

What stands before and after the table there stays as it is.

``python -m tests.bench NAME...`` measures only the named groups, and writes no file.
"""

import os
import platform
import shutil
import sys
from pathlib import Path

from tests.bench import felt, growth, rows, sizes
from tests.bench.table import ROUNDS, Row

_RESULTS = Path(__file__).with_name("RESULTS.md")
_ROWS = {**rows.ROWS, **growth.ROWS, **sizes.ROWS, **felt.ROWS}
_BEFORE, _AFTER = "## The table", "## Reading it"
_MARKS = {True: "met", False: "**missed**", None: ""}


def main() -> int:
    if not all(map(shutil.which, ("wrk", "ab", "redis-server"))):
        print(
            "needs wrk, ab and Redis: on Debian, apt install wrk apache2-utils redis-server",
            file=sys.stderr,
        )
        return 1
    text = _RESULTS.read_text()
    if _BEFORE not in text or _AFTER not in text:
        print(f"needs the headings of {_RESULTS}", file=sys.stderr)
        return 1
    names = sys.argv[1:] or list(_ROWS)
    table = ["| what | measured | goal | |", "| --- | --- | --- | --- |"]
    print("\n".join(table))
    for name in names:
        for row in _ROWS[name]():
            table.append(_line(row))
            print(table[-1], flush=True)
    if not sys.argv[1:]:
        before, _, rest = text.partition(_BEFORE)
        after = rest.partition(_AFTER)[2]
        results = "\n".join([_about(), "", *table])
        _RESULTS.write_text(f"{before}{_BEFORE}\n\n{results}\n\n{_AFTER}{after}")
    return 0


def _line(row: Row) -> str:
    return f"| {row.what} | {row.measured} | {row.goal} | {_MARKS[row.met]} |"


def _about() -> str:
    return (
        f"Measured by `make bench` with Python {platform.python_version()} on {os.cpu_count()} "
        f"cores of {platform.machine()}, in one run. Most\nrows have {ROUNDS} rounds. Each round "
        "measures both sides of a comparison in turn. A ratio is that of the\ntwo medians; the "
        "lowest and highest ratios of single rounds follow in brackets."
    )


if __name__ == "__main__":
    sys.exit(main())
