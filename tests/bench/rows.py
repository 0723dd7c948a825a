"""The rows of the table: what is measured, what it is compared with, and the goal.

A ratio compares only figures from the same run. Both sides are measured in turn (A B A B). A ratio
is the ratio of the two medians. Its range shows the lowest and highest ratios of single rounds.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import requests

from tests.bench.load import post_at_once, post_each, wrk
from tests.bench.parts import PARTS, seconds_of
from tests.bench.processes import (
    InstagramProcess,
    bare,
    cpu_seconds,
    flask,
    memory_mb,
    service,
    shared_memory_mb,
)
from tests.bench.table import (
    KEY,
    LATENCY,
    POSTS,
    REEL_BYTES,
    ROUNDS,
    Row,
    codes,
    fill,
    in_background,
    milliseconds,
    multiply,
    ratio,
    scratch,
    url_of,
)
from tests.bench.without import (
    CATALOGUE,
    INDEX,
    LIMITS,
    OF_A_FETCH,
    OF_A_RESPONSE,
    SCRIPTS,
)
from tests.process import Service, wait_for
from tests.redis_server import RedisServer

__all__ = ["ROWS", "Seconds", "seconds_per_post", "settle"]

_BIG_BYTES = 100_000_000
_FEW_THREADS = 2
_MANY = 50_000
# After this time, 200 simultaneous requests have been accepted, and the downloads have begun.
_BURST_SECONDS = 2.0
_VARIANTS: dict[str, dict[str, str]] = {
    "all": {},
    "without log lines": {"LOG_LEVEL": "warning"},
    "without rate limit": {"RATE_LIMIT_MAX_REQUESTS": "0"},
}


def stored_post() -> Iterator[Row]:
    """Compare a stored post through all middlewares with a bare handler and with Flask.

    Also measure it with parts of the service disabled, to show the cost of each.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instagram = stack.enter_context(InstagramProcess())
        environment = instagram.environment
        running = {
            what: stack.enter_context(service(folder / what, {**environment, **settings}))
            for what, settings in _VARIANTS.items()
        }
        answer = folder / "answer.json"
        for process in running.values():
            answer.write_bytes(process.scrape(url_of("reel-stored")).content)
        urls = {what: process.url for what, process in running.items()}
        pids = {what: process.pid for what, process in running.items()}
        urls["bare"], pids["bare"] = stack.enter_context(bare(answer))
        rates: dict[str, list[float]] = {what: [] for what in (*urls, "flask", "flask health")}
        cpu: dict[str, list[float]] = {what: [] for what in urls}
        body = json.dumps({"url": url_of("reel-stored")})
        for _ in range(ROUNDS):
            for what, url in urls.items():
                before = cpu_seconds(pids[what])
                run = wrk(f"{url}/scrape", connections=64, seconds=2, body=body, key=KEY)
                rates[what].append(run.rate)
                cpu[what].append((cpu_seconds(pids[what]) - before) / run.requests * 1000)
        for process in running.values():
            process.terminate()
        for turn in range(ROUNDS):
            # Each round starts Flask anew: Instaloader sleeps for minutes after 200 queries.
            with flask(folder / f"flask{turn}", environment, 4) as (url, _):
                rates["flask health"].append(wrk(f"{url}/health", connections=64, seconds=2).rate)
                post_each(url, shortcodes=["reel-stored"], clients=1)
                started = time.perf_counter()
                post_each(url, shortcodes=["reel-stored"] * 100, clients=8)
                rates["flask"].append(100 / (time.perf_counter() - started))
    yield ratio("stored post: rate vs Flask", rates["all"], rates["flask"], least=4)
    yield ratio("… vs Flask's /health, 4 workers", rates["all"], rates["flask health"])
    yield ratio("… vs bare aiohttp", rates["all"], rates["bare"])
    yield Row("stored post: responses a second", f"{median(rates['all']):.0f}", "", None)
    yield Row(
        "stored post: CPU seconds for 1,000 responses",
        f"{median(cpu['all']):.2f} (bare aiohttp {median(cpu['bare']):.2f})",
        "",
        None,
    )
    for what in tuple(_VARIANTS)[1:]:
        yield ratio(f"… {what}: CPU vs the full service", cpu[what], cpu["all"])


