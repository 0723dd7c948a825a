"""Instagram and its CDN as an aiohttp application, including their faults."""

import asyncio
import gzip
import json
import secrets
from collections import Counter
from typing import Any

from aiohttp import hdrs, web

from tests.instagram import pages
from tests.instagram.answers import ANSWERS
from tests.instagram.faults import (
    drip_headers,
    never_answer,
    reset_connection,
    send,
    send_bare,
    send_too_much,
)
from tests.instagram.posts import CDN_HOSTS, File, Posts, content_of, shortcode_of, signature
from tests.instagram.scenarios import SCENARIOS, Answer, Scenario, scenario_name

__all__ = ["ROOT_FLAGS", "ROOT_QUERY", "WEB_QUERY", "Instagram"]

QUERY, WEB_QUERY = "27128499623469141", "27130156389949648"
ROOT_QUERY = "27830990013244856"
ROOT_FLAGS = {"PolarisShortDramaEnabled": False, "PolarisMultiCaptionCarouselEnabled": True}
WEB_INFO = "xdt_api__v1__media__shortcode__web_info"

_LOGIN = "https://www.instagram.com/accounts/login/"
_HOME = "https://www.instagram.com/"
_WAIT = "Please wait a few minutes before you try again."
_SLOW_PIECES = {"slow": (10, 1.0), "steady": (25, 5.0), "hour": (3600, 3600.0)}
_REFUSED = {"message": "", "status": "fail"}
_STATUSES: dict[str, tuple[int, dict[str, Any]]] = {
    "notfound": (404, _REFUSED),
    "forbidden": (403, _REFUSED),
    "unauthorized": (401, {"message": "login_required", "status": "fail"}),
    "softblock": (401, {"message": "", "require_login": True, "status": "fail"}),
    "wait": (401, {"message": _WAIT, "require_login": True, "status": "fail"}),
    "wait200": (200, {"message": _WAIT, "status": "fail"}),
    "challenge": (400, {"message": "challenge_required", "status": "fail"}),
    "checkpoint": (400, {"message": "checkpoint_required", "status": "fail"}),
    "feedback": (400, {"message": "feedback_required", "status": "fail"}),
    "badrequest": (400, {"message": "bad", "status": "fail"}),
    "retired": (
        400,
        {
            "message": "invalid request",
            "errors": [{"message": "execution error"}],
            "status": "fail",
        },
    ),
    "limitedbare": (429, {}),
}
_ANSWERS: dict[str, Any] = {
    "removed": {"data": {WEB_INFO: {"items": []}}},
    "nullinfo": {"data": {WEB_INFO: None}},
    "jsonnull": None,
    "jsonlist": [],
    "nodata": {"extensions": {}},
    "datanull": {"data": None, "errors": [{"message": "execution error"}]},
    "nokey": {"data": {"something_else": {}}},
    "errors": {"data": {WEB_INFO: None}, "errors": [{"message": "execution error"}]},
}
_GONE_FROM_THE_WEB = {"data": {"xig_polaris_media": None}}
_RETRY_AFTER = {
    "limited": "17",
    "retry22": "9" * 22,
    "retry400": "9" * 400,
    "retrydate": "Wed, 01 Jan 2098 00:00:00",
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
_SHARED_PAGES = {
    "relative": '<link rel="canonical" href="/p/CODE/" />',
    "unquoted": "<link rel=canonical href=https://www.instagram.com/p/CODE/>",
    "bare": "<meta property=og:url content=/reel/CODE/?x=1 data-x>",
    "canonical": '<link href="https://www.instagram.com/a/reel/CODE/?a=1&amp;b=2" rel="canonical">',
    "ogurl": '<meta content="https://www.instagram.com/p/CODE/" property="og:url" />',
    "profilepage": '<link rel="canonical" href="https://www.instagram.com/someone/">',
}
_SHARED = {
    "profile": "/someone/",
    "story": "/stories/someone/1/",
    "offsite": "https://example.com/x",
    "plain": "http://www.instagram.com/p/CODE/",
}
_HOPS = {"form": "", "host": "http://instagram.com"}
_SCRIPTS = "https://static.cdninstagram.com/rsrc.php/v4/"
_FRAME = {
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "iframe",
    "Sec-Fetch-Site": "cross-site",
}
_NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}


