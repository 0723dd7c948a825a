"""What Instagram and its CDN answer, as an aiohttp application; faults included."""

import asyncio
import json
import secrets
from collections import Counter
from typing import Any

from aiohttp import web

from tests.instagram.posts import CDN_HOST, WEB_INFO, Posts, signature, web_info
from tests.instagram.scenarios import scenario_of

__all__ = ["Instagram"]

_LOGIN = "https://www.instagram.com/accounts/login/"
_WAIT = "Please wait a few minutes before you try again."
_PIECE_BYTES = 256 * 1024
_SLOW_PIECES, _SLOW_SECONDS = 10, 2.0
_STATUSES: dict[str, tuple[int, dict[str, Any]]] = {
    "notfound": (404, {"message": "", "status": "fail"}),
    "forbidden": (403, {"message": "", "status": "fail"}),
    "refused": (403, {"message": "", "status": "fail"}),
    "unauthorized": (401, {"message": "login_required", "status": "fail"}),
    "wait": (401, {"message": _WAIT, "require_login": True, "status": "fail"}),
    "wait200": (200, {"message": _WAIT, "status": "fail"}),
    "challenge": (400, {"message": "challenge_required", "status": "fail"}),
    "checkpoint": (400, {"message": "checkpoint_required", "status": "fail"}),
    "feedback": (400, {"message": "feedback_required", "status": "fail"}),
    "badrequest": (400, {"message": "bad", "status": "fail"}),
}
_ANSWERS: dict[str, Any] = {
    "removed": {"data": web_info()},
    "nullinfo": {"data": {WEB_INFO: None}},
    "jsonnull": None,
    "jsonlist": [],
    "nodata": {"extensions": {}},
    "datanull": {"data": None, "errors": [{"message": "execution error"}]},
    "nokey": {"data": {"something_else": {}}},
    "errors": {"data": {WEB_INFO: None}, "errors": [{"message": "execution error"}]},
}
_CDN_ANSWERS: dict[str, tuple[int, str, dict[str, str]]] = {
    "cdnforbidden": (403, "text/plain", {}),
    "cdnnotfound": (404, "text/plain", {}),
    "cdnerror": (500, "text/plain", {}),
    "cdnlimited": (429, "text/plain", {}),
    "cdnhtml": (200, "text/html", {}),
    "cdnempty": (200, "video/mp4", {}),
    "cdnprivate": (302, "text/plain", {"Location": "https://10.0.0.1/private"}),
    "cdnredirect": (302, "text/plain", {"Location": "http://127.0.0.1:9/private"}),
}


