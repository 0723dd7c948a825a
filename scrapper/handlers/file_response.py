"""A file of which a client may ask for a part."""

import asyncio
import math
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

__all__ = ["RangedFile", "wants_part"]

_ONE_RANGE = re.compile(r"bytes=[^,]*", re.IGNORECASE)


class RangedFile(web.FileResponse):
    """The file at *path*, or the part of it that the request wants.

    aiohttp 3.14 knows ``If-Range`` with a date alone, and refuses ranges that it does not know.
    """

    def __init__(self, path: Path, *, headers: Mapping[str, str]) -> None:
        super().__init__(path, headers=headers)
        self._file = path

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if hdrs.RANGE in request.headers and not await self._counts(request):
            headers = request.headers.copy()
            del headers[hdrs.RANGE]
            request = request.clone(headers=headers)
        return await super().prepare(request)

    async def _counts(self, request: web.BaseRequest) -> bool:
        """Whether the request's ``Range`` counts."""
        try:
            status = await asyncio.to_thread(os.stat, self._file)
        except OSError:
            # What there is to say of it, aiohttp says.
            return True
        # The ETag is the one that aiohttp gives.
        etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
        is_get = request.method == hdrs.METH_GET
        return is_get and wants_part(request.headers, request.if_range, etag, status.st_mtime)


def wants_part(
    headers: Mapping[str, str], date: datetime | None, etag: str, modified: float
) -> bool:
    """Whether ``Range`` counts for a file with this *etag*, *modified* at a unix time.

    *date* is the one in ``If-Range``, if there is one. A range of an unknown unit, several ranges,
    and a range of another version of the file do not count (RFC 9110, sections 13.1.5 and 14.2).
    """
    if _ONE_RANGE.fullmatch(headers.get(hdrs.RANGE, "")) is None:
        return False
    expected = headers.get(hdrs.IF_RANGE)
    if expected is None or expected.strip() == f'"{etag}"':
        return True
    # Last-Modified is rounded up.
    return date is not None and date.timestamp() == math.ceil(modified)
