"""aiohttp middlewares that work in any application.

Each module has one public factory. None depends on the service that it protects or on another
middleware. Some use :mod:`~middlewares.sending` to learn how a response was sent.
"""
