"""Prometheus metrics of scrapes, sweeps, limits and connections.

No label holds anything that a client sends: all values are names from this code.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from scrapper import __version__
from scrapper.errors import ScrapeError

__all__ = ["Metrics"]

_INSTALOADER = version("instaloader")
# Those that alerts are about: a series that is born with its first event shows no increase.
_OUTCOMES = ("ok", "InstagramChanged", "RateLimited", "ChallengeRequired")
_FETCH_BUCKETS = (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


class Metrics:
    """The service's own metrics, in a registry of their own, with those of the process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        build = Info("scrapper_build", "The versions that run here", registry=registry)
        build.info({"version": __version__, "instaloader": _INSTALOADER})
        self.cache_hits = Counter(
            "scrape_cache_hits", "Scrapes answered from disk", registry=registry
        )
        self.flights_joined = Counter(
            "scrape_flights_joined",
            "Scrapes that joined a download already under way",
            registry=registry,
        )
        self._fetches = Histogram(
            "scrape_fetch_duration_seconds",
            "Downloads, without the wait for a thread; by outcome: ok, or the error",
            ["outcome"],
            buckets=_FETCH_BUCKETS,
            registry=registry,
        )
        for outcome in _OUTCOMES:
            self._fetches.labels(outcome)
        self.instagram_requests = Counter(
            "instagram_requests",
            "Requests for metadata, by source and outcome: ok, or the reason of the refusal",
            ["source", "outcome"],
            registry=registry,
        )
        self.instagram_pace = Gauge(
            "instagram_pace_allowed",
            "Queries that the learned pace allows in a window, by login state",
            ["login"],
            registry=registry,
        )
        self.instagram_login = Gauge(
            "instagram_login_state",
            "1 for the state of the login, 0 for the others",
            ["state"],
            registry=registry,
        )
        self.downloaded_bytes = Counter(
            "scrape_downloaded_bytes", "Bytes of media files received", registry=registry
        )
        self.queue_depth = Gauge(
            "scrape_queue_depth", "Posts that wait for a thread", registry=registry
        )
        self.busy_threads = Gauge(
            "scrape_busy_threads", "Threads that download a post", registry=registry
        )
        self.cooldown_active = Gauge(
            "scrape_cooldown_active",
            "1 while Instagram is left alone after a limit",
            registry=registry,
        )
        self.rejections = Counter(
            "rate_limit_rejections",
            "Requests refused because a bucket was empty, by bucket",
            ["bucket"],
            registry=registry,
        )
        for bucket in ("work", "reads"):
            self.rejections.labels(bucket)
        self.sweeps = Counter(
            "library_sweeps",
            "Sweeps, by outcome: ok, failed, or skipped: the clock is in doubt",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("ok", "failed", "skipped"):
            self.sweeps.labels(outcome)
        self.webhooks = Counter(
            "webhooks",
            "Attempts to deliver a webhook, by outcome: delivered, failed, or given_up",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("delivered", "failed", "given_up"):
            self.webhooks.labels(outcome)
        self.plugin_calls = Counter(
            "plugin_calls",
            "Calls of plugins, by hook and outcome: ok, failed, or given_up",
            ["plugin", "hook", "outcome"],
            registry=registry,
        )
        self.plugin_behind = Gauge(
            "plugin_behind",
            "Posts and jobs that a plugin is to be told of",
            ["plugin"],
            registry=registry,
        )
        self.swept_posts = Counter(
            "library_swept_posts", "Posts that sweeps removed", registry=registry
        )
        self.posts = Gauge("library_posts", "Stored posts, as of the last sweep", registry=registry)
        self.bytes = Gauge(
            "library_bytes", "Bytes of stored posts, as of the last sweep", registry=registry
        )
        self.free_bytes = Gauge(
            "library_disk_free_bytes",
            "Free bytes on the disk of the media folder",
            registry=registry,
        )
        self.connections = Gauge("http_connections", "Open connections", registry=registry)
        self.connections_refused = Counter(
            "http_connections_refused",
            "Connections refused because there were too many",
            registry=registry,
        )

    def count_instagram_request(self, source: str, outcome: str) -> None:
        """Count a request for metadata."""
        self.instagram_requests.labels(source, outcome).inc()

    def follow_pace(self, allowed: Mapping[str, Callable[[], float]]) -> None:
        """Export what the function of each login state in *allowed* returns."""
        for login, value in allowed.items():
            self.instagram_pace.labels(login).set_function(value)

    def follow_login(self, current: Callable[[], str], states: Iterable[str]) -> None:
        """Export the state of the login that *current* returns, one of *states*."""
        for state in states:
            value = self.instagram_login.labels(state)
            value.set_function(partial(_is, current, state))

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Count and time the download inside the block, by its outcome."""
        started, outcome = time.perf_counter(), "ok"
        try:
            yield
        except ScrapeError as error:
            outcome = type(error).__name__
            raise
        except Exception:
            outcome = "error"
            raise
        finally:
            self._fetches.labels(outcome).observe(time.perf_counter() - started)


def _is(current: Callable[[], str], state: str) -> float:
    return float(current() == state)
