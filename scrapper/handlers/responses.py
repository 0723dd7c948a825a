"""Shapes of responses other than a post's and a job's, for the API's description."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from scrapper.instagram.login.file import State
from scrapper.jobs.model import JobResponse
from scrapper.library.response import PostResponse

__all__ = [
    "BulkResponse",
    "ErrorResponse",
    "JobListing",
    "ListingResponse",
    "LoginStanding",
    "PostOutcome",
    "ReadyResponse",
]


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Why a request failed."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    error: Annotated[str, Field(description="For people; it may be reworded")]
    code: Annotated[str, Field(description="For programs; it is stable")]
    request_id: str
    smallest_size: Annotated[
        int | None,
        Field(description="With `media_too_large`: bytes of the smallest file, if known"),
    ] = None


@dataclass(frozen=True, slots=True)
class ListingResponse:
    """Some stored posts, newest first."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    posts: list[PostResponse]
    next_cursor: Annotated[str | None, Field(description="Where the next listing begins")]


@dataclass(frozen=True, slots=True)
class PostOutcome:
    """What became of one post of several."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    shortcode: str
    status: Annotated[int, Field(description="As the post's own route would give it")]
    code: Annotated[str | None, Field(description="The error's code, for programs")]


@dataclass(frozen=True, slots=True)
class BulkResponse:
    """What became of each post, in the order of the request."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    posts: list[PostOutcome]


@dataclass(frozen=True, slots=True)
class JobListing:
    """Some jobs, newest first."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    jobs: list[JobResponse]
    next_cursor: Annotated[str | None, Field(description="Where the next listing begins")]


@dataclass(frozen=True, slots=True)
class LoginStanding:
    """What the service has learned of Instagram in one login state."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    sources: Annotated[list[str], Field(description="In the order in which they are asked")]
    allowed: Annotated[int, Field(description="Queries that the learned pace allows in a window")]
    ceiling: Annotated[int, Field(description="INSTAGRAM_MAX_QUERIES; 0: no limit")]
    queries: Annotated[
        dict[str, str],
        Field(description="Documents that the service found to replace retired ones"),
    ] = field(default_factory=dict)


class ReadyResponse(BaseModel):
    """Whether a new post could be scraped now, by check."""

    instagram: dict[str, LoginStanding] = Field(description="By login state; not a check")
    login: State = Field(description="Not a check")
    __pydantic_extra__: dict[str, bool]
    model_config = ConfigDict(extra="allow")
