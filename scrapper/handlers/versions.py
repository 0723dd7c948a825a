"""Conditional requests and range requests for files (RFC 9110)."""

import asyncio
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from aiohttp import ETag, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

__all__ = ["RangedFile", "Version"]

# Excludes the range of the last 0 bytes, for which aiohttp 3.14 returns 206 and the whole file.
_ONE_RANGE = re.compile(r"bytes=(?!\s*-0*$)[^,]*", re.IGNORECASE)

_CONDITIONS = (
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.IF_RANGE,
)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a file: its ``tag``, and the Unix time in seconds at which it was stored."""

    tag: str
    stored_at: int

    @property
    def headers(self) -> dict[str, str]:
        """The validators to send in a response: ``ETag`` and ``Last-Modified``."""
        modified = formatdate(self.stored_at, usegmt=True)
        return {hdrs.ETAG: f'"{self.tag}"', hdrs.LAST_MODIFIED: modified}

    def refusal(self, request: web.BaseRequest, headers: Mapping[str, str]) -> web.Response | None:
        """Evaluate the request's conditions (RFC 9110, section 13).

        Return a 412 response if the request requires another version, a 304 response with *headers*
        if the client already has this version, or None if the file must be sent.
        """
        if request.if_match is not None:
            failed = not self._is_in(request.if_match, weak=False)
        else:
            since = request.if_unmodified_since
            failed = since is not None and self.stored_at > since.timestamp()
        if failed:
            return web.Response(status=412)
        if request.if_none_match is not None:
            known = self._is_in(request.if_none_match, weak=True)
        else:
            since = request.if_modified_since
            known = since is not None and self.stored_at <= since.timestamp()
        return web.Response(status=304, headers={**headers, **self.headers}) if known else None

    def without_conditions(self, request: web.BaseRequest) -> web.BaseRequest:
        """Return *request* without its conditions, and without a range that must be ignored."""
        return _without(self.without_other_range(request), _CONDITIONS)

    def without_other_range(self, request: web.BaseRequest) -> web.BaseRequest:
        """Return *request* without a range that must be ignored (RFC 9110, 13.1.5 and 14.2).

        Ranges in unknown units, multiple ranges, and ranges of other versions are ignored.
        """
        if hdrs.RANGE not in request.headers or self._allows_range(request):
            return request
        return _without(request, (hdrs.RANGE,))

    def _allows_range(self, request: web.BaseRequest) -> bool:
        is_one = _ONE_RANGE.fullmatch(request.headers.get(hdrs.RANGE, "")) is not None
        if request.method != hdrs.METH_GET or not is_one:
            return False
        text = request.headers.get(hdrs.IF_RANGE)
        if text is None or text.strip() == self.headers[hdrs.ETAG]:
            return True
        date = request.if_range
        return date is not None and date.timestamp() == self.stored_at

    def _is_in(self, tags: tuple[ETag, ...], *, weak: bool) -> bool:
        return any(tag.value in ("*", self.tag) and (weak or not tag.is_weak) for tag in tags)


def _without(request: web.BaseRequest, names: Iterable[str]) -> web.BaseRequest:
    """Return *request* without the headers *names*.

    Bytes that are not UTF-8 are replaced in the other headers, because with them, aiohttp 3.14
    could not clone the request.
    """
    headers = CIMultiDict(
        (name, value.encode(errors="surrogateescape").decode(errors="replace"))
        for name, value in request.headers.items()
    )
    for name in names:
        headers.popall(name, None)
    return request.clone(headers=headers)


class RangedFile(web.FileResponse):
    """The file at *path*, or the requested part of it.

    aiohttp 3.14 supports ``If-Range`` only with a date, and rejects ranges that it does not
    understand instead of ignoring them.
    """

    def __init__(self, path: Path, *, headers: Mapping[str, str]) -> None:
        super().__init__(path, headers=headers)
        self._file = path

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        try:
            status = await asyncio.to_thread(os.stat, self._file)
        except OSError:
            # The file is gone; aiohttp responds with the error.
            return await super().prepare(request)
        # aiohttp sends the same values as ETag and Last-Modified.
        version = Version(f"{status.st_mtime_ns:x}-{status.st_size:x}", math.ceil(status.st_mtime))
        return await super().prepare(version.without_other_range(request))
