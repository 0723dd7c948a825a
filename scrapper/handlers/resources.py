"""The application keys of the resources that handlers use."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from scrapper.access.keys import ApiKeys
from scrapper.access.proxy import ProxySignIn
from scrapper.access.sessions import Sessions
from scrapper.handlers.download_names import DownloadNames
from scrapper.handlers.event_feed import EventFeed
from scrapper.handlers.job_feeds import JobFeeds
from scrapper.handlers.stream_limit import StreamLimit
from scrapper.instagram.client import Instagram
from scrapper.jobs.engine import Jobs
from scrapper.jobs.webhooks import WebhookHosts
from scrapper.library.post import MediaItem, Post
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.scraping.scraper import Scraper
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

__all__ = [
    "API_KEYS",
    "CHECKS",
    "CONVERSIONS",
    "DOWNLOAD_NAMES",
    "EVENTS",
    "INSTAGRAM",
    "JOBS",
    "JOB_FEEDS",
    "LIBRARY",
    "MEDIA_ROOT",
    "METRICS",
    "PROXY",
    "SCRAPER",
    "SESSIONS",
    "SETTINGS",
    "STREAMS",
    "WEBHOOK_HOSTS",
]

API_KEYS = web.AppKey("api_keys", ApiKeys)
SETTINGS = web.AppKey("settings", Settings)
METRICS = web.AppKey("metrics", Metrics)
MEDIA_ROOT = web.AppKey("media_root", MediaRoot)
DOWNLOAD_NAMES = web.AppKey("download_names", DownloadNames)
LIBRARY = web.AppKey("library", Library)
INSTAGRAM = web.AppKey("instagram", Instagram)
JOBS = web.AppKey("jobs", Jobs)
JOB_FEEDS = web.AppKey("job_feeds", JobFeeds)
EVENTS = web.AppKey("events", EventFeed)
STREAMS = web.AppKey("streams", StreamLimit)
PROXY = web.AppKey("proxy", ProxySignIn)
SESSIONS = web.AppKey("sessions", Sessions)
WEBHOOK_HOSTS = web.AppKey("webhook_hosts", WebhookHosts)
SCRAPER = web.AppKey("scraper", Scraper)
Conversion = Callable[[Post, MediaItem], Awaitable[MediaItem]]
"""Converts an item of a stored post, or reuses an earlier result; returns the new item."""

CONVERSIONS: web.AppKey[dict[str, Conversion]] = web.AppKey("conversions")
"""The conversions that plugins offer, by query parameter."""

CHECKS: web.AppKey[Mapping[str, Callable[[], Awaitable[bool]]]] = web.AppKey("checks")
"""Additional checks for ``/ready``, by name."""