class Instagram:
    """The state and the routes of the stand-in's server.

    ``requests`` counts requests by (kind, shortcode). The kinds are ``start_page``, ``graphql``,
    ``root_query``, ``web_query``, ``post_page``, ``embed_page``, ``media_info``, ``share``,
    ``script`` and ``media``. Two more kinds are ``cookie`` for media requests with a cookie, and
    ``account`` for all requests with a session. While ``go`` is not set, queries and pages of posts
    wait. While ``media_go`` is not set, files pause halfway. ``overrides`` maps a source to its
    answer for every post, regardless of the scenario.
    """

    def __init__(self, posts: Posts, latency: float, cdn_latency: float) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.go, self.media_go = asyncio.Event(), asyncio.Event()
        self.go.set()
        self.media_go.set()
        self.scenarios: dict[str, Scenario] = dict(SCENARIOS)
        self.overrides: dict[str, str] = {}
        self.token_form = "lsd"
        self.doc_ids = {WEB_QUERY}
        self.root_id, self.root_flags = ROOT_QUERY, ROOT_FLAGS
        self.scripts: dict[str, bytes] = {}
        self._posts = posts
        self._latency, self._cdn_latency = latency, cdn_latency
        self.peak_queries = self._queries = 0
        self._tokens: set[str] = set()
        self._used_tokens: set[str] = set()
        self._cut_once: set[str] = set()
        self._described: Counter[str] = Counter()
        self._tries: Counter[tuple[str, str]] = Counter()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._count_account])
        app.router.add_get("/", self._start_page)
        app.router.add_post("/api/graphql", self._graphql)
        app.router.add_get("/api/graphql", self._graphql_loop)
        app.router.add_post("/graphql/query", self._graphql)
        app.router.add_get("/{kind:p|reel}/{shortcode}/", self._post_page)
        app.router.add_get("/p/{shortcode}/embed/captioned/", self._embed_page)
        app.router.add_get("/share/{path:.*}", self._share)
        app.router.add_get("/api/v1/media/{id}/info/", self._media_info)
        app.router.add_get("/rsrc.php/v4/{name}", self._script)
        app.router.add_get("/v/t50/{variant}/{name}", self._media)
        return app

    def reset(self) -> None:
        """Forget earlier descriptions and downloads, and the scenarios that tests have set."""
        self.scenarios = dict(SCENARIOS)
        self._described.clear()
        self._tries.clear()
        self._cut_once.clear()

    def scenario(self, shortcode: str) -> Scenario:
        """Return the scenario that *shortcode* names, or ``removed`` if it names none."""
        return self.scenarios.get(scenario_name(shortcode), self.scenarios["removed"])

    def files(self, shortcode: str) -> list[File]:
        """Return the files of the post, in order."""
        return self._posts.files(self.scenario(shortcode).shape)

    def _describe(self, shortcode: str, source: str, *, whole: bool = False) -> dict[str, Any]:
        scenario = self.scenario(shortcode)
        self._described[shortcode] += 1
        media = self._posts.describe(shortcode, scenario, whole=whole)
        media = scenario.change(media) if scenario.change else media
        return scenario.change_by[source](media) if source in scenario.change_by else media

    @web.middleware
    async def _count_account(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests["account", ""] += bool(request.cookies.get("sessionid"))
        if request.path.startswith("/v/"):
            response: web.StreamResponse = await handler(request)
            return response
        self._queries += 1
        self.peak_queries = max(self.peak_queries, self._queries)
        try:
            response = await handler(request)
        finally:
            self._queries -= 1
        return response

    async def _start_page(self, request: web.Request) -> web.Response:
        self.requests["start_page", ""] += 1
        if answer := self.overrides.get("start"):
            return ANSWERS[answer].response()
        session = request.cookies.get("sessionid", "")
        if session.startswith("expired"):
            return _redirect(_LOGIN)
        if session.startswith("challenged"):
            return _redirect("https://www.instagram.com/challenge/?next=/")
        token = self._new_token()
        page = {
            "lsd": f'<script>["LSD",[],{{"token":"{token}"}},323],{{"IG_USER_EIMU":"0"}}</script>',
            "eqmc": f'<script id="__eqmc" type="application/json">{{"l":"{token}"}}</script>',
            "none": "<script></script>",
        }[self.token_form]
        if session:
            page += '<script>["DTSGInitialData",[],{"token":"dtsg"},258]</script>'
            viewer = {"data": {"id": "1", "username": "alive.user"}}
            page += f'<script>["PolarisViewer",[],{json.dumps(viewer)},7]</script>'
        links = "".join(
            f'<script src="{_SCRIPTS}{name}?_nc_x=x"></script>' for name in self.scripts
        )
        response = web.Response(text=f"<html>{links}{page}</html>", content_type="text/html")
        self._set_cookies(response)
        return response

    async def _script(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.requests["script", name] += 1
        assert (request.host, dict(request.cookies)) == ("static.cdninstagram.com", {})
        return web.Response(body=self.scripts[name], content_type="application/x-javascript")

    def _new_token(self) -> str:
        token = secrets.token_urlsafe(8)
        self._tokens.add(token)
        return token

    def _set_cookies(self, response: web.Response) -> None:
        for name in ("csrftoken", "mid"):
            response.set_cookie(name, secrets.token_urlsafe(8), domain=".instagram.com")

    async def _graphql(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        variables = json.loads(str(form["variables"]))
        doc_id = str(form["doc_id"])
        by_web = doc_id in self.doc_ids
        source = "web" if by_web else "root" if doc_id == self.root_id else "api"
        if source == "api" and doc_id != QUERY:
            return _answer("retired")
        if source == "root":
            flags = {
                f"__relay_internal__pv__{name}relayprovider": value
                for name, value in self.root_flags.items()
            }
            if variables != {"shortcode": variables["shortcode"], **flags}:
                return _answer("badrequest")
        shortcode = (
            shortcode_of(int(variables["media_id"])) if by_web else str(variables["shortcode"])
        )
        kind = {"api": "graphql", "root": "root_query", "web": "web_query"}[source]
        self.requests[kind, shortcode] += 1
        await self.go.wait()
        await asyncio.sleep(self._latency)
        session = request.cookies.get("sessionid", "")
        token = str(form.get("lsd", ""))
        if not request.headers.get("x-csrftoken") or not (session or token in self._tokens):
            return _answer("forbidden")
        if session.startswith(("expired", "challenged")):
            return _ended(session)
        used = token in self._used_tokens
        self._used_tokens.add(token)
        answer = self.overrides.get(source) or self.scenario(shortcode).answer(source)
        if session and answer in ("loginonly", "gated"):
            answer = "post"
        if answer == "stale":
            answer = "forbidden" if used else "post"
        if answer != "post":
            return await self._refuse(request, answer, by_web, shortcode)
        return await self._send_post(request, by_web, shortcode)

    async def _send_post(
        self, request: web.Request, by_web: bool, shortcode: str, fault: str = ""
    ) -> web.StreamResponse:
        media = self._describe(shortcode, "web" if by_web else "api")
        data = (
            pages.logged_out_data(media, [self._posts.stub(shortcode)])
            if by_web
            else {WEB_INFO: {"items": [media]}}
        )
        body: dict[str, Any] = {"data": data, "extensions": {"is_final": True}}
        if request.path == "/graphql/query":
            body["status"] = "ok"
        if fault == "warned":
            body["errors"] = [{"message": "A field was not resolved", "severity": "WARNING"}]
        text = json.dumps(body).replace(str(10**30), "9" * 5000).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if fault == "apidrip":
            return await send(request, text, headers, piece=1, pause=1.0)
        if fault == "apicut":
            return await send(request, text, headers, only=len(text) // 2)
        return web.Response(body=text, headers=headers)

    async def _refuse(
        self, request: web.Request, answer: str, by_web: bool, shortcode: str
    ) -> web.StreamResponse:
        if answer in ANSWERS:
            return ANSWERS[answer].response()
        if answer == "staleonce":
            # Only the first request fails. The next one, with a new token, gets the post.
            kinds = ("graphql", "root_query", "web_query")
            if sum(self.requests[kind, shortcode] for kind in kinds) == 1:
                return ANSWERS["staletokens"].response()
            return await self._send_post(request, by_web, shortcode)
        if answer in ("removed", "nullinfo") and by_web:
            return web.json_response(_GONE_FROM_THE_WEB)
        if answer in _ANSWERS:
            return web.json_response(_ANSWERS[answer])
        if answer in ("apidrip", "apicut", "warned"):
            return await self._send_post(request, by_web, shortcode, answer)
        fault = await send_too_much(request, answer, "application/json")
        return fault or await _fault(request, answer)

    async def _graphql_loop(self, _request: web.Request) -> web.Response:
        return _answer("loop")

    async def _post_page(self, request: web.Request) -> web.StreamResponse:
        shortcode = request.match_info["shortcode"]
        self.requests["post_page", shortcode] += 1
        await self.go.wait()
        await asyncio.sleep(self._latency)
        source = "page" if request.match_info["kind"] == "p" else "reel"
        answer = self.overrides.get("page") or self.scenario(shortcode).answer(source)
        if any(request.headers.get(name) != value for name, value in _NAVIGATION.items()):
            answer = "throttled"
        if answer in ANSWERS:
            return ANSWERS[answer].response()
        if answer in ("login", "home"):
            return _redirect(_LOGIN if answer == "login" else _HOME)
        text = self._page(shortcode, answer)
        if text is not None:
            return web.Response(text=text, content_type="text/html")
        fault = await send_too_much(request, answer, "text/html")
        return fault or await _fault(request, answer)

    async def _embed_page(self, request: web.Request) -> web.StreamResponse:
        shortcode = request.match_info["shortcode"]
        self.requests["embed_page", shortcode] += 1
        await self.go.wait()
        answer = self.overrides.get("embed") or self.scenario(shortcode).embed
        if any(request.headers.get(name) != value for name, value in _FRAME.items()):
            answer = "login"
        if answer in ANSWERS:
            return ANSWERS[answer].response()
        if answer not in ("post", "empty"):
            return await _fault(request, answer)
        media = None if answer == "empty" else self._describe(shortcode, "embed")
        return web.Response(text=pages.embed(media, shortcode), content_type="text/html")

    def _page(self, shortcode: str, answer: str) -> str | None:
        match answer:
            case "post" | "whole":
                media = self._describe(shortcode, "page", whole=answer == "whole")
                stubs = [self._posts.stub("DOtherPost1"), self._posts.stub(shortcode)]
                return pages.post(media, stubs, self._new_token())
            case "old":
                return pages.old_post(self._describe(shortcode, "page"))
            case "gated":
                return pages.gated(shortcode)
            case "gone":
                return pages.of_route("PolarisErrorRoute")
            case "loginroute":
                return pages.of_route("PolarisCAAIGLoginHomepageRoute")
            case "throttled":
                return pages.of_route("PolarisLoggedOutDesktopWWWPostRoute")
            case "changed":
                return pages.of_route(
                    "PolarisLoggedOutDesktopWWWPostRoute",
                    {"new_key": {"code": shortcode, "image_versions2": {"new_shape": []}}},
                )
            case _:
                return None

    async def _share(self, request: web.Request) -> web.Response:
        token = request.match_info["path"].rstrip("/").rpartition("/")[2]
        self.requests["share", token] += 1
        kind = scenario_name(token)
        if kind in ANSWERS:
            return ANSWERS[kind].response()
        if kind == "nowhere":
            return web.Response(status=404, text="<html>")
        if kind in ("login", "home"):
            return _redirect(_LOGIN if kind == "login" else _HOME)
        code = f"reel-{token}"
        if kind in _SHARED_PAGES:
            html = f'<html><meta property="og:url" content="/share/x/">{_SHARED_PAGES[kind]}</html>'
            return web.Response(text=html.replace("CODE", code), content_type="text/html")
        match kind:
            case "next":
                return _redirect(f"{_LOGIN}?next=%2Freel%2F{code}%2F%3Figsh%3Dx")
            case "slash" if request.path.endswith("/"):
                return _redirect(f"https://www.instagram.com{request.path.rstrip('/')}")
            case "form" | "host" if "/reel/" not in request.path:
                return _redirect(f"{_HOPS[kind]}/share/reel/{token}/?_r=1")
            case "slash" | "form" | "host":
                return _redirect(f"/p/{code}/")
            case "loop":
                return _redirect(request.path)
        target = _SHARED.get(kind, f"https://www.instagram.com/reel/{token}/?igsh=x")
        return _redirect(target.replace("CODE", code))

    async def _media_info(self, request: web.Request) -> web.StreamResponse:
        shortcode = shortcode_of(int(request.match_info["id"]))
        self.requests["media_info", shortcode] += 1
        session = request.cookies.get("sessionid", "")
        if not session or session.startswith(("expired", "challenged")):
            return _ended(session)
        if not request.headers.get("X-IG-App-ID") or not request.headers.get("X-CSRFToken"):
            return _answer("forbidden")
        answer = self.overrides.get("info") or self.scenario(shortcode).answer("info")
        if answer != "post":
            return await self._refuse(request, answer, False, shortcode)
        media = self._describe(shortcode, "info", whole=True)
        response = web.json_response({"items": [media], "status": "ok"})
        response.headers["x-ig-set-www-claim"] = "hmac.claim"
        self._set_cookies(response)
        return response

    async def _media(self, request: web.Request) -> web.StreamResponse:
        stem, _, suffix = request.match_info["name"].rpartition(".")
        shortcode, _, number = stem.rpartition("_")
        variant = request.match_info["variant"]
        self.requests["media", shortcode] += 1
        self.requests["cookie", shortcode] += bool(request.cookies)
        await asyncio.sleep(self._cdn_latency)
        files = self.files(shortcode)
        file = files[int(number) - 1]
        answers = self.scenario(shortcode).answers.get(f"{variant}/{number}")
        if answers:
            tried = self._tries[shortcode, f"{variant}/{number}"]
            self._tries[shortcode, f"{variant}/{number}"] += 1
            return await _send_file(request, answers[min(tried, len(answers) - 1)], file)
        if request.host not in CDN_HOSTS or request.query.get("oh") != signature(request.path):
            return web.Response(status=403, text="Bad URL hash")
        if file.suffix != suffix or variant != "best":
            file = self._posts.cover()
        headers = {"Content-Type": file.content_type, "Set-Cookie": f"seen={shortcode}; Path=/"}
        if not self.media_go.is_set():
            piece = len(file.content) // 2
            return await send(request, file.content, headers, piece=piece, gate=self.media_go)
        fault = self._media_fault(shortcode, variant, number, last=int(number) == len(files))
        if fault.isdecimal():
            return web.Response(status=int(fault))
        if fault == "cdnswap":
            cover = self._posts.cover()
            return web.Response(body=cover.content, content_type=cover.content_type)
        if fault in _CDN_ANSWERS:
            status, content_type, answer_headers = _CDN_ANSWERS[fault]
            return web.Response(status=status, content_type=content_type, headers=answer_headers)
        return await self._cdn_fault(request, fault, file.content, headers)

    def _media_fault(self, shortcode: str, variant: str, number: str, *, last: bool) -> str:
        fault = self.scenario(shortcode).media
        match fault:
            case "cutonce":
                cut = shortcode not in self._cut_once
                self._cut_once.add(shortcode)
                return "cut" if cut else ""
            case "lastcut":
                return "cut" if last else ""
            case "best400" | "best403" | "best404":
                return fault.removeprefix("best") if variant == "best" else ""
            case "worn":
                return "403" if self._described[shortcode] < 2 else ""
            case "slide404":
                return "404" if number == "2" else ""
            case "slidedrip":
                return "drip" if number == "2" else ""
            case _:
                return fault

    async def _cdn_fault(
        self, request: web.Request, fault: str, content: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        half = len(content) // 2
        match fault:
            case "cdnsilent":
                return await never_answer()
            case "cdnreset":
                return reset_connection(request)
            case "cdnloop":
                return _redirect(str(request.url))
            case "cdnlength":
                return await send(request, content, headers, length="9" * 5000)
            case "cut":
                return await send(request, content, headers, only=half)
            case "cutchunked":
                return await send(request, content, headers, only=half, chunked=True)
            case "bigchunked":
                return await send(request, content, headers, chunked=True)
            case "drip":
                return await send(request, content, headers, piece=1, pause=1.0)
            case _ if fault in _SLOW_PIECES:
                pieces, seconds = _SLOW_PIECES[fault]
                piece, pause = len(content) // pieces, seconds / pieces
                return await send(request, content, headers, piece=piece, pause=pause)
            case _:
                return await send(request, content, headers)


async def _send_file(request: web.Request, answer: Answer, file: File) -> web.StreamResponse:
    """Send an answer of the CDN that the scenario defines."""
    if answer.status != 200:
        return web.Response(status=answer.status)
    content = content_of(answer.file) if answer.file else file.content
    headers = {"Content-Type": answer.content_type or file.content_type}
    match answer.wire:
        case "bare":
            return await send_bare(request, content[: answer.only], headers)
        case "chunked":
            # The response ends normally, as if the file had been cut before it reached the CDN.
            return await send(request, content[: answer.only], headers, chunked=True)
        case "packed":
            packed = gzip.compress(content)[: answer.only]
            return await send(request, packed, {**headers, "Content-Encoding": "gzip"})
        case "part" | "half":
            part = content if answer.wire == "part" else content[: len(content) // 2]
            headers["Content-Range"] = f"bytes 0-{len(part) - 1}/{len(content)}"
            return web.Response(status=206, body=part, headers=headers)
        case "stall":
            return await send(request, content, headers, piece=1000, gate=asyncio.Event())
        case "drip":
            return await send(request, content, headers, piece=1, pause=0.1)
        case "reset":
            return reset_connection(request)
        case wire if wire.startswith("to "):
            return _redirect(wire.removeprefix("to "))
        case _:
            return await send(request, content, headers, only=answer.only)


async def _fault(request: web.Request, answer: str) -> web.StreamResponse:
    match answer:
        case "html":
            return web.Response(text="<html>Hello</html>", content_type="text/html")
        case "servererror":
            return web.Response(text="<html>", content_type="text/html", status=500)
        case "silent":
            return await never_answer()
        case "reset":
            return reset_connection(request)
        case "headerdrip":
            return await drip_headers(request)
        case _:
            return _answer(answer)


def _answer(answer: str) -> web.Response:
    if answer in ("login", "loginonly"):
        return _redirect(_LOGIN)
    if answer == "home":
        return _redirect(_HOME)
    if answer == "loop":
        return _redirect("https://www.instagram.com/api/graphql/")
    if answer in _RETRY_AFTER:
        headers = {hdrs.RETRY_AFTER: _RETRY_AFTER[answer]}
        return web.json_response({}, status=429, headers=headers)
    status, body = _STATUSES[answer]
    return web.json_response(body, status=status)


def _ended(session: str) -> web.Response:
    """Return the API's answer to a session that has ended, or whose account must be confirmed."""
    if session.startswith("expired401"):
        # For some requests, Instagram answers as if the address had sent too many queries.
        return _answer("wait")
    return _answer("checkpoint" if session.startswith("challenged") else "login")


def _redirect(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location})
