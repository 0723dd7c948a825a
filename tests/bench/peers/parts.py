"""What the bare server and the one with the duties by hand have in common."""

from datetime import timedelta

from aiohttp import web
from pydantic import BaseModel
from throttled import per_duration
from throttled.asyncio import MemoryStore, RateLimiterType, Throttled

__all__ = ["LIMITER", "Body", "run"]

LIMITER = Throttled(
    using=RateLimiterType.GCRA.value,
    quota=per_duration(timedelta(seconds=60), 10**9, 10**9),
    store=MemoryStore(),
).limiter
"""One that never refuses: only its work is measured."""


class Body(BaseModel):
    """The body of ``POST /scrape``."""

    url: str


def run(app: web.Application, port: int) -> None:
    """Serve *app* on *port* of loopback."""
    web.run_app(app, host="127.0.0.1", port=port, backlog=1024, access_log=None, print=None)
