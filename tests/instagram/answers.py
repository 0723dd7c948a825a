"""Complete answers in the form in which Instagram sends them: captured ones, and more refusals."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

__all__ = ["ANSWERS", "REDIRECTS", "RawAnswer"]


class RawAnswer(NamedTuple):
    """A status, a body (sent as JSON unless it is a string), and headers."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = {}

    @property
    def content(self) -> bytes:
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return text.encode()

    def response(self) -> web.Response:
        kind = "text/html" if isinstance(self.body, str) else "application/json"
        return web.Response(
            status=self.status, body=self.content, content_type=kind, headers=self.headers
        )


def _guarded(error: int) -> RawAnswer:
    summary = {"errorSummary": "Sorry, something went wrong", "payload": None}
    return RawAnswer(200, "for (;;);" + json.dumps({"__ar": 1, "error": error, **summary}))


def _failed(message: str, **more: Any) -> RawAnswer:
    return RawAnswer(400, {"message": message, "status": "fail", **more})


_RATE_LIMIT = {"message": "Rate limit exceeded", "severity": "CRITICAL", "code": 1675004}

REDIRECTS = {
    "challenge": "https://www.instagram.com/challenge/?next=%2Fp%2FCODE%2F",
    "authplatform": "https://www.instagram.com/auth_platform/?apc=token",
    "terms": "/terms/unblock/?next=%2F",
    "privacy": "https://www.instagram.com/privacy/checks/?x=1",
    "suspended": "https://www.instagram.com/accounts/suspended/?next=x",
    "disabled": "https://WWW.instagram.com/accounts/disabled/",
    "consent": "https://www.instagram.com/consent/?flow=user_cookie_choice",
    "loginform": "https://www.instagram.com/accounts/login/?next=%2Fp%2FCODE%2F",
    "start": "/",
    "elsewhere": "https://example.com/p/CODE/",
    "nourl": "https://[::1/x",
    "noport": "https://www.instagram.com:x/p/CODE/",
    "nothing": "",
}

ANSWERS: Mapping[str, RawAnswer] = {
    "ratecode": RawAnswer(200, {"errors": [_RATE_LIMIT], "extensions": {"is_final": True}}),
    "ratetext": RawAnswer(200, {"errors": [{**_RATE_LIMIT, "code": "1675004"}], "data": None}),
    "staletokens": _guarded(1357004),
    "tlsrefused": _guarded(1357054),
    "guarded": _guarded(1),
    "geoblock": _failed("geoblock_required"),
    "consentword": _failed("consent_required"),
    "checkpointword": _failed("checkpoint_required", checkpoint_url="/challenge/1/"),
    "challengeword": _failed("challenge_required"),
    "errortype": _failed("", error_type="checkpoint_challenge_required"),
    "errortypeonly": RawAnswer(403, {"error_type": "consent_required"}),
    "deleted": _failed("Media not found or unavailable"),
    "deletedtoo": _failed("Sorry, this media has been deleted."),
    "toomany": RawAnswer(429, "", {"Retry-After": "120"}),
    "waitcapital": RawAnswer(401, {"message": "Please Wait A Few Minutes.", "status": "fail"}),
    "softblocked": RawAnswer(401, {"message": "", "require_login": True, "status": "fail"}),
    "feedbackword": _failed("feedback_required"),
    "retiredquery": _failed("invalid request", errors=[{"message": "execution error"}]),
    "loginword": RawAnswer(403, {"message": "login_required", "status": "fail"}),
    "fivehundred": RawAnswer(503, "<html>"),
    "nonsense": RawAnswer(200, {"surprise": [{"token": "s3cret-of-the-page"}]}),
    "blank": RawAnswer(200, "<html><body></body></html>"),
    "teapot": RawAnswer(418, {"message": "I am a teapot"}),
    **{f"to_{name}": RawAnswer(302, "", {"Location": to}) for name, to in REDIRECTS.items()},
}
