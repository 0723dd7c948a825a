"""What the handlers work with, under the keys by which the application keeps it."""

from aiohttp import web

from scrapper.library import Library
from scrapper.scraping import Scraper
from scrapper.settings import Settings

__all__ = ["LIBRARY", "SCRAPER", "SETTINGS"]

SETTINGS = web.AppKey("settings", Settings)
LIBRARY = web.AppKey("library", Library)
SCRAPER = web.AppKey("scraper", Scraper)
