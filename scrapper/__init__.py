"""One Instagram post, by URL, as a file: an aiohttp service over Instaloader."""

__version__ = "1.0.0"
