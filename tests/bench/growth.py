"""Rows about growth: more workers, more concurrent queries, and the cost of each queued post."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from scrapper.replicas.queue import STREAM
from tests.bench.load import post_each, wrk
from tests.bench.processes import InstagramProcess, cpu_seconds, service, streaming
from tests.bench.table import (
    KEY,
    LATENCY,
    POSTS,
    REEL_BYTES,
    ROUNDS,
    Row,
    codes,
    finish,
    in_background,
    milliseconds,
    ratio,
    scratch,
    url_of,
)
from tests.process import Service, Worker, wait_for
from tests.redis_server import RedisServer

__all__ = ["ROWS"]

_FEW_THREADS = 2
_SLOTS = (8, 16, 32)
_STREAMING = "a peer that stores nothing"
_POSTS_PER_WORKER = 40
_JOBS, _POSTS_PER_JOB = 40, 25
_QUEUED = _JOBS * _POSTS_PER_JOB
_LONG_SECONDS = 600.0


class _Fleet(NamedTuple):
    """A Redis, a folder, and a replica that accepts jobs for the workers."""

    redis: RedisServer
    environment: dict[str, str]
    folder: Path
    replica: Service

    def figures(self) -> dict[str, float]:
        """Return what Redis has counted so far."""
        found: Any = self.redis.client.info()
        return {
            "commands": found["total_commands_processed"],
            "bytes": found["total_net_input_bytes"] + found["total_net_output_bytes"],
            "seconds": found["used_cpu_user"] + found["used_cpu_sys"],
        }

    def bytes_of(self, *keys: str) -> int:
        """Return how many bytes of Redis's memory the *keys* take."""
        redis: Any = self.redis.client
        return sum(redis.memory_usage(key, samples=0) or 0 for key in keys)

    @contextmanager
    def workers(self, number: int, **settings: str) -> Iterator[list[Worker]]:
        with ExitStack() as running:
            environment = {**self.environment, **settings}
            yield [running.enter_context(Worker(self.folder, environment)) for _ in range(number)]

    def submit(self, name: str, posts: int) -> str:
        urls = [url_of(f"reel-{name}-{number}") for number in range(posts)]
        answer = self.replica.post("/jobs", {"urls": urls})
        assert answer.status_code == 202, answer.text
        return f"/jobs/{answer.json()['id']}"

    def finish(self, *jobs: str) -> None:
        finish(self.replica, *jobs)


@contextmanager
def _fleet() -> Iterator[_Fleet]:
    with scratch() as folder, ExitStack() as running:
        redis = running.enter_context(RedisServer(folder))
        instagram = running.enter_context(InstagramProcess("--latency", LATENCY))
        # The service's limits must not affect the measurements.
        environment = {
            **instagram.environment,
            "REDIS_URL": redis.url,
            "INSTAGRAM_MAX_QUERIES": "0",
            "MAX_JOBS": str(10 * _JOBS),
        }
        replica = running.enter_context(service(folder / "media", environment))
        yield _Fleet(redis, environment, folder / "media", replica)


def workers() -> Iterator[Row]:
    """Measure posts of jobs with 1, 2 and 4 workers.

    Each worker has few threads, which makes Instagram's latency the limit, not the cores.
    """
    rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
    with _fleet() as fleet:
        for turn in range(ROUNDS):
            for number, found in rates.items():
                few = {"SCRAPE_CONCURRENCY": str(_FEW_THREADS)}
                with fleet.workers(number, **few):
                    name = f"{turn}-{number}"
                    # A worker's first query determines which source answers.
                    fleet.finish(fleet.submit(f"warm-{name}", 8 * number))
                    started = time.perf_counter()
                    jobs = [
                        fleet.submit(f"{name}-{one}", _POSTS_PER_WORKER) for one in range(number)
                    ]
                    fleet.finish(*jobs)
                    found.append(number * _POSTS_PER_WORKER / (time.perf_counter() - started))
    for number in (2, 4):
        ours = [rate / number for rate in rates[number]]
        yield ratio(
            f"posts of jobs by {number} workers: rate of each vs 1 alone", ours, rates[1], least=0.9
        )


