"""What the handlers work with, under the keys by which the application keeps it."""

from aiohttp import web

from scrapper.jobs import Jobs
from scrapper.library import Library
from scrapper.scraping import Scraper
from scrapper.settings import Settings

__all__ = ["JOBS", "LIBRARY", "SCRAPER", "SETTINGS"]

SETTINGS = web.AppKey("settings", Settings)
LIBRARY = web.AppKey("library", Library)
JOBS = web.AppKey("jobs", Jobs)
SCRAPER = web.AppKey("scraper", Scraper)
