"""``GET /events``: changes as server-sent events."""

from dataclasses import dataclass
from typing import Annotated, Literal

from aiohttp import web
from pydantic import ConfigDict, Field

from scrapper.handlers.clients import owner_of
from scrapper.handlers.jobs import LAST_EVENT
from scrapper.handlers.login import LoginResponse
from scrapper.handlers.openapi import Operation
from scrapper.handlers.resources import EVENTS, PROXY, STREAMS
from scrapper.handlers.streams import LAST_EVENT_ID, send_events
from scrapper.jobs.model import JobEvent, JobResponse
from scrapper.library.post_changes import Change

__all__ = ["events"]


@dataclass(slots=True)
class JobChange(JobResponse):
    """A new or changed job. ``posts`` has only the changed posts, or all posts of a new job."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    posts: list[JobEvent]  # type: ignore[assignment]


@dataclass(slots=True)
class ForgottenJob:
    """A job that was removed from the list."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    forgotten: Literal[True]


@dataclass(slots=True)
class PostChangeResponse:
    """A change to a stored post."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    shortcode: str
    change: Annotated[
        Change,
        Field(description="`changed`: the post was kept or released, or a plugin added a file"),
    ]


@dataclass(slots=True)
class Reset:
    """Events may have been lost, so the client must reload everything."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@Operation(
    id="followEvents",
    summary="Follow changes to jobs, posts and the login as server-sent events",
    tag="service",
    response=JobChange | ForgottenJob | PostChangeResponse | LoginResponse | Reset,
    events=("reset", "job", "post", "login"),
    parameters=(LAST_EVENT,),
)
async def events(request: web.Request) -> web.StreamResponse:
    """Stream changes to jobs, posts and the login as server-sent events.

    The stream begins with ``reset``, unless it resumes after ``Last-Event-ID``. After a ``reset``,
    the client must reload everything.
    """
    viewer = await owner_of(request)
    feed, last = request.app[EVENTS], request.headers.get(LAST_EVENT_ID, "")
    with request.app[STREAMS].counting(request.app[PROXY].client_of(request), request):
        async with feed.following():
            return await send_events(request, feed.after(last, viewer))
