"""Conditional requests and range requests for files (RFC 9110)."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

from aiohttp import ETag, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

__all__ = ["Version", "versioned_file"]

# Excludes the range of the last 0 bytes, for which aiohttp 3.14 returns 206 and the whole file.
_ONE_RANGE = re.compile(r"bytes=(?!\s*-0*$)[^,]*", re.IGNORECASE)

# Whether an entity tag is weak, and the tag with its quotes.
_TAG = re.compile(r'(W/)?("[^"]*")')
_CONDITIONS = (
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.IF_RANGE,
)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a file.

    ``tag`` identifies it, ``stored_at`` is the Unix time in seconds at which it was stored, and
    ``size`` is in bytes.
    """

    tag: str
    stored_at: int
    size: int

    @property
    def etag(self) -> str:
        return f'"{self.tag}"'

    @property
    def headers(self) -> dict[str, str]:
        """The validators to send in a response: ``ETag`` and ``Last-Modified``."""
        modified = formatdate(self.stored_at, usegmt=True)
        return {hdrs.ETAG: self.etag, hdrs.LAST_MODIFIED: modified}

    def check_required(self, request: web.BaseRequest) -> None:
        """Check that the request requires this version or none (RFC 9110, 13.1.1 and 13.1.4).

        Raises:
            web.HTTPPreconditionFailed: the request requires another version.
        """
        listed = self._is_listed(request, hdrs.IF_MATCH, weak=False)
        if listed is None:
            since = request.if_unmodified_since
            listed = since is None or self.stored_at <= since.timestamp()
        if not listed:
            raise web.HTTPPreconditionFailed(text="The file is not the version that you require")

    def is_known(self, request: web.BaseRequest) -> bool:
        """Return whether the client already has this version (RFC 9110, 13.1.2 and 13.1.3)."""
        listed = self._is_listed(request, hdrs.IF_NONE_MATCH, weak=True)
        if listed is None:
            since = request.if_modified_since
            return since is not None and self.stored_at <= since.timestamp()
        return listed

    def check_range(self, request: web.BaseRequest) -> None:
        """Check that the requested range, if any, begins within the file (RFC 9110, 14.2).

        Raises:
            web.HTTPRequestRangeNotSatisfiable: the range is invalid, or begins after the end.
        """
        if not self.allows_range(request):
            return
        try:
            start = request.http_range.start
            satisfiable = start is None or (self.size > 0 and start < self.size)
        except ValueError:
            satisfiable = False
        if not satisfiable:
            raise web.HTTPRequestRangeNotSatisfiable(
                text=f"The range is invalid, or begins after the {self.size} bytes of the file",
                headers={hdrs.CONTENT_RANGE: f"bytes */{self.size}"},
            )

    def allows_range(self, request: web.BaseRequest) -> bool:
        """Return whether the request's range must be respected (RFC 9110, 13.1.5 and 14.2).

        Ranges in unknown units, multiple ranges, and ranges of other versions are ignored.
        """
        is_one = _ONE_RANGE.fullmatch(request.headers.get(hdrs.RANGE, "")) is not None
        if request.method != hdrs.METH_GET or not is_one:
            return False
        text = request.headers.get(hdrs.IF_RANGE)
        if text is None or text.strip() == self.etag:
            return True
        date = request.if_range
        return date is not None and date.timestamp() == self.stored_at

    def _is_listed(self, request: web.BaseRequest, name: str, *, weak: bool) -> bool | None:
        """Return whether the header *name* lists this version, or None if it is missing or empty.

        aiohttp 3.14 reads only the first line of the header, and stops at an empty element.
        """
        text = ",".join(request.headers.getall(name, ()))
        if not text:
            return None
        return text.strip() == "*" or any(
            tag == self.etag and (weak or not weakness) for weakness, tag in _TAG.findall(text)
        )


def versioned_file(
    request: web.BaseRequest, path: Path, version: Version, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Return a response with *headers* and the file at *path*, or the requested part of the file.

    If the client already has this *version*, the response is a 304.

    Raises:
        web.HTTPPreconditionFailed: the request requires another version.
        web.HTTPRequestRangeNotSatisfiable: the range is invalid, or begins after the end.
    """
    headers = {**headers, **version.headers}
    version.check_required(request)
    if version.is_known(request):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    version.check_range(request)
    return _VersionedFile(path, version, headers)


class _VersionedFile(web.FileResponse):
    """A response with the file at *path* and the ``ETag`` and ``Last-Modified`` in *headers*.

    The file's modification time does not identify a version: a post's file has the time at which
    the post was published. ``bytes_sent`` is the number of bytes of the body that were sent.
    """

    bytes_sent = 0

    def __init__(self, path: Path, version: Version, headers: Mapping[str, str]) -> None:
        super().__init__(path, headers=headers)
        self._version = version

    # aiohttp would set these from the file's modification time, but they are already set.
    @property
    def etag(self) -> ETag | None:
        return super().etag

    @etag.setter
    def etag(self, value: object) -> None: ...

    @property
    def last_modified(self) -> datetime | None:
        return super().last_modified

    @last_modified.setter
    def last_modified(self, value: object) -> None: ...

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        # aiohttp 3.14 supports If-Range only with a date, and rejects ranges that it does not
        # understand instead of ignoring them.
        ignored = () if self._version.allows_range(request) else (hdrs.RANGE,)
        return await super().prepare(_without(request, (*_CONDITIONS, *ignored)))

    async def _sendfile(
        self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int
    ) -> AbstractStreamWriter:
        try:
            return await super()._sendfile(request, fobj, offset, count)
        finally:
            # asyncio's sendfile advances the file position, even if the client disconnects.
            self.bytes_sent = max(0, os.lseek(fobj.fileno(), 0, os.SEEK_CUR) - offset)


def _without(request: web.BaseRequest, names: Iterable[str]) -> web.BaseRequest:
    """Return *request* without the headers *names*.

    In the other headers, bytes that are not UTF-8 are replaced, because aiohttp 3.14 cannot encode
    them again.
    """
    headers = CIMultiDict(
        (name, value.encode(errors="surrogateescape").decode(errors="replace"))
        for name, value in request.headers.items()
    )
    for name in names:
        headers.popall(name, None)
    return request.clone(headers=headers)
