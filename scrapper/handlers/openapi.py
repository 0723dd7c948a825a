"""The API's description in OpenAPI 3.1, made of the operation beside each route's handler."""

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, cast

from aiohttp import hdrs, web
from pydantic import TypeAdapter

from scrapper.handlers.operation import Content, Operation, Parameter, operation_of
from scrapper.handlers.responses import ErrorResponse

__all__ = ["describe_api"]

_ERRORS = {
    400: "The request cannot be understood; `code` and `error` say why",
    401: "The key is missing or wrong",
    403: "Instagram asks for a login or a checkpoint, or the service needs a key for this",
    404: "Nothing is there: no such post, job, file or route",
    408: "The body did not come in time",
    413: "The body is too large",
    422: "A file of the post is larger than the service takes",
    429: "A rate limit is reached, the service's or Instagram's",
    500: "A fault of the service",
    502: "Instagram's answer makes no sense, or is an error of its own",
    503: "Instagram cannot be reached, or too much is waiting",
    507: "The disk is full or read-only",
}
_OF_EVERY_OPERATION = (413, 429, 500)
_REQUEST_ID = {"X-Request-ID": {"required": True, "schema": {"type": "string"}}}
_RETRY_AFTER = {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}
_HEADERS_OF_STATUS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": {**_RETRY_AFTER, "required": True}},
    503: {"Retry-After": _RETRY_AFTER},
}
_TAGS = {
    "posts": "Download posts, and find what is stored",
    "jobs": "Download many posts in the background",
    "login": "The Instagram login, for posts that need one",
    "service": "How the service is",
}
_SCHEMAS = "#/components/schemas/{model}"


def describe_api(
    routes: Iterable[web.AbstractRoute],
    *,
    version: str,
    keyed: bool,
    max_url_length: int,
    server: str = "/",
) -> dict[str, Any]:
    """The description of *routes* under *server*; *keyed* says whether a key is needed."""
    operations = list(_operations(routes))
    schemas = _Schemas([operation for _, _, operation in operations])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in operations:
        item = paths.setdefault(path, {})
        item[method] = _operation(operation, schemas, keyed=keyed)
    components: dict[str, Any] = {"schemas": schemas.definitions}
    # The longest URL is a setting, which the model does not know.
    schemas.definitions["ScrapeRequest"]["properties"]["url"]["maxLength"] = max_url_length
    if keyed:
        components["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "instagram-scrapper",
            "version": version,
            "summary": "One Instagram post, by URL, as a file",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server, "description": "This service"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"key": []}, {"bearer": []}] if keyed else [],
        "paths": paths,
        "components": components,
    }


def _operations(routes: Iterable[web.AbstractRoute]) -> Iterator[tuple[str, str, Operation]]:
    seen = set()
    for route in routes:
        operation = operation_of(route.handler)
        if operation is None or route.method == hdrs.METH_HEAD or operation.id in seen:
            continue
        # With BASE_PATH each operation has two routes.
        seen.add(operation.id)
        if route.resource:
            yield route.resource.canonical, route.method.lower(), operation


class _Schemas:
    """The JSON schemas of everything that operations take and give, each stated once."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        types = [ErrorResponse]
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

    def of(self, type_: Any) -> dict[str, Any]:
        """A reference to the schema of *type_*."""
        return self._refs[cast(Any, (type_, "validation"))]


def _operation(operation: Operation, schemas: _Schemas, *, keyed: bool) -> dict[str, Any]:
    statuses = [*operation.errors, *_OF_EVERY_OPERATION]
    statuses += [401] if keyed and not operation.free else []
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            str(operation.status): _success(operation, schemas),
            **{str(status): _error(status, schemas) for status in sorted(statuses)},
            **{
                str(status): _response(text, _content(response, schemas))
                for status, (text, response) in operation.more.items()
            },
        },
    }
    if operation.free:
        described["security"] = []
    if operation.body is not None:
        content = _content(operation.body, schemas) | _content(operation.file_body, schemas)
        described["requestBody"] = {"required": operation.body_required, "content": content}
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    return described


def _success(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    content = _content(operation.response, schemas)
    if operation.events:
        content = {"text/event-stream": {"schema": _event(content["application/json"]["schema"])}}
    text = HTTPStatus(operation.status).phrase
    streamed = operation.events or isinstance(operation.response, Content)
    headers = {**({} if streamed else _REQUEST_ID), **operation.headers}
    return _response(text, content, headers)


def _event(data: dict[str, Any]) -> dict[str, Any]:
    """The schema of a server-sent event whose data is JSON of the schema *data*."""
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"type": "string", "enum": ["post", "end"]},
            "id": {"type": "string"},
            "data": text,
        },
    }


def _error(status: int, schemas: _Schemas) -> dict[str, Any]:
    headers = {**_REQUEST_ID, **_HEADERS_OF_STATUS.get(status, {})}
    return _response(_ERRORS[status], _content(ErrorResponse, schemas), headers)


def _response(
    text: str, content: dict[str, Any], headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    described: dict[str, Any] = {"description": text}
    if headers:
        described["headers"] = headers
    if content:
        described["content"] = content
    return described


def _content(response: Any, schemas: _Schemas) -> dict[str, Any]:
    if response is None:
        return {}
    if isinstance(response, Content):
        return {type_: {"schema": dict(response.schema)} for type_ in response.types}
    return {"application/json": {"schema": schemas.of(response)}}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "schema": dict(parameter.schema),
    }
    if parameter.description:
        described["description"] = parameter.description
    return described
