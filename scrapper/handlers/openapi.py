"""Builds the API's OpenAPI 3.1 description from the operations declared with the handlers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal, TypeVar, cast

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from pydantic import TypeAdapter

from scrapper import __version__
from scrapper.handlers.resources import API_KEYS, SETTINGS
from scrapper.handlers.responses import ErrorResponse
from scrapper.jobs.model import JobResponse
from scrapper.serving.base_path import BASE_PATH

__all__ = ["FILE", "TEXT", "Content", "Operation", "Parameter", "describe_api", "openapi"]

_ATTRIBUTE = "openapi_operation"
_ERRORS = {
    400: "The request is invalid; see `code` and `error`",
    401: "The key is missing or wrong",
    403: "The post needs a login, Instagram wants the account confirmed in a browser, the service "
    "has no key, the service allows no webhooks, or a page of another site made the request",
    404: "There is no such post, job, file or route",
    408: "The body did not arrive in time",
    409: "An unfinished job cannot be removed from the list",
    412: "The file is not the version that the client requires",
    413: "The body is too large",
    416: "The requested range is invalid, or begins after the end of the file",
    421: "The service does not accept this host name",
    422: "Every file is larger than `max_mb` or MAX_MEDIA_MB, or ffmpeg cannot read the file",
    429: "A rate limit of the service or of Instagram was reached",
    500: "Internal error",
    502: "The service does not understand Instagram's answer, Instagram answered with a server "
    "error, or no file could be downloaded completely",
    503: "Instagram cannot be reached, the service is busy, or the media folder's disk is missing",
    507: "Nothing can be stored, because the disk is full or read-only",
}
_COMMON_ERRORS = (413, 421, 429, 500, 503)
_REQUEST_ID = {"X-Request-ID": {"required": True, "schema": {"type": "string"}}}
_RETRY_AFTER = {
    "description": "Seconds to wait before retrying",
    "schema": {"type": "integer", "minimum": 1},
}
_HEADERS_OF_STATUS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    416: {"Content-Range": {"required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": {**_RETRY_AFTER, "required": True}},
    503: {"Retry-After": _RETRY_AFTER},
}
_TAGS = {
    "posts": "Download posts, and find stored ones",
    "jobs": "Download many posts in the background",
    "login": "The Instagram login, for posts that need one",
    "service": "The state of the service",
}
_WEBHOOK_HEADERS = (
    ("webhook-id", "Unique ID of the message; a retry has the same ID"),
    ("webhook-timestamp", "Unix time of this attempt, in seconds"),
    ("webhook-signature", "`v1,` followed by a base64-encoded HMAC with WEBHOOK_SECRET as the key"),
)
_SCHEMAS = "#/components/schemas/{model}"

Described = TypeVar("Described", bound=Handler)


@dataclass(frozen=True, slots=True)
class Content:
    """A body that is not JSON: its media types, and its OpenAPI 3.1 schema."""

    types: Sequence[str]
    schema: Mapping[str, Any]


FILE = Content(
    ("application/octet-stream", "video/mp4", "image/*", "application/zip"),
    {"type": "string", "format": "binary"},
)
TEXT = Content(("text/plain",), {"type": "string"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route: its location, and its OpenAPI 3.1 schema."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Mapping[str, Any]
    description: str = ""
    required: bool = False
    """Path parameters are always required."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the API. It decorates its handler.

    ``response`` describes the body on success: the type of the JSON, a :class:`Content`, or None if
    there is no body. If ``events`` lists the names of server-sent events, ``response`` is the type
    of each event's data. ``body`` is the type of the request's JSON, and ``file_body`` is an
    alternative to it. ``errors`` lists the error statuses other than those that every operation may
    return. ``more`` maps the status of each further response to its description and body. A
    ``free`` operation requires no key.
    """

    id: str
    summary: str
    tag: str
    response: Any = None
    status: int = 200
    errors: Sequence[int] = ()
    body: Any = None
    body_required: bool = True
    file_body: Content | None = None
    parameters: Sequence[Parameter] = ()
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more: Mapping[int, tuple[str, Any]] = field(default_factory=dict)
    events: Sequence[str] = ()
    free: bool = False

    def __call__(self, handler: Described) -> Described:
        handler.__dict__[_ATTRIBUTE] = self
        return handler


def openapi() -> Handler:
    """Return a handler for ``GET /openapi.json``, which builds the description on first use.

    Building it takes time and memory, and few clients ever request it.
    """

    # Bounded, because the server URL depends on headers that a trusted proxy sets.
    @lru_cache(maxsize=8)
    def build(server: str, app: web.Application) -> bytes:
        return orjson.dumps(describe_api(app, server))

    async def handler(request: web.Request) -> web.StreamResponse:
        server = request.app[BASE_PATH].prefix_of(request) or "/"
        body = await asyncio.to_thread(build, server, request.app)
        return web.Response(body=body, content_type="application/json")

    return handler


def describe_api(app: web.Application, server: str) -> dict[str, Any]:
    """Return the OpenAPI description of *app* for the server URL *server*.

    Routes whose handlers have no operation, such as pages, are omitted.
    """
    needs_key, max_url_length = app[API_KEYS].needed, app[SETTINGS].max_url_length
    operations: dict[str, tuple[str, str, Operation]] = {}
    for route in app.router.routes():
        operation = getattr(route.handler, _ATTRIBUTE, None)
        if operation and route.resource and route.method != hdrs.METH_HEAD:
            # With BASE_PATH, each operation has two routes; only the first is described.
            described = route.resource.canonical, route.method.lower(), operation
            operations.setdefault(operation.id, described)
    describer = _Describer([operation for _, _, operation in operations.values()])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in operations.values():
        paths.setdefault(path, {})[method] = describer.operation(method, operation)
    components: dict[str, Any] = {"schemas": describer.definitions}
    # The maximum length of a URL is a setting, so the model cannot declare it.
    describer.definitions["ScrapeRequest"]["properties"]["url"]["maxLength"] = max_url_length
    components["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "instagram-scrapper",
            "version": __version__,
            "summary": "Downloads Instagram posts by URL",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server, "description": "This service"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        # Even if no key is needed, generated clients should be able to send one.
        "security": [*([] if needs_key else [{}]), {"key": []}, {"bearer": []}],
        "paths": paths,
        "webhooks": {"jobEnded": {"post": describer.webhook()}},
        "components": components,
    }


class _Describer:
    """Describes *operations*, with one shared schema for each type."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        types: list[Any] = [ErrorResponse, JobResponse]
        for operation in operations:
            more = (response for _, response in operation.more.values())
            types += [
                type_
                for type_ in (operation.response, operation.body, *more)
                if type_ is not None and not isinstance(type_, Content)
            ]
        inputs = [(type_, "validation", TypeAdapter(type_)) for type_ in dict.fromkeys(types)]
        self._refs, definitions = TypeAdapter.json_schemas(cast(Any, inputs), ref_template=_SCHEMAS)
        self.definitions: dict[str, Any] = definitions["$defs"]

    def operation(self, method: str, operation: Operation) -> dict[str, Any]:
        statuses = {*operation.errors, *_COMMON_ERRORS}
        if not operation.free:
            statuses.add(401)
        if method != "get":
            # The browser guard rejects changes requested by other sites' pages.
            statuses.add(403)
        described: dict[str, Any] = {
            "operationId": operation.id,
            "summary": operation.summary,
            "tags": [operation.tag],
            "responses": {
                str(operation.status): self._success(operation),
                **{str(status): self._error(status) for status in sorted(statuses)},
                **{
                    str(status): _response(text, self._content(response))
                    for status, (text, response) in operation.more.items()
                },
            },
        }
        if operation.free:
            described["security"] = []
        if operation.body is not None:
            content = self._content(operation.body) | self._content(operation.file_body)
            described["requestBody"] = {"required": operation.body_required, "content": content}
        if operation.parameters:
            described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
        return described

    def webhook(self) -> dict[str, Any]:
        """Describe the request that is sent to a job's ``webhook`` when the job ends."""
        return {
            "operationId": "jobEnded",
            "summary": "Sent when a job ends; signed according to Standard Webhooks",
            "tags": ["jobs"],
            "security": [],
            "parameters": [
                _parameter(Parameter(name, "header", {"type": "string"}, text, required=True))
                for name, text in _WEBHOOK_HEADERS
            ],
            "requestBody": {"required": True, "content": self._content(JobResponse)},
            "responses": {
                "2XX": {"description": "Delivered"},
                "410": {"description": "The service stops retrying"},
                "default": {"description": "The service retries later"},
            },
        }

    def _success(self, operation: Operation) -> dict[str, Any]:
        content = self._content(operation.response)
        if operation.events:
            data = content["application/json"]["schema"]
            content = {"text/event-stream": {"schema": _event(operation.events, data)}}
        text = HTTPStatus(operation.status).phrase
        streamed = operation.events or isinstance(operation.response, Content)
        headers = {**({} if streamed else _REQUEST_ID), **operation.headers}
        return _response(text, content, headers)

    def _error(self, status: int) -> dict[str, Any]:
        headers = {**_REQUEST_ID, **_HEADERS_OF_STATUS.get(status, {})}
        return _response(_ERRORS[status], self._content(ErrorResponse), headers)

    def _content(self, response: Any) -> dict[str, Any]:
        if response is None:
            return {}
        if isinstance(response, Content):
            return {type_: {"schema": dict(response.schema)} for type_ in response.types}
        return {"application/json": {"schema": self._refs[response, "validation"]}}


def _event(names: Sequence[str], data: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a server-sent event whose JSON data has the schema *data*."""
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"type": "string", "enum": list(names)},
            "id": {"type": "string"},
            "data": text,
        },
    }


def _response(
    text: str, content: dict[str, Any], headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    parts = {"description": text, "headers": headers, "content": content}
    return {name: part for name, part in parts.items() if part}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "schema": dict(parameter.schema),
        **({"description": parameter.description} if parameter.description else {}),
    }
