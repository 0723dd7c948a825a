"""What the bare server and the one with the duties by hand have in common."""

import time

from aiohttp import web
from pydantic import BaseModel

__all__ = ["SIZE", "Body", "run", "tokens_left"]

SIZE = 10**9
"""The tokens of a bucket that never refuses: only its work is measured."""
_TOKENS_A_SECOND = SIZE / 60
_buckets: dict[str, tuple[float, float]] = {}


def tokens_left(client: str) -> float:
    """Take a token of *client*'s bucket, and return how many are left; negative if it had none."""
    now = time.monotonic()
    tokens, at = _buckets.get(client, (SIZE, now))
    left = min(SIZE, tokens + (now - at) * _TOKENS_A_SECOND) - 1
    _buckets[client] = max(0.0, left), now
    return left


class Body(BaseModel):
    """The body of ``POST /scrape``."""

    url: str


def run(app: web.Application, port: int) -> None:
    """Serve *app* on *port* of loopback."""
    web.run_app(app, host="127.0.0.1", port=port, backlog=1024, access_log=None, print=None)
