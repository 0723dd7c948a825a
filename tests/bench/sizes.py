"""Rows about sizes: the cost of more stored posts, more clients and many events."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.bench.load import post_at_once, post_each, wrk
from tests.bench.processes import InstagramProcess, cpu_seconds, service
from tests.bench.rows import settle
from tests.bench.table import KEY, ROUNDS, Row, finish, multiply, ratio, url_of
from tests.bench.without import COLLECTIONS, READS
from tests.process import Service, wait_for

__all__ = ["ROWS"]

_SIZES = (100, 1_000, 10_000, 50_000)
_CLIENTS = (1, 64, 1_000, 4_000)
_JOBS, _POSTS_PER_JOB = (1, 5, 25), 20
_TURNS = 10
_RESPONSES = 4_000
_EVENTS = 1_000
_OWN_SECONDS = 0.01
_NOTING = """
import time
from scrapper.plugins import hookimpl

file = open({path!r}, "a", buffering=1)

@hookimpl
def post_stored(post):
    began_at = time.perf_counter()
    time.sleep({seconds})
    file.write(f"{{time.perf_counter() - began_at}}\\n")
"""


def posts() -> Iterator[Row]:
    """Measure a listing after a new post, a mark, and a stored post, for growing numbers of posts.

    The figures are CPU times of the service. The stored posts are chosen at random.
    """
    listings: dict[int, list[float]] = {}
    marks: dict[int, list[float]] = {}
    responses: dict[int, list[float]] = {}
    one: dict[int, list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instagram = stack.enter_context(InstagramProcess())
        seldom = {**instagram.environment, "MEDIA_CLEANUP_INTERVAL_SECONDS": "3600"}
        running = {}
        for size in _SIZES:
            root = folder / str(size)
            with service(root, seldom) as seed:
                seed.scrape(url_of("reel-seed"))
            multiply(root, size)
            running[size] = stack.enter_context(service(root, seldom))
            settle(running[size])
        for turn in range(_TURNS):
            for size, ours in running.items():
                shortcode = f"reel-new{turn}"
                ours.scrape(url_of(shortcode))
                listing = _cpu(ours, lambda it: it.get("/posts?limit=12"))
                listings.setdefault(size, []).append(listing)
                mark = partial(Service.put, path=f"/posts/{shortcode}/keep")
                marks.setdefault(size, []).append(_cpu(ours, mark))
        for _ in range(ROUNDS):
            for size, ours in running.items():
                responses.setdefault(size, []).append(
                    _cpu_per_response(ours, "copy-%d", numbers=size - 1)
                )
                one.setdefault(size, []).append(_cpu_per_response(ours, "reel-seed"))
        most = max(_SIZES)
        running[most].kill()
        with service(folder / str(most), seldom, without=READS) as other:
            settle(other)
            without = [_cpu_per_response(other, "copy-%d", numbers=most - 1) for _ in range(ROUNDS)]
    for size in _SIZES[1:]:
        few = _SIZES[0]
        goal = 2 if size == most else None
        yield ratio(
            f"GET /posts after a new post, {size:,} stored: CPU vs {few}",
            listings[size],
            listings[few],
            most=goal,
        )
        yield ratio(
            f"PUT …/keep, {size:,} stored: CPU vs {few}", marks[size], marks[few], most=goal
        )
    for size in _SIZES:
        yield ratio(
            f"stored post, a random one of {size:,}: CPU vs always the same",
            responses[size],
            one[size],
            most=2 if size == most else None,
        )
    yield ratio(f"… with {READS} disabled: CPU vs the full service", without, responses[most])


def clients() -> Iterator[Row]:
    """Measure the CPU of a response for a stored post with a growing number of connections."""
    times: dict[int, list[float]] = {number: [] for number in _CLIENTS}
    without: list[float] = []
    most = max(_CLIENTS)
    with (
        tempfile.TemporaryDirectory() as name,
        InstagramProcess() as instagram,
        ExitStack() as stack,
    ):
        environment = {**instagram.environment, "MAX_CONNECTIONS": "6000"}
        ours = stack.enter_context(service(Path(name) / "full", environment))
        others = service(Path(name) / "other", environment, without=COLLECTIONS)
        other = stack.enter_context(others)
        for running in (ours, other):
            running.scrape(url_of("reel-seed"))
        for _ in range(ROUNDS):
            for number, found in times.items():
                found.append(_cpu_with_clients(number, ours))
            without.append(_cpu_with_clients(most, other))
    for number in _CLIENTS[2:]:
        goal = 1.5 if number == most else None
        what = f"stored post, {number:,} connections: CPU vs 64"
        yield ratio(what, times[number], times[64], most=goal)
    yield ratio(f"… with {COLLECTIONS} disabled: CPU vs the full service", without, times[most])


def jobs() -> Iterator[Row]:
    """Measure the CPU of a post with a growing number of concurrent jobs in one process."""
    times: dict[int, list[float]] = {number: [] for number in _JOBS}
    with (
        tempfile.TemporaryDirectory() as name,
        InstagramProcess() as instagram,
        service(Path(name), instagram.environment) as ours,
    ):
        for turn in range(ROUNDS):
            for number, found in times.items():
                names = [f"{turn}-{number}-{job}" for job in range(number)]
                used = _cpu(ours, partial(_run_jobs, names=names))
                found.append(used / (number * _POSTS_PER_JOB))
    for number in _JOBS[1:]:
        goal = 1.2 if number == _JOBS[-1] else None
        what = f"posts of {number} concurrent jobs: CPU of each vs 1 job"
        yield ratio(what, times[number], times[1], most=goal)


def plugins() -> Iterator[Row]:
    """Measure how well a plugin keeps up with posts that are stored at full speed.

    The calls of one plugin take no time. Those of another plugin take some time.
    """
    seconds, meanwhile, *_ = _follow(0)
    yield Row(
        f"calls of a plugin while {_EVENTS / seconds:.0f} posts a second are stored",
        f"{meanwhile / seconds:.0f} a second",
        "≥ 50, or all",
        meanwhile / seconds >= min(50, 0.9 * _EVENTS / seconds),
    )
    *_, total, own = _follow(_OWN_SECONDS)
    yield ratio(
        f"1,000 posts at once, a plugin that takes {own / _EVENTS * 1000:.0f} ms for each: time "
        "until the last call vs the calls alone",
        [total],
        [own],
        most=2,
    )


def _follow(seconds: float) -> tuple[float, int, float, float]:
    """Store posts while a plugin takes *seconds* for each.

    Return the seconds until all posts were stored, the number of posts that the plugin had
    received by then, the seconds until it had received all, and the seconds that its calls took.
    """
    with tempfile.TemporaryDirectory() as name, InstagramProcess() as instagram:
        folder = Path(name)
        events = folder / "events"
        events.touch()
        (folder / "noting.py").write_text(_NOTING.format(path=str(events), seconds=seconds))
        environment = {**instagram.environment, "PLUGINS": "noting", "SCRAPE_CONCURRENCY": "16"}

        def seen() -> int:
            return events.read_text().count("\n")

        with service(folder / "media", environment, python_path=folder) as ours:
            started = time.perf_counter()
            shortcodes = [f"reel-{number}" for number in range(_EVENTS)]
            post_each(ours.url, shortcodes=shortcodes, clients=64, key=KEY)
            storing, meanwhile = time.perf_counter() - started, seen()
            wait_for(lambda: seen() == _EVENTS)
            total = time.perf_counter() - started
        return storing, meanwhile, total, sum(map(float, events.read_text().split()))


def _cpu(ours: Service, work: Callable[[Service], object]) -> float:
    before = cpu_seconds(ours.pid)
    work(ours)
    return cpu_seconds(ours.pid) - before


def _run_jobs(ours: Service, names: list[str]) -> None:
    made = []
    for name in names:
        urls = [url_of(f"reel-{name}-{number}") for number in range(_POSTS_PER_JOB)]
        made.append(ours.post("/jobs", {"urls": urls}).headers["Location"])
    finish(ours, *made)


def _cpu_per_response(ours: Service, shortcode: str, *, numbers: int = 0) -> float:
    """Return the CPU seconds of a response."""
    body, url = json.dumps({"url": url_of(shortcode)}), f"{ours.url}/scrape"
    before = cpu_seconds(ours.pid)
    run = wrk(url, connections=64, seconds=1, body=body, key=KEY, numbers=numbers)
    return (cpu_seconds(ours.pid) - before) / run.requests


def _cpu_with_clients(clients: int, ours: Service) -> float:
    """Return the CPU seconds of a response if *clients* connections send four requests or more."""
    number = max(_RESPONSES, 4 * clients)
    ask = partial(post_at_once, shortcode="reel-seed", clients=clients, key=KEY, requests=number)
    return _cpu(ours, lambda it: ask(it.url)) / number


ROWS = {"posts": posts, "clients": clients, "jobs": jobs, "plugins": plugins}
