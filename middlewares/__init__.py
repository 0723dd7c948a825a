"""aiohttp middlewares that work in any application.

Each module has one public factory. None knows the service that it protects, or any other
middleware. :mod:`~middlewares.sending` reports to middlewares how a response was sent.
"""
