"""What the tests of handlers share."""

from tests.browser import browse

__all__ = ["browse"]