def optimisations() -> Iterator[Row]:
    """Measure the CPU for a stored post with each optimisation disabled.

    The index is measured with one client, because concurrent clients share one disk lookup.
    """
    one: dict[str, list[float]] = {"": [], INDEX: []}
    cpu: dict[str, list[float]] = {what: [] for what in ("", *OF_A_RESPONSE)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instagram = stack.enter_context(InstagramProcess())
        running = {
            what: stack.enter_context(service(folder / what, instagram.environment, without=what))
            for what in dict.fromkeys((*one, *cpu))
        }
        for process in running.values():
            process.scrape(url_of("reel-stored"))
        body = json.dumps({"url": url_of("reel-stored")})
        # Many short rounds, because the differences are small compared with the noise.
        for _ in range(3 * ROUNDS):
            for what, used in cpu.items():
                process = running[what]
                before = cpu_seconds(process.pid)
                url = f"{process.url}/scrape"
                run = wrk(url, connections=64, seconds=1, body=body, key=KEY)
                used.append((cpu_seconds(process.pid) - before) / run.requests)
        for _ in range(ROUNDS):
            for what, rates in one.items():
                url = f"{running[what].url}/scrape"
                rates.append(wrk(url, connections=1, seconds=1, body=body, key=KEY).rate)
    yield ratio(f"stored post, one client: rate with vs without {INDEX}", *one.values())
    for what in OF_A_RESPONSE:
        yield ratio(
            f"stored post: CPU with {what} disabled vs the full service", cpu[what], cpu[""]
        )


def parts() -> Iterator[Row]:
    """Measure the parts of a response separately, and the share of its CPU that each saves."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instagram = stack.enter_context(InstagramProcess())
        running = stack.enter_context(service(folder, instagram.environment))
        running.scrape(url_of("reel-stored"))
        before = cpu_seconds(running.pid)
        body = json.dumps({"url": url_of("reel-stored")})
        run = wrk(f"{running.url}/scrape", connections=64, seconds=5, body=body, key=KEY)
        whole = (cpu_seconds(running.pid) - before) / run.requests
        manifest = json.loads((folder / "reel-stored/post.json").read_text())
    for what, pair_of in PARTS.items():
        times = list(seconds_of(pair_of(manifest, folder), 4 * ROUNDS))
        fast, slow = (median(column) for column in zip(*times, strict=True))
        single = [without / with_it for with_it, without in times]
        yield Row(
            f"{what}: time without vs with",
            f"{slow / fast:.1f} ({min(single):.1f} to {max(single):.1f}); "
            f"saves {(slow - fast) / whole:.1%} of a response's CPU",
            "",
            None,
        )


def new_posts() -> Iterator[Row]:
    """Compare the service with Flask: 200 different reels, 64 clients, and a latency of 200 ms.

    Also measure the service with one slot for a query and its downloads, instead of separate
    limits.
    """
    rates: dict[str, list[float]] = {what: [] for what in ("", LIMITS, "one", "four")}
    cpu, connections, queries = [], [], []
    with InstagramProcess("--latency", LATENCY, "--reel-bytes", str(REEL_BYTES)) as instagram:
        environment = instagram.environment
        for turn in range(ROUNDS):
            with scratch() as folder, service(folder, environment) as running:
                instagram.counters("reset")
                before = cpu_seconds(running.pid)
                rates[""].append(_new_posts_per_second(running.url, POSTS, turn))
                cpu.append((cpu_seconds(running.pid) - before) / POSTS)
                counted = instagram.counters()
                connections.append(counted["connections"])
                queries.append(counted["peak_queries"])
            with scratch() as folder, service(folder, environment, without=LIMITS) as running:
                rates[LIMITS].append(_new_posts_per_second(running.url, POSTS // 2, turn))
            # The slower peers get fewer posts, because only the rate counts.
            for peer, workers, posts in (("one", 1, 20), ("four", 4, 60)):
                with scratch() as folder, flask(folder, environment, workers) as (url, _):
                    rates[peer].append(_new_posts_per_second(url, posts, turn))
    yield ratio("new posts: rate vs Flask with 1 worker", rates[""], rates["one"], least=6)
    yield ratio("new posts: rate vs Flask with 4 workers", rates[""], rates["four"], least=1.5)
    yield ratio(f"… with {LIMITS} disabled: rate vs the full service", rates[LIMITS], rates[""])
    yield Row("… concurrent queries, at most", str(max(queries)), "≤ 8", max(queries) <= 8)
    yield Row("… CPU seconds per post", f"{median(cpu):.4f}", "", None)
    yield Row(
        "… TLS connections for 200",
        str(max(connections)),
        "≤ 16 (8 for queries, 8 for files)",
        max(connections) <= 16,
    )


def fetches() -> Iterator[Row]:
    """Compare a fetch without the server with simpler programs, and without its optimisations."""
    simpler = {
        "a plain loop": ["peers.loop"],
        "Instaloader alone, over persistent connections": ["peers.bare_instaloader"],
    }
    cpu: dict[str, list[float]] = {what: [] for what in (*simpler, *OF_A_FETCH)}
    with InstagramProcess("--reel-bytes", str(REEL_BYTES)) as instagram:
        for turn in range(2 * ROUNDS):
            for what, seconds in cpu.items():
                how = simpler.get(what, ["without", what])
                found = codes(POSTS // 4, turn)
                seconds.append(seconds_per_post(how, found, instagram.environment).cpu)
    full = cpu.pop("nothing")
    for what, seconds in cpu.items():
        if what in simpler:
            yield ratio(f"a fetch: CPU vs {what}", full, seconds)
        else:
            yield ratio(f"a fetch: CPU with {what} disabled vs the full fetch", seconds, full)


def one_post_for_all() -> Iterator[Row]:
    """Compare a new post that 1,000 clients request at once with one for a single client."""
    slowest: list[float] = []
    alone: list[float] = []
    stored: list[float] = []
    limit: list[float] = []
    queries = 0
    arguments = ("--latency", LATENCY, "--reel-bytes", str(REEL_BYTES))
    with (
        tempfile.TemporaryDirectory() as name,
        InstagramProcess(*arguments) as instagram,
        service(Path(name), {**instagram.environment, "SCRAPE_CONCURRENCY": "1"}) as ours,
        bare(Path(__file__)) as (bare_url, _),
    ):
        post_at_once(ours.url, "reel-warm", clients=1, key=KEY)
        for turn in range(ROUNDS):
            alone.append(post_at_once(ours.url, f"reel-alone{turn}", clients=1, key=KEY))
            instagram.counters("reset")
            shortcode = f"reel-all{turn}"
            slowest.append(post_at_once(ours.url, shortcode, clients=1000, key=KEY))
            stored.append(post_at_once(ours.url, shortcode, clients=1000, key=KEY))
            limit.append(post_at_once(bare_url, shortcode, clients=1000))
            queries = max(queries, instagram.counters()["graphql"])
    yield Row("1,000 clients, one new post: fetches", str(queries), "1", queries == 1)
    yield ratio(
        "1,000 clients, one new post: slowest response vs the fetch alone", slowest, alone, most=1.5
    )
    yield milliseconds("… the slowest response itself", slowest)
    yield ratio("… when the post is stored", stored, alone)
    yield ratio("… when bare aiohttp answers", limit, alone)


def health() -> Iterator[Row]:
    """Compare /health while all threads work and 200 posts wait with /health of an idle service.

    There are three cases: a CDN that sends 1 MB/s, as over a network; a CDN at the speed of
    loopback, where the threads and the stand-in use both cores; and pages of 1 MB. A bare server,
    measured right after the service, shows how much of the delay is due to the machine.
    """
    cases = {
        "busy at 1 MB/s per download": "slow",
        "busy at loopback's speed": "reel",
        "8 threads read pages of 1 MB": "pagereel",
    }
    p99: dict[str, list[float]] = {what: [] for what in cases}
    beside: dict[str, list[float]] = {what: [] for what in cases}
    idle: list[float] = []
    arguments = ("--latency", LATENCY, "--reel-bytes", str(REEL_BYTES))
    with InstagramProcess(*arguments) as instagram, bare(Path(__file__)) as (peer, _):
        for turn in range(ROUNDS):
            for what, kind in cases.items():
                shortcodes = [f"{kind}-{turn}-{number}" for number in range(POSTS + 8)]
                with scratch() as folder, service(folder, instagram.environment) as ours:
                    if len(idle) == turn:
                        idle.append(_health_p99(ours.url))
                    with in_background(partial(fill, ours, shortcodes)):
                        time.sleep(_BURST_SECONDS)
                        p99[what].append(_health_p99(ours.url))
                        beside[what].append(_health_p99(peer))
                        ours.kill()
    for what, peers in beside.items():
        yield ratio(f"/health p99: {what} vs idle", p99[what], idle, most=3)
        yield milliseconds("… itself", p99[what])
        yield ratio("… of bare aiohttp right after, in the same burst, vs idle", peers, idle)
    yield milliseconds("/health p99 when idle", idle)


def _new_posts_per_second(url: str, posts: int, turn: int) -> float:
    return posts / post_each(url, shortcodes=codes(posts, turn), clients=64, key=KEY)


def _health_p99(url: str) -> float:
    return wrk(f"{url}/health", connections=1, seconds=1).p99


def imports() -> Iterator[Row]:
    """Measure the memory that each import takes, and the memory that omitted imports save."""
    names = tuple(_IMPORTS)
    before = 0.0
    for name, now in zip(names, _memory_after(*names, left_out=_LEFT_OUT), strict=True):
        yield Row(f"memory: {name}, {_IMPORTS[name]}", f"{now - before:.1f} MB", "", None)
        before = now
    for module in _LEFT_OUT:
        others = tuple(other for other in _LEFT_OUT if other != module)
        [*_, more] = _memory_after(*names, left_out=others)
        yield Row(f"memory saved by not importing {module}", f"{more - before:.1f} MB", "", None)


def memory() -> Iterator[Row]:
    """Measure memory when idle, while eight large videos arrive, and after 10,000 responses."""
    with (
        tempfile.TemporaryDirectory() as name,
        InstagramProcess("--reel-bytes", str(_BIG_BYTES)) as instagram,
        service(Path(name) / "ours", instagram.environment) as ours,
        flask(Path(name) / "flask", instagram.environment, 1) as (flask_url, flask_pid),
    ):
        for url in (ours.url, flask_url):
            requests.get(f"{url}/health", timeout=10)
        idle = memory_mb(ours.pid)
        yield Row("memory when idle", f"{idle:.1f} MB", "", None)
        yield ratio(
            "… vs Flask with 1 worker (PSS)",
            [shared_memory_mb(ours.pid)],
            [shared_memory_mb(flask_pid)],
            most=_IDLE_TO_FLASK,
        )
        with _sampling(ours.pid) as samples:
            post_each(ours.url, shortcodes=codes(8, 0), clients=8, key=KEY)
        more = max(samples) - idle
        yield Row(
            "memory while 8 videos of 100 MB arrive", f"idle + {more:.1f} MB", "+ 24", more <= 24
        )
        body, growth = json.dumps({"url": url_of("reel-0-0")}), []
        for _ in range(3):
            answered = 0
            while answered < 10_000:
                answered += wrk(
                    f"{ours.url}/scrape", connections=64, seconds=2, body=body, key=KEY
                ).requests
            growth.append(memory_mb(ours.pid))
        yield Row(
            "memory after each of 3 runs of at least 10,000 responses",
            ", ".join(f"{value:.1f}" for value in growth) + " MB",
            "no growth",
            growth[2] - growth[0] < 1,
        )


def start() -> Iterator[Row]:
    """Compare the time from the command to the first /health with that of the imports alone."""
    ours: list[float] = []
    libraries: list[float] = []
    with tempfile.TemporaryDirectory() as name, InstagramProcess() as instagram:
        with service(Path(name), instagram.environment) as seed:
            seed.scrape(url_of("reel-seed"))
        multiply(Path(name), _MANY)
        with service(Path(name), {}) as first:
            # The catalogue is built once.
            first.get("/posts?q=nothing")
        for _ in range(2 * ROUNDS):
            started = time.perf_counter()
            with service(Path(name), {}) as running:
                requests.get(f"{running.url}/health", timeout=10)
                ours.append(time.perf_counter() - started)
            libraries.append(_import_seconds(_LIBRARIES, left_out=_LEFT_OUT))
    yield ratio(
        "start to first /health, 50,000 posts stored, vs importing the libraries alone",
        ours,
        libraries,
        most=1.4,
    )
    yield milliseconds("… the start itself", ours)


def media() -> Iterator[Row]:
    """Compare a file of 100 MB for 8 clients with a bare FileResponse."""
    ours, limit = [], []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instagram = stack.enter_context(InstagramProcess("--reel-bytes", str(_BIG_BYTES)))
        running = stack.enter_context(service(folder, instagram.environment))
        running.scrape(url_of("reel-file"))
        bare_url, _ = stack.enter_context(bare(folder / "reel-file/reel-file.mp4"))
        path = "/media/reel-file/reel-file.mp4"
        for _ in range(ROUNDS):
            ours.append(wrk(running.url + path, connections=8, seconds=2, key=KEY).rate)
            limit.append(wrk(f"{bare_url}/file", connections=8, seconds=2).rate)
    yield ratio("/media of 100 MB, 8 clients: rate vs FileResponse", ours, limit, least=0.9)


def replicas() -> Iterator[Row]:
    """Measure new posts by 1, 2 and 4 replicas, and what Redis costs for a stored post.

    Each replica has few threads, which makes Instagram's latency the limit, not the cores.
    """
    rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
    stored: dict[str, list[float]] = {what: [] for what in ("with", "without", SCRIPTS)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(RedisServer(folder))
        instagram = stack.enter_context(InstagramProcess("--latency", LATENCY))
        few = {"REDIS_URL": redis.url, "SCRAPE_CONCURRENCY": str(_FEW_THREADS)}
        running = [
            stack.enter_context(service(folder / "media", {**instagram.environment, **few}))
            for _ in range(max(rates))
        ]
        urls = [process.url for process in running]
        # Warm up: a thread's first post opens its connections and reads the start page.
        warm = [f"reel-warm-{post}" for post in range(8 * len(urls))]
        post_each(*urls, shortcodes=warm, clients=len(warm), key=KEY)
        for turn in range(ROUNDS):
            for number, found in rates.items():
                shortcodes = [f"reel-{turn}-{number}-{post}" for post in range(40 * number)]
                clients = 2 * _FEW_THREADS * number
                seconds = post_each(*urls[:number], shortcodes=shortcodes, clients=clients, key=KEY)
                found.append(len(shortcodes) / seconds)
        without = stack.enter_context(service(folder / "alone", instagram.environment))
        without.scrape(url_of("reel-0-1-0"))
        rates_of = {"with": urls[0], "without": without.url}
        variant = service(folder / "media", {**instagram.environment, **few}, without=SCRIPTS)
        rates_of[SCRIPTS] = stack.enter_context(variant).url
        body = json.dumps({"url": url_of("reel-0-1-0")})
        for _ in range(ROUNDS):
            for what, url in rates_of.items():
                run = wrk(f"{url}/scrape", connections=64, seconds=2, body=body, key=KEY)
                stored[what].append(run.rate)
    for number in (2, 4):
        ours = [rate / number for rate in rates[number]]
        what = f"new posts by {number} replicas: rate of each vs 1 alone"
        yield ratio(what, ours, rates[1], least=0.9)
    yield ratio(
        "stored post: rate with Redis vs without", stored["with"], stored["without"], least=0.5
    )
    yield ratio(
        f"stored post with Redis: rate with vs without {SCRIPTS}", stored["with"], stored[SCRIPTS]
    )


def many_posts() -> Iterator[Row]:
    """Compare a listing of 50,000 posts with one of 12; measure it without the catalogue, too.

    Also measure the slowest /health during sweeps.
    """
    listings: dict[str, list[float]] = {"few": [], "many": []}
    one: dict[str, list[float]] = {"": [], CATALOGUE: []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instagram = stack.enter_context(InstagramProcess())
        seldom = {**instagram.environment, "MEDIA_CLEANUP_INTERVAL_SECONDS": "3600"}
        running = {}
        for what, posts in (("few", 12), ("many", _MANY)):
            with service(folder / what, instagram.environment) as seed:
                seed.scrape(url_of("reel-seed"))
            multiply(folder / what, posts)
            running[what] = stack.enter_context(service(folder / what, seldom))
            settle(running[what])
        for _ in range(ROUNDS):
            for what, times in listings.items():
                times.append(_seconds_per_listing(running[what]))
        running["many"].kill()
        for without, times in one.items():
            with service(folder / "many", seldom, without=without) as listing:
                settle(listing)
                times += [_seconds_per_listing(listing, clients=1) for _ in range(ROUNDS)]
        # One sweep per second, so that several happen during each run of wrk.
        often = {**instagram.environment, "MEDIA_CLEANUP_INTERVAL_SECONDS": "1"}
        with service(folder / "many", often) as sweeping:
            longest = max(
                wrk(f"{sweeping.url}/health", connections=1, seconds=4).slowest
                for _ in range(ROUNDS)
            )
    yield ratio(
        "GET /posts, the first 12 of 50,000: time vs with 12 stored",
        listings["many"],
        listings["few"],
        most=1.2,
    )
    yield ratio(
        f"GET /posts of 50,000 with {CATALOGUE} disabled, one client: time vs the full service",
        one[CATALOGUE],
        one[""],
    )
    yield Row(
        "slowest /health during sweeps of 50,000",
        f"{longest * 1000:.0f} ms",
        "≤ 50 ms",
        longest <= 0.05,
    )


def settle(running: Service) -> None:
    """Wait until the first sweep is over and all posts are in the catalogue."""
    running.get("/posts?q=nothing")
    swept = 'library_sweeps_total{outcome="ok"} 1.0'
    wait_for(lambda: swept in running.get("/metrics").text)


def _seconds_per_listing(running: Service, *, clients: int = 16) -> float:
    """Return the time per listing, as the inverse of the rate with *clients* clients."""
    url = f"{running.url}/posts?limit=12"
    return 1 / wrk(url, connections=clients, seconds=2, key=KEY).rate


ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    function.__name__: function
    for function in (
        stored_post,
        optimisations,
        parts,
        new_posts,
        fetches,
        one_post_for_all,
        health,
        imports,
        memory,
        start,
        media,
        many_posts,
        replicas,
    )
}

_LEFT_OUT = ("rich", "charset_normalizer")
_IMPORTS = {
    "sys": "Python itself, and the measurement",
    "argparse": "for the command line",
    "asyncio": "the event loop, with TLS",
    "aiohttp.web": "the server",
    "requests": "for Instaloader",
    "instaloader": "for Instagram's API",
    "structlog": "for log lines",
    "aiofiles.os": "for checks of the disk",
    "pydantic": "for validation, and the description of the API",
    "pydantic_settings": "for settings",
    "orjson": "for JSON",
    "prometheus_client": "for metrics",
    "pluggy": "for plugins",
    "sqlite3": "for jobs and the catalogue",
    "aiohttp_sse": "for streams of events",
    "zipstream": "for archives",
    "standardwebhooks": "for signatures",
    "scrapper.commands.serve": "the service's own modules",
}
"""The imports of an idle service in order, each with its purpose."""
# The ratio was 1.16 when the goal was set. The rest allows for noise.
_IDLE_TO_FLASK = 1.18
_LIBRARIES = "aiohttp.web, instaloader, structlog, aiofiles.os, pydantic_settings, orjson"


class Seconds(NamedTuple):
    """The CPU and wall-clock seconds of one post."""

    cpu: float
    wall: float


def seconds_per_post(how: list[str], shortcodes: list[str], environment: dict[str, str]) -> Seconds:
    """Return the seconds that a module of the benchmark takes per post, not counting startup."""
    module, *options = how
    with scratch() as folder:
        command = [sys.executable, "-m", f"tests.bench.{module}", *options]
        command += [str(folder), *shortcodes]
        environment = {**os.environ, **environment}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    # Log lines, if any, come first.
    *_, cpu, wall = done.stdout.split()
    return Seconds(float(cpu) / len(shortcodes), float(wall) / len(shortcodes))


def _import_seconds(modules: str, left_out: Sequence[str] = ()) -> float:
    command = [sys.executable, "-c", f"{_without(left_out)}import {modules}"]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def _memory_after(*modules: str, left_out: Sequence[str] = ()) -> list[float]:
    """Return the resident memory of a new process after each import of *modules*, in MB."""
    code = f"{_without(left_out)}import importlib, psutil\nfor name in {modules}:\n"
    code += " importlib.import_module(name)\n print(psutil.Process().memory_info().rss)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return [int(line) / 1e6 for line in done.stdout.split()]


def _without(modules: Sequence[str]) -> str:
    """Return Python code that hides optional *modules* from the libraries that import them."""
    if not modules:
        return ""
    return (
        "import sys, warnings; warnings.simplefilter('ignore'); "
        f"sys.modules.update(dict.fromkeys({list(modules)})); "
    )


@contextmanager
def _sampling(pid: int) -> Iterator[list[float]]:
    """Yield a list. During the block, the process's memory in MB is appended every 20 ms."""
    samples: list[float] = [memory_mb(pid)]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.02):
            samples.append(memory_mb(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
