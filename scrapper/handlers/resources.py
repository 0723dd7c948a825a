"""What the handlers work with, under the keys by which the application keeps it."""

from aiohttp import web

from scrapper.jobs import Jobs
from scrapper.library import Library
from scrapper.metrics import Metrics
from scrapper.scraping import Scraper
from scrapper.settings import Settings

__all__ = ["JOBS", "LIBRARY", "METRICS", "SCRAPER", "SETTINGS"]

SETTINGS = web.AppKey("settings", Settings)
METRICS = web.AppKey("metrics", Metrics)
LIBRARY = web.AppKey("library", Library)
JOBS = web.AppKey("jobs", Jobs)
SCRAPER = web.AppKey("scraper", Scraper)
