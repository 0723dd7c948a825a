"""Conditional requests (RFC 9110, section 13) for files whose version somebody knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import ETag, hdrs, web

__all__ = ["Version"]

_CONDITIONS = (
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.IF_RANGE,
)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a file: its ``tag``, and the second in which it was stored (unix time)."""

    tag: str
    stored_at: int

    @property
    def headers(self) -> dict[str, str]:
        """The validators that a response carries."""
        modified = formatdate(self.stored_at, usegmt=True)
        return {hdrs.ETAG: f'"{self.tag}"', hdrs.LAST_MODIFIED: modified}

    def refusal(self, request: web.BaseRequest, headers: Mapping[str, str]) -> web.Response | None:
        """412 or 304 with *headers*, if the request asks for another version or has this one."""
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
        """The request without what :meth:`refusal` looked at, and a range of another version."""
        headers = request.headers.copy()
        if not self._allows_range(request):
            headers.popall(hdrs.RANGE, None)
        for name in _CONDITIONS:
            headers.popall(name, None)
        return request.clone(headers=headers)

    def _allows_range(self, request: web.BaseRequest) -> bool:
        text = request.headers.get(hdrs.IF_RANGE)
        if text is None or text == self.headers[hdrs.ETAG]:
            return True
        date = request.if_range
        return date is not None and date.timestamp() == self.stored_at

    def _is_in(self, tags: tuple[ETag, ...], *, weak: bool) -> bool:
        return any(tag.value in ("*", self.tag) and (weak or not tag.is_weak) for tag in tags)
