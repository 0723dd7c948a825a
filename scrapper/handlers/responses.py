"""Response models for the OpenAPI description, except those of posts and jobs."""

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

    error: Annotated[str, Field(description="Message for people; its wording may change")]
    code: Annotated[str, Field(description="Stable error code for programs")]
    request_id: str
    smallest_size: Annotated[
        int | None,
        Field(description="With `media_too_large`: size of the smallest file in bytes, if known"),
    ] = None


@dataclass(frozen=True, slots=True)
class ListingResponse:
    """A page of stored posts, in the requested order."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    posts: list[PostResponse]
    next_cursor: Annotated[
        str | None, Field(description="Cursor of the next page; null on the last page")
    ]


@dataclass(frozen=True, slots=True)
class PostOutcome:
    """The outcome for one post of a bulk request."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    shortcode: str
    status: Annotated[int, Field(description="HTTP status that the post's own route would return")]
    code: Annotated[str | None, Field(description="Error code for programs; null on success")]


@dataclass(frozen=True, slots=True)
class BulkResponse:
    """The outcome for each post, in the order of the request."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    posts: list[PostOutcome]


@dataclass(frozen=True, slots=True)
class JobListing:
    """A page of jobs, newest first."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    jobs: list[JobResponse]
    next_cursor: Annotated[
        str | None, Field(description="Cursor of the next page; null on the last page")
    ]


@dataclass(frozen=True, slots=True)
class LoginStanding:
    """What the service has learned about Instagram, with or without a login."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    sources: Annotated[list[str], Field(description="Sources in the order in which they are tried")]
    allowed: Annotated[
        int, Field(description="Number of queries per window that the learned pace allows")
    ]
    ceiling: Annotated[int, Field(description="INSTAGRAM_MAX_QUERIES; 0 means no limit")]
    queries: Annotated[
        dict[str, str],
        Field(description="Replacements that the service found for retired query documents"),
    ] = field(default_factory=dict)


class ReadyResponse(BaseModel):
    """Whether a new post could be scraped now, with the result of each check."""

    instagram: dict[str, LoginStanding] = Field(
        description="What the service has learned about Instagram, with and without a login; does "
        "not affect the status"
    )
    login: State = Field(description="State of the Instagram login; does not affect the status")
    __pydantic_extra__: dict[str, bool]
    model_config = ConfigDict(extra="allow")
