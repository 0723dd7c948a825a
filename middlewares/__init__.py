"""aiohttp middlewares that work in any application.

Each module has one public factory. No module depends on the service that it protects or on another
middleware, but some use :mod:`~middlewares.sending` to learn how a response was sent.
"""
