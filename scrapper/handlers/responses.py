"""What clients are answered: models that describe it, for the API's description alone."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Error", "Job", "MediaFile", "Post", "PostPage", "Readiness"]


class _Answer(BaseModel):
    # So that an answer with a key that is not told of here is outside the description.
    model_config = ConfigDict(extra="forbid")


class Error(_Answer):
    """Why there is no other answer."""

    error: str
    request_id: str


class MediaFile(_Answer):
    """A stored file; ``size`` is in bytes, ``width`` and ``height`` in pixels."""

    type: Literal["video", "image"]
    path: str = Field(description="Where the service has it")
    url: str = Field(description="Where this API gives it")
    cdn_url: str = Field(description="Where it came from; signed, and valid for some days")
    size: int = Field(ge=1)
    width: int | None
    height: int | None


class Post(_Answer):
    """A stored post."""

    shortcode: str = Field(pattern="^[A-Za-z0-9_-]{5,64}$")
    video: str | None = Field(description="Path of the first video")
    description: str = Field(description="The caption, or empty")
    cdn_url: str
    original_url: str
    media: list[MediaFile] = Field(min_length=1, description="In Instagram's order")
    thumbnail: MediaFile | None = Field(description="Cover of the first video")
    owner: str
    taken_at: str = Field(description="RFC 3339")
    cached: bool = Field(description="Whether it came from disk")


class PostPage(_Answer):
    """Some stored posts, newest first."""

    posts: list[Post]
    next_cursor: str | None = Field(description="Where the next page begins")


class JobPost(_Answer):
    """One URL of a job."""

    url: str
    shortcode: str | None
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    bytes_done: int = Field(ge=0)
    bytes_total: int | None
    status: int | None = Field(description="The status that /scrape would answer")
    error: str | None
    retry_after: int | None = Field(description="Seconds")


class Job(_Answer):
    """A batch of posts."""

    id: str
    state: Literal["running", "done", "cancelled"]
    created_at: str = Field(description="RFC 3339")
    posts: list[JobPost]


class LoginStanding(_Answer):
    """What was learned of Instagram in one login state."""

    sources: list[str] = Field(description="In the order in which they are asked")
    allowed: int = Field(description="Queries that the learned pace allows in a window")
    ceiling: int = Field(description="INSTAGRAM_MAX_QUERIES; 0: no limit")


class Readiness(BaseModel):
    """Whether a new post could be scraped now, by check."""

    instagram: dict[str, LoginStanding] = Field(description="By login state; no check")
    __pydantic_extra__: dict[str, bool]
    model_config = ConfigDict(extra="allow")