def queued_posts() -> Iterator[Row]:
    """Measure the memory and rate of 1,000 queued posts of 40 jobs."""
    few: list[float] = []
    with _fleet() as fleet:
        started = time.perf_counter()
        jobs = [fleet.submit(f"queued-{job}", _POSTS_PER_JOB) for job in range(_JOBS)]
        submitting = time.perf_counter() - started
        keys = [f"scrapper:job:{job.removeprefix('/jobs/')}" for job in jobs]
        memory = fleet.bytes_of(STREAM, *keys) / _JOBS
        queued = fleet.figures()
        with fleet.workers(4) as running:
            started = time.perf_counter()
            fleet.finish(*jobs)
            many = _QUEUED / (time.perf_counter() - started)
            done = fleet.figures()
            cpu = sum(cpu_seconds(worker.pid) for worker in running) / _QUEUED
            for turn in range(ROUNDS):
                started = time.perf_counter()
                fleet.finish(fleet.submit(f"few-{turn}", _POSTS_PER_JOB))
                few.append(_POSTS_PER_JOB / (time.perf_counter() - started))
            empty = 'queue_posts{state="waiting"} 0.0'
            wait_for(lambda: empty in fleet.replica.get("/metrics").text, seconds=_LONG_SECONDS)
        per_post = {name: (done[name] - queued[name]) / _QUEUED for name in done}
        kept = fleet.bytes_of(*keys) / _JOBS
    yield ratio(
        "1,000 queued posts of 40 jobs, 4 workers: rate vs 25 posts of 1 job",
        [many] * ROUNDS,
        few,
    )
    yield Row("… posts a second, all processes on the same cores", f"{many:.0f}", "", None)
    yield Row("… CPU seconds of the workers per post", f"{cpu:.4f}", "", None)
    yield Row("… time to submit a job of 25 posts", f"{submitting / _JOBS * 1000:.1f} ms", "", None)
    yield Row("… memory of Redis per queued job of 25 posts", f"{memory / 1000:.1f} kB", "", None)
    yield Row("… memory of Redis per finished job of 25 posts", f"{kept / 1000:.1f} kB", "", None)
    yield Row("… commands of Redis per post", f"{per_post['commands']:.0f}", "", None)
    yield Row("… CPU of Redis per post", f"{per_post['seconds'] * 1e6:.0f} µs", "", None)
    yield Row("… bytes to and from Redis per post", f"{per_post['bytes'] / 1000:.1f} kB", "", None)


def queries() -> Iterator[Row]:
    """Measure new posts with more and more concurrent queries, and with a peer that stores nothing.

    A process's first query runs alone to determine which source answers. Each process therefore
    downloads some posts before it is measured.
    """
    rates: dict[str, list[float]] = {}
    p99: dict[str, list[float]] = {}
    arguments = ("--latency", LATENCY, "--reel-bytes", str(REEL_BYTES))

    def measure(what: str, url: str, turn: int) -> None:
        warm = [f"reel-warm-{turn}-{number}" for number in range(max(_SLOTS))]
        post_each(url, shortcodes=warm, clients=len(warm), key=KEY)

        def measure_health() -> None:
            p99.setdefault(what, []).append(wrk(f"{url}/health", connections=1, seconds=2).p99)

        with in_background(measure_health):
            seconds = post_each(url, shortcodes=codes(POSTS, turn), clients=64, key=KEY)
        rates.setdefault(what, []).append(POSTS / seconds)

    with InstagramProcess(*arguments) as instagram:
        for turn in range(ROUNDS):
            for slots in _SLOTS:
                settings = {**instagram.environment, "SCRAPE_CONCURRENCY": str(slots)}
                with scratch() as folder, service(folder, settings) as ours:
                    measure(str(slots), ours.url, turn)
            with streaming(instagram.environment) as url:
                measure(_STREAMING, url, turn)
    for slots in _SLOTS:
        found = rates[str(slots)]
        allowed = [slots / float(LATENCY)] * ROUNDS
        what = f"new posts, 64 clients, {slots} concurrent queries of 200 ms: rate vs the maximum"
        yield ratio(what, found, allowed, least=0.95 if slots == min(_SLOTS) else None)
        yield Row("… new posts a second", f"{median(found):.0f}", "", None)
        yield ratio(f"… rate vs {_STREAMING}", found, rates[_STREAMING])
        yield milliseconds("… /health p99 meanwhile", p99[str(slots)])
    yield milliseconds(f"… /health p99 of {_STREAMING}", p99[_STREAMING])


ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    function.__name__: function for function in (workers, queued_posts, queries)
}
