"""The error responses of handlers, each with its code."""

from aiohttp import web

__all__ = [
    "InvalidBody",
    "InvalidParameter",
    "KeyRequired",
    "NotConvertible",
    "NotStored",
    "WebhooksDisabled",
]


class InvalidBody(web.HTTPBadRequest):
    """The body is not valid for the route."""

    code = "invalid_body"


class InvalidParameter(web.HTTPBadRequest):
    """A part of the path or query is not valid for the route."""

    code = "invalid_parameter"


class KeyRequired(web.HTTPForbidden):
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__(text="Set API_KEY: without a key, anyone could change the login")


class WebhooksDisabled(web.HTTPForbidden):
    code = "webhooks_disabled"

    def __init__(self) -> None:
        super().__init__(text="This server sends no webhooks: its operator must set WEBHOOK_HOSTS")


class NotConvertible(web.HTTPUnprocessableEntity):
    code = "not_convertible"

    def __init__(self) -> None:
        super().__init__(text="ffmpeg cannot convert the file")


class NotStored(web.HTTPNotFound):
    code = "not_stored"

    def __init__(self) -> None:
        super().__init__(text="The post is not stored")
