"""Files that belong to the service itself, each under a path of its own."""

from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from scrapper.handlers.versions import RangedFile
from scrapper.serving.base_path import BASE_PATH

__all__ = ["serve"]


def serve(files: Mapping[str, tuple[Path, str]], policy: str) -> Handler:
    """A handler that answers the *files*, by path: where they are, and their type.

    *policy* is their ``Content-Security-Policy``. Browsers ask each time whether a file changed.
    """

    async def handler(request: web.Request) -> RangedFile:
        path, content_type = files[request.app[BASE_PATH].own_path(request)]
        headers = {
            hdrs.CONTENT_TYPE: content_type,
            hdrs.CACHE_CONTROL: "no-cache",
            "Content-Security-Policy": policy,
        }
        return RangedFile(path, headers=headers)

    return handler