class Instagram:
    """The state and the routes of the stand-in's server.

    ``requests`` counts by (kind, shortcode), the kind being ``start_page``, ``graphql``,
    ``post_page`` or ``media``, and ``cookie`` for a file that was asked for with one. While
    ``go`` is not set GraphQL requests wait; while ``media_go`` is not, files stop half way.
    """

    def __init__(self, posts: Posts, latency: float) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.go, self.media_go = asyncio.Event(), asyncio.Event()
        self.go.set()
        self.media_go.set()
        self._posts = posts
        self._latency = latency
        self._tokens: set[str] = set()
        self._used_tokens: set[str] = set()
        self._cut_once: set[str] = set()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._start_page)
        app.router.add_post("/api/graphql", self._graphql)
        app.router.add_post("/graphql/query", self._graphql)
        app.router.add_get("/{kind:p|reel}/{shortcode}/", self._post_page)
        app.router.add_get("/v/t50/{name}", self._media)
        return app

    async def _start_page(self, request: web.Request) -> web.Response:
        self.requests["start_page", ""] += 1
        token = secrets.token_urlsafe(8)
        self._tokens.add(token)
        page = f'["LSD",[],{{"token":"{token}"}},323],{{"IG_USER_EIMU":"0"}}'
        if request.cookies.get("sessionid"):
            page += '["DTSGInitialData",[],{"token":"dtsg"},258]'
        response = web.Response(text=f"<html><script>{page}</script></html>")
        response.content_type = "text/html"
        response.set_cookie("csrftoken", secrets.token_urlsafe(8), domain=".instagram.com")
        response.set_cookie("mid", secrets.token_urlsafe(8), domain=".instagram.com")
        return response

    async def _graphql(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        shortcode = json.loads(str(form["variables"]))["shortcode"]
        self.requests["graphql", shortcode] += 1
        await self.go.wait()
        await asyncio.sleep(self._latency)
        logged_in = bool(request.cookies.get("sessionid"))
        token = str(form.get("lsd", ""))
        if not request.headers.get("x-csrftoken") or not (logged_in or token in self._tokens):
            return web.json_response({"message": "", "status": "fail"}, status=403)
        used = token in self._used_tokens
        self._used_tokens.add(token)
        scenario = scenario_of(shortcode)
        if scenario == "stale" and used:
            return web.json_response({"message": "", "status": "fail"}, status=403)
        if scenario == "login" or (scenario == "loginonly" and not logged_in):
            return web.Response(status=302, headers={"Location": _LOGIN})
        if scenario in _STATUSES:
            status, body = _STATUSES[scenario]
            return web.json_response(body, status=status)
        if scenario in _ANSWERS:
            return web.json_response(_ANSWERS[scenario])
        body = {"data": web_info(self._posts.describe(shortcode)), "extensions": {}}
        if request.path == "/graphql/query":
            body["status"] = "ok"
        return await self._api_fault(request, scenario, json.dumps(body).encode())

    async def _api_fault(
        self, request: web.Request, scenario: str, body: bytes
    ) -> web.StreamResponse:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        match scenario:
            case "limited":
                return web.json_response({}, status=429, headers={"Retry-After": "17"})
            case "limitedbare":
                return web.Response(text="<html>", content_type="text/html", status=429)
            case "html":
                return web.Response(text="<html>Hello</html>", content_type="text/html")
            case "servererror":
                return web.Response(text="<html>", content_type="text/html", status=500)
            case "silent":
                return await _never()
            case "reset":
                return _reset(request)
            case "headerdrip":
                return await _drip_headers(request)
            case "apidrip":
                return await _send(request, body, headers, piece=1, pause=1.0)
            case "apicut":
                return await _send(request, body, headers, only=len(body) // 2)
            case _:
                return web.Response(body=body, headers=headers)

    async def _post_page(self, request: web.Request) -> web.Response:
        shortcode = request.match_info["shortcode"]
        self.requests["post_page", shortcode] += 1
        if scenario_of(shortcode) != "refused":
            return web.Response(status=302, headers={"Location": _LOGIN})
        results = [{"viewer": None}, web_info(self._posts.describe(shortcode))]
        blocks = [
            ["RelayPrefetchedStreamCache", "next", [], [{"__bbox": {"result": {"data": data}}}]]
            for data in results
        ]
        data = {
            "require": [["ScheduledServerJS", "handle", None, [{"__bbox": {"require": blocks}}]]]
        }
        page = f'<script type="application/json" data-sjs>{json.dumps(data)}</script>'
        return web.Response(text=f"<html>{page}</html>", content_type="text/html")

    async def _media(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        stem, _, suffix = name.rpartition(".")
        shortcode, _, number = stem.rpartition("_")
        self.requests["media", shortcode] += 1
        self.requests["cookie", shortcode] += bool(request.cookies)
        if request.host != CDN_HOST or request.query.get("oh") != signature(request.path):
            return web.Response(status=403, text="Bad URL hash")
        files = self._posts.files(shortcode)
        file = files[int(number) - 1]
        if file.suffix != suffix:
            file = self._posts.cover()
        headers = {"Content-Type": file.content_type, "Set-Cookie": f"seen={shortcode}; Path=/"}
        if not self.media_go.is_set():
            piece = len(file.content) // 2
            return await _send(request, file.content, headers, piece=piece, gate=self.media_go)
        scenario = scenario_of(shortcode)
        if scenario == "cutonce" and shortcode not in self._cut_once:
            self._cut_once.add(shortcode)
            scenario = "cut"
        if scenario == "carouselcut" and int(number) == len(files):
            scenario = "cut"
        if scenario == "cdnswap":
            cover = self._posts.cover()
            return web.Response(body=cover.content, content_type=cover.content_type)
        if scenario in _CDN_ANSWERS:
            status, content_type, answer_headers = _CDN_ANSWERS[scenario]
            return web.Response(status=status, content_type=content_type, headers=answer_headers)
        return await self._cdn_fault(request, scenario, file.content, headers)

    async def _cdn_fault(
        self, request: web.Request, scenario: str, content: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        half = len(content) // 2
        match scenario:
            case "cdnsilent":
                return await _never()
            case "cdnreset":
                return _reset(request)
            case "cut":
                return await _send(request, content, headers, only=half)
            case "cutchunked":
                return await _send(request, content, headers, only=half, chunked=True)
            case "bigchunked":
                return await _send(request, content, headers, chunked=True)
            case "drip":
                return await _send(request, content, headers, piece=1, pause=1.0)
            case "slow":
                piece = len(content) // _SLOW_PIECES
                pause = _SLOW_SECONDS / _SLOW_PIECES
                return await _send(request, content, headers, piece=piece, pause=pause)
            case _:
                return await _send(request, content, headers)


async def _never() -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _drip_headers(request: web.Request) -> web.Response:
    assert request.transport is not None
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 3600:
        request.transport.write(bytes([byte]))
        await asyncio.sleep(1)
    return web.Response()


async def _send(
    request: web.Request,
    body: bytes,
    headers: dict[str, str],
    *,
    piece: int = _PIECE_BYTES,
    pause: float = 0.0,
    only: int | None = None,
    chunked: bool = False,
    gate: asyncio.Event | None = None,
) -> web.StreamResponse:
    """Send *body* in pieces with a *pause* after each, or *only* so much and hang up.

    With a *gate* the first piece is sent at once and the others when it opens.
    """
    response = web.StreamResponse(headers=headers)
    if chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body) if only is None else only, piece):
        await response.write(body[start : start + piece] if only is None else body[start:only])
        if gate is not None:
            await gate.wait()
        await asyncio.sleep(pause)
    if only is not None and request.transport is not None:
        request.transport.close()
    return response
