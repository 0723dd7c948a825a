"""The API as OpenAPI describes it."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from scrapper.handlers.request_bodies import JobRequest, ScrapeRequest
from scrapper.handlers.responses import Error, Job, MediaFile, Post, PostPage, Readiness

__all__ = ["describe_api"]

_MODELS: tuple[type[BaseModel], ...] = (
    ScrapeRequest,
    JobRequest,
    Post,
    MediaFile,
    PostPage,
    Job,
    Readiness,
    Error,
)
_TOLD = {
    304: "It did not change since the client had it",
    400: "The request is not one that can be understood",
    401: "`X-API-Key` is missing or wrong",
    403: "The post is private, or Instagram asks for a login, a checkpoint or a challenge",
    404: "There is none such",
    408: "The body did not come in time",
    412: "It is not as the client expects it to be",
    413: "The body is too large",
    416: "The file has no such part",
    422: "A file of the post is larger than the service takes",
    429: "A rate limit is reached, Instagram's or this service's",
    500: "A fault of the service",
    502: "Instagram's answer makes no sense, or is an error of its own",
    503: "Instagram cannot be reached or not in time, or too much is waiting",
    507: "The disk is full or read-only",
}
_SHORTCODE = {"type": "string", "pattern": "^[A-Za-z0-9_-]{5,64}$"}
_CURSOR = {"type": "string", "pattern": "^[0-9]{1,10}\\.[0-9]{9}~[A-Za-z0-9_-]{5,64}$"}
_URL = (
    "^https://(www\\.)?instagram\\.com/([A-Za-z0-9._]{1,30}/)?"
    "(p|reel|reels|tv)/[A-Za-z0-9_-]{5,64}([/?#][!-~]*)?$"
)
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["post", "end"]},
        "id": {"type": "string"},
        "data": {"type": "string", "description": "JSON: a post of the job, or the job"},
    },
}
_REQUEST_ID = {"X-Request-ID": {"required": True, "schema": {"type": "string"}}}
_RETRY_AFTER = {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}
_OF_STATUS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": {**_RETRY_AFTER, "required": True}},
    503: {"Retry-After": _RETRY_AFTER},
}
_METRICS = {"text/plain": {"schema": {"type": "string"}}}
_COMMON = (413, 429, 500)


def describe_api(*, keyed: bool, max_url_length: int) -> dict[str, Any]:
    """The API as OpenAPI 3.1 has it; *keyed* tells whether a key is needed."""
    _, schemas = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )
    # Checked by urls.py, which knows what no pattern can tell.
    url = schemas["$defs"]["ScrapeRequest"]["properties"]["url"]
    url |= {"pattern": _URL, "maxLength": max_url_length}
    components: dict[str, Any] = {"schemas": schemas["$defs"]}
    if keyed:
        scheme = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        components["securitySchemes"] = {"key": scheme}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "instagram-scrapper",
            "version": "0.1.0",
            "description": "Instagram posts, by URL, as files.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": _paths(keyed),
        "components": components,
    }


def _paths(keyed: bool) -> dict[str, Any]:
    shortcode = _parameter("shortcode", "path", _SHORTCODE)
    job_id = _parameter("id", "path", {"type": "string", "minLength": 1})
    whole = _file("The file")

    def operation(
        summary: str,
        responses: dict[str, Any],
        *statuses: int,
        body: type[BaseModel] | None = None,
        parameters: tuple[dict[str, Any], ...] = (),
    ) -> dict[str, Any]:
        errors = _errors(*statuses, *_COMMON, *([401] if keyed else []))
        described: dict[str, Any] = {"summary": summary, "responses": {**responses, **errors}}
        if body is not None:
            described["requestBody"] = {"required": True, "content": _json(body)}
        if parameters:
            described["parameters"] = list(parameters)
        if keyed:
            described["security"] = [{"key": []}]
        return described

    return {
        "/scrape": {
            "post": operation(
                "Download a post, or answer it from disk",
                _ok(Post),
                *(400, 403, 404, 408, 422, 502, 503, 507),
                body=ScrapeRequest,
            )
        },
        "/jobs": {
            "post": operation(
                "Download posts in the background",
                {
                    "202": {
                        "description": "The job has begun",
                        "headers": {
                            **_REQUEST_ID,
                            "Location": {"required": True, "schema": {"type": "string"}},
                        },
                        "content": _json(Job),
                    }
                },
                *(400, 408, 503, 507),
                body=JobRequest,
            )
        },
        "/jobs/{id}": {
            "parameters": [job_id],
            "get": operation("A job, and how far each of its posts is", _ok(Job), 404),
            "delete": operation("Give up those of its posts that wait", _ok(Job), 404, 507),
        },
        "/jobs/{id}/events": {
            "parameters": [job_id],
            "get": operation(
                "The same as server-sent events, `post` for each change and `end`",
                {
                    "200": {
                        "description": "Events until the job's end",
                        "content": {"text/event-stream": {"schema": _EVENT}},
                    },
                    "204": {"description": "There are no more"},
                },
                404,
                parameters=(_parameter("Last-Event-ID", "header", {"type": "string"}),),
            ),
        },
        "/posts": {
            "get": operation(
                "The stored posts, newest first",
                _ok(PostPage),
                400,
                parameters=(
                    _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 100}),
                    _parameter("cursor", "query", _CURSOR),
                ),
            )
        },
        "/posts/{shortcode}": {
            "parameters": [shortcode],
            "get": operation("A stored post", _ok(Post), 400, 404),
            "delete": operation(
                "Remove a stored post", {"204": {"description": "It is gone"}}, 400, 404, 507
            ),
        },
        "/media/{shortcode}/{filename}": {
            "parameters": [
                shortcode,
                _parameter("filename", "path", {"type": "string", "minLength": 1}),
            ],
            "get": operation("A file of a stored post, inline", whole, 400, 404),
        },
        "/download/{shortcode}": {
            "parameters": [shortcode],
            "get": operation(
                "The main file of a stored post, one of its files, or all, as an attachment",
                whole,
                *(400, 404),
                parameters=(
                    _parameter("item", "query", {"type": "integer", "minimum": 1}),
                    _parameter("archive", "query", {"type": "string", "enum": ["zip"]}),
                ),
            ),
        },
        "/metrics": {
            "get": operation(
                "The service's figures, for Prometheus",
                {"200": {"description": "Prometheus's text format", "content": _METRICS}},
            )
        },
        "/health": {
            "get": {
                "summary": "Whether the service runs",
                "responses": {
                    "200": {
                        "description": "`OK`",
                        "content": {"text/plain": {"schema": {"const": "OK"}}},
                    },
                    **_errors(*_COMMON),
                },
            }
        },
        "/ready": {
            "get": {
                "summary": "Whether a new post could be scraped now",
                "responses": {
                    **_ok(Readiness),
                    **_errors(*_COMMON),
                    "503": {"description": "It could not", "content": _json(Readiness)},
                },
            }
        },
    }


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _ok(model: type[BaseModel]) -> dict[str, Any]:
    about = (model.__doc__ or "").strip()
    return {"200": {"description": about, "headers": _REQUEST_ID, "content": _json(model)}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {
            "description": _TOLD[status],
            "headers": {**_REQUEST_ID, **_OF_STATUS.get(status, {})},
            "content": _json(Error),
        }
        for status in statuses
    }


def _file(what: str) -> dict[str, Any]:
    content = {
        content_type: {"schema": {"type": "string", "format": "binary"}}
        for content_type in ("video/mp4", "image/*", "application/zip")
    }
    return {
        "200": {"description": what, "content": content},
        "206": {"description": f"{what}, in part", "content": content},
        # aiohttp answers these by itself, with an empty body.
        **{str(status): {"description": _TOLD[status]} for status in (304, 412, 416)},
    }


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}
