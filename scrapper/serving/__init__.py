"""Listeners, connections, the order of middlewares, and response headers."""
