"""What the tests of handlers share."""

from tests.browser.opening import browse

__all__ = ["browse"]
