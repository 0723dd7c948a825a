"""Prometheus metrics of scrapes, sweeps, limits and connections.

Labels never contain anything that a client sent. All label values are names defined in the code.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

import prometheus_client as prometheus

from scrapper import __version__
from scrapper.errors import ScrapeError

__all__ = ["Metrics"]

_INSTALOADER = version("instaloader")
_FETCH_BUCKETS = (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


class Metrics:
    """The metrics of the service and its process, in their own registry."""

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        self._counts: list[Callable[[], Awaitable[None]]] = []
        prometheus.ProcessCollector(registry=registry)
        prometheus.PlatformCollector(registry=registry)
        prometheus.GCCollector(registry=registry)
        build = prometheus.Info(
            "scrapper_build", "Versions of the service and of Instaloader", registry=registry
        )
        build.info({"version": __version__, "instaloader": _INSTALOADER})
        counter = partial(prometheus.Counter, registry=registry)
        gauge = partial(prometheus.Gauge, registry=registry)
        self.cache_hits = counter("scrape_cache_hits", "Scrapes answered from disk")
        self.flights_joined = counter(
            "scrape_flights_joined", "Scrapes that joined a download in progress"
        )
        self._fetches = prometheus.Histogram(
            "scrape_fetch_duration_seconds",
            "Duration of downloads, excluding the wait for a thread, by outcome: ok, or the error",
            ["outcome"],
            buckets=_FETCH_BUCKETS,
            registry=registry,
        )
        _create_series(self._fetches, "ok", "InstagramChanged", "RateLimited", "ChallengeRequired")
        self.instagram_requests = counter(
            "instagram_requests",
            "Requests for metadata, by source and outcome: ok, or the reason for the refusal",
            ["source", "outcome"],
        )
        self.instagram_pace = gauge(
            "instagram_pace_allowed",
            "Queries currently allowed in a window, by login",
            ["login"],
        )
        self.instagram_login = gauge(
            "instagram_login_state", "1 for the login's current state, 0 for the others", ["state"]
        )
        self.downloaded_bytes = counter("scrape_downloaded_bytes", "Bytes of media files received")
        self.queue_depth = gauge("scrape_queue_depth", "Posts waiting for a thread or a slot")
        self.busy_threads = gauge(
            "scrape_busy_threads", "Threads querying Instagram or downloading files"
        )
        self.cooldown_active = gauge(
            "scrape_cooldown_active", "1 during a cool-down after a limit, otherwise 0"
        )
        self.rejections = counter(
            "rate_limit_rejections",
            "Requests rejected because a bucket was empty, by bucket",
            ["bucket"],
        )
        _create_series(self.rejections, "work", "reads", "files")
        self.sweeps = counter(
            "library_sweeps",
            "Sweeps, by outcome: ok, failed, or skipped because the clock is not trusted",
            ["outcome"],
        )
        _create_series(self.sweeps, "ok", "failed", "skipped")
        self.webhooks = counter(
            "webhooks",
            "Attempts to deliver a webhook, by outcome: delivered, failed, or given_up",
            ["outcome"],
        )
        _create_series(self.webhooks, "delivered", "failed", "given_up")
        self.plugin_calls = counter(
            "plugin_calls",
            "Calls to plugins, by hook and outcome: ok, failed, or given_up",
            ["plugin", "hook", "outcome"],
        )
        self.plugin_behind = gauge(
            "plugin_behind", "Posts and jobs that a plugin has not received yet", ["plugin"]
        )
        self.swept_posts = counter("library_swept_posts", "Posts that sweeps removed")
        self.posts = gauge("library_posts", "Stored posts, as of the last sweep")
        self.bytes = gauge("library_bytes", "Bytes of stored posts, as of the last sweep")
        self.free_bytes = gauge(
            "library_disk_free_bytes", "Free bytes on the disk of the media folder"
        )
        self.connections = gauge("http_connections", "Open connections")
        self.connections_refused = counter(
            "http_connections_refused", "Connections refused because there were too many"
        )

    def before_reading(self, count: Callable[[], Awaitable[None]]) -> None:
        """Call *count* each time before the metrics are read."""
        self._counts.append(count)

    async def count(self) -> None:
        """Call the functions passed to :meth:`before_reading`."""
        for count in self._counts:
            await count()

    def count_instagram_request(self, source: str, outcome: str) -> None:
        """Count a request for metadata."""
        self.instagram_requests.labels(source, outcome).inc()

    def export_pace(self, allowed: Mapping[str, Callable[[], float]]) -> None:
        """Export how many queries each login may make.

        *allowed* maps each login to a function that returns this number.
        """
        for login, value in allowed.items():
            self.instagram_pace.labels(login).set_function(value)

    def export_login(self, current: Callable[[], str], states: Iterable[str]) -> None:
        """Export the state of the login.

        *current* returns the login's state, and *states* lists all possible states.
        """
        for state in states:
            is_current = partial(lambda one: float(current() == one), state)
            self.instagram_login.labels(state).set_function(is_current)

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Count and time the download inside the block, by outcome."""
        started, outcome = time.perf_counter(), "ok"
        try:
            yield
        except Exception as error:
            outcome = type(error).__name__ if isinstance(error, ScrapeError) else "error"
            raise
        finally:
            self._fetches.labels(outcome).observe(time.perf_counter() - started)


def _create_series(metric: prometheus.Counter | prometheus.Histogram, *values: str) -> None:
    """Create series with the value 0: if a series starts at 1, alerts miss the first event."""
    for value in values:
        metric.labels(value)
