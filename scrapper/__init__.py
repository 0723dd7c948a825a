"""An aiohttp service that downloads Instagram posts by URL, with Instaloader."""

__version__ = "1.0.0"
