"""Accepts connections, arranges the middlewares, and sets response headers."""
