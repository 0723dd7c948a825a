"""Who sent a request, as far as the service knows."""

from aiohttp import web

from scrapper.access.keys import Key
from scrapper.handlers.resources import PROXY, SESSIONS

__all__ = ["owner_of", "sender_of"]


async def sender_of(request: web.Request, *, anew: bool = False) -> Key | str | None:
    """The key of *request*, or the name of a person that a proxy signed in; None if unknown.

    With *anew*, a session that was checked before is checked again.
    """
    key = await request.app[SESSIONS].key_behind(request, anew=anew)
    return key or request.app[PROXY].name_of(request)


async def owner_of(request: web.Request) -> str | None:
    """Whose jobs the client of *request* sees and changes; None for everybody's.

    The owner is the name of the client's key, or of the person that a proxy signed in.
    """
    sender = await sender_of(request)
    return sender.owner if isinstance(sender, Key) else sender
