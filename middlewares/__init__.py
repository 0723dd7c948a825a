"""aiohttp middlewares that work in any application.

Each module has one public factory. None knows the service it protects, or another middleware.
:mod:`~middlewares.sending` is for those that want to know how a response was sent.
"""
