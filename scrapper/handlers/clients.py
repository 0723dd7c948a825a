"""Identifies the sender of a request."""

from aiohttp import web

from scrapper.access.keys import Key
from scrapper.handlers.resources import PROXY, SESSIONS

__all__ = ["owner_of", "sender_of"]


async def sender_of(request: web.Request, *, recheck: bool = False) -> Key | str | None:
    """Return the key of *request*, or else the name of the user whom a proxy signed in, if any.

    The session of a request is checked only once, unless *recheck* is true.
    """
    key = await request.app[SESSIONS].key_for(request, recheck=recheck)
    return key or request.app[PROXY].name_of(request)


async def owner_of(request: web.Request) -> str | None:
    """Return the owner whose jobs the client may see and change, or None if it may access all.

    The owner is the name of the client's key, or of the user whom a proxy signed in.
    """
    sender = await sender_of(request)
    return sender.owner if isinstance(sender, Key) else sender
