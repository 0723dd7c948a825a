"""aiohttp middlewares that work in any application.

Each module has one public factory. None knows the service it protects, or another middleware.
"""
