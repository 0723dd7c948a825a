"""aiohttp middlewares that work in any application.

Each module has one public factory. None knows the service that it protects, or any other
middleware. :mod:`~middlewares.sending` is for those that want to know how a response was sent.
"""
