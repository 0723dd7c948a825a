import logging
from typing import Any, ClassVar

import pytest
from aiohttp import web

from middlewares.errors import errors

ID = web.RequestKey("id", str)


class Late(Exception):
    retry_after = 0.2


class Later(Late):
    retry_after = 12.1


class Detailed(Late):
    detail = "by far"
    fields: ClassVar = {"seconds": 9}


class Coded(web.HTTPConflict):
    code = "of_another_kind"


TABLE = {
    Late: (503, "too_late", "Too late"),
    LookupError: (404, "nothing_there", "Nothing there"),
}


async def fail(request: web.Request) -> web.StreamResponse:
    if "id" in request.query:
        request[ID] = request.query["id"]
    raise {
        "late": Late(),
        "later": Later(),
        "detailed": Detailed(),
        "key": KeyError("a secret"),
        "value": ValueError("a secret"),
        "chained": _chained(),
        "gone": web.HTTPGone(text="It left"),
        "plain": web.HTTPGone(),
        "large": web.HTTPRequestEntityTooLarge(10, 11, text="Too large"),
        "range": web.HTTPRequestRangeNotSatisfiable(text="Too far"),
        "coded": Coded(text="Of another kind"),
        "found": web.HTTPFound("/elsewhere"),
        "limited": web.HTTPTooManyRequests(headers={"Retry-After": "7"}),
    }[request.match_info["kind"]]


def _chained() -> Exception:
    error = ValueError("ours")
    error.__cause__ = KeyError("theirs")
    return error


@pytest.fixture
async def client(aiohttp_client: Any) -> Any:
    app = web.Application(middlewares=[errors(TABLE, request_id=ID)])
    app.router.add_get("/{kind}", fail)
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    ("kind", "status", "code", "error"),
    [
        ("late", 503, "too_late", "Too late"),
        ("later", 503, "too_late", "Too late"),
        ("key", 404, "nothing_there", "Nothing there"),
        ("gone", 410, "gone", "It left"),
        ("plain", 410, "gone", "Gone"),
        ("large", 413, "body_too_large", "Too large"),
        ("range", 416, "range_not_satisfiable", "Too far"),
        ("coded", 409, "of_another_kind", "Of another kind"),
        ("value", 500, "internal_error", "Internal server error"),
        ("chained", 500, "internal_error", "Internal server error"),
    ],
)
async def test_an_exception_gets_the_response_in_the_table(
    client: Any, kind: str, status: int, code: str, error: str
) -> None:
    response = await client.get(f"/{kind}")
    assert (response.status, await response.json()) == (status, {"error": error, "code": code})


async def test_an_unknown_route_or_method_gets_json(client: Any) -> None:
    response = await client.get("/a/b")
    assert (response.status, await response.json()) == (
        404,
        {"error": "Not Found", "code": "not_found"},
    )
    response = await client.post("/late")
    assert (response.status, await response.json()) == (
        405,
        {"error": "Method Not Allowed", "code": "method_not_allowed"},
    )
    assert response.headers["Allow"] == "GET,HEAD"


async def test_an_exception_may_add_to_the_message_and_the_body(client: Any) -> None:
    response = await client.get("/detailed")
    expected = {"error": "Too late: by far", "code": "too_late", "seconds": 9}
    assert await response.json() == expected


async def test_the_response_has_the_request_id_if_there_is_one(client: Any) -> None:
    response = await client.get("/late?id=mine")
    assert await response.json() == {"error": "Too late", "code": "too_late", "request_id": "mine"}


@pytest.mark.parametrize(("kind", "seconds"), [("late", "1"), ("later", "13"), ("limited", "7")])
async def test_retry_after_is_in_whole_seconds(client: Any, kind: str, seconds: str) -> None:
    response = await client.get(f"/{kind}")
    assert response.headers["Retry-After"] == seconds


async def test_a_redirect_is_not_changed(client: Any) -> None:
    response = await client.get("/found", allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (302, "/elsewhere")


async def test_an_unexpected_error_is_logged_but_not_disclosed(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "middlewares.errors"):
        response = await client.get("/value")
    assert "secret" not in await response.text()
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_an_error_in_an_inner_middleware_gets_json(aiohttp_client: Any) -> None:
    @web.middleware
    async def broken(request: web.Request, handler: Any) -> web.StreamResponse:
        raise RuntimeError

    client = await aiohttp_client(web.Application(middlewares=[errors({}), broken]))
    response = await client.get("/")
    assert (response.status, await response.json()) == (
        500,
        {"error": "Internal server error", "code": "internal_error"},
    )
