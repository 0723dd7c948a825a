"""An aiohttp service over Instaloader that downloads Instagram posts by URL."""

__version__ = "1.0.0"
