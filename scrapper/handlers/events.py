"""``GET /events``: what changes, as server-sent events."""

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
from scrapper.library.news import Change

__all__ = ["events"]


@dataclass(slots=True)
class JobChange(JobResponse):
    """A job that changed; ``posts`` has those that changed, or all if the job is new."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    posts: list[JobEvent]  # type: ignore[assignment]


@dataclass(slots=True)
class ForgottenJob:
    """A job that is gone."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    forgotten: Literal[True]


@dataclass(slots=True)
class PostChangeResponse:
    """What became of a stored post."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    shortcode: str
    change: Annotated[
        Change,
        Field(description="`changed`: it was kept or released, or a plugin added to it"),
    ]


@dataclass(slots=True)
class Reset:
    """Events may have been missed."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@Operation(
    id="followEvents",
    summary="What changes, as server-sent events: `job`, `post`, `login`, and `reset`",
    tag="service",
    response=JobChange | ForgottenJob | PostChangeResponse | LoginResponse | Reset,
    events=("reset", "job", "post", "login"),
    parameters=(LAST_EVENT,),
)
async def events(request: web.Request) -> web.StreamResponse:
    """Changes of jobs, posts and the login, as server-sent events, without an end.

    A stream begins with ``reset`` (load everything anew), unless it resumes after
    ``Last-Event-ID``.
    """
    viewer = await owner_of(request)
    feed, last = request.app[EVENTS], request.headers.get(LAST_EVENT_ID, "")
    with request.app[STREAMS].one_of(request.app[PROXY].client_of(request), request):
        async with feed.following():
            return await send_events(request, feed.after(last, viewer))
