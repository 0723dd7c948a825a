"""Identifies the sender of a request."""

from aiohttp import web

from scrapper.access.keys import Key
from scrapper.handlers.resources import PROXY, SESSIONS

__all__ = ["owner_of", "sender_of"]


async def sender_of(request: web.Request, *, recheck: bool = False) -> Key | str | None:
    """Return the key of *request*, or the name of the user whom a proxy signed in, or else None.

    If *recheck* is true, a session that was already checked is checked again.
    """
    key = await request.app[SESSIONS].key_for(request, recheck=recheck)
    return key or request.app[PROXY].name_of(request)


async def owner_of(request: web.Request) -> str | None:
    """Return the owner of the jobs that *request* may see and change; None means all jobs.

    The owner is the name of the client's key, or of the user whom a proxy signed in.
    """
    sender = await sender_of(request)
    return sender.owner if isinstance(sender, Key) else sender
