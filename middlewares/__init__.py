"""aiohttp middlewares that know nothing of the service they stand in front of.

A module a middleware, a factory a module; each can be taken into any aiohttp application.
"""
