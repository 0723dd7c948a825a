"""A job: a batch of posts that one client asked for, and how far each of them is."""

import secrets
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from scrapper.errors import RESPONSES, InvalidURL, UnsupportedLink
from scrapper.links import read_link

__all__ = ["Job", "JobEvent", "JobPost", "JobResponse", "PostState", "new_job"]

PostState = Literal["queued", "running", "done", "failed", "cancelled"]
JobState = Literal["running", "done", "cancelled"]

_EPOCH = secrets.token_hex(4)


@dataclass(slots=True)
class JobPost:
    """One URL of a job.

    ``status``, ``code``, ``error`` and ``retry_after`` (seconds) are what ``POST /scrape`` would
    give, once there is an outcome. ``bytes_total`` is None until the CDN says it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    url: str
    shortcode: str | None
    state: PostState = "queued"
    bytes_done: Annotated[int, Field(ge=0)] = 0
    bytes_total: Annotated[int | None, Field(description="Known once the CDN says it")] = None
    status: Annotated[int | None, Field(description="The status that /scrape would give")] = None
    error: str | None = None
    retry_after: Annotated[int | None, Field(description="Seconds")] = None
    code: Annotated[str | None, Field(description="What went wrong, for programs")] = None

    @property
    def unfinished(self) -> bool:
        """Whether the post has no outcome yet."""
        return self.state in ("queued", "running")

    def fail(self, status: int, code: str, error: str, retry_after: int | None = None) -> None:
        """Note that the post failed."""
        self.state, self.status, self.code, self.error = "failed", status, code, error
        self.retry_after = retry_after

    def to_json(self) -> dict[str, Any]:
        """The post's fields, in order: what clients receive, and what is stored."""
        return {name: getattr(self, name) for name in _POST_FIELDS}


_POST_FIELDS = tuple(field.name for field in fields(JobPost))


@dataclass(slots=True)
class JobResponse:
    """A batch of posts."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    state: JobState
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    posts: list[JobPost]


@dataclass(slots=True)
class JobEvent(JobPost):
    """How one post of a job is; ``index`` is its place in the job."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    index: Annotated[int, Field(ge=0)] = 0


@dataclass(slots=True)
class Job:
    """A batch of posts; ``created_at`` is a unix time, ``client`` is who sent it.

    Its changes are numbered by this process, within an ``epoch``; :meth:`note` takes numbers that
    another process gave.
    """

    id: str
    created_at: float
    posts: list[JobPost]
    client: str | None = None
    epoch: str = _EPOCH
    _version: int = 0
    _seen: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    @property
    def state(self) -> JobState:
        """``running`` until all posts have outcomes; then ``done``, or ``cancelled`` if any is."""
        if any(post.unfinished for post in self.posts):
            return "running"
        cancelled = any(post.state == "cancelled" for post in self.posts)
        return "cancelled" if cancelled else "done"

    @property
    def version(self) -> int:
        """The number of the last change."""
        return self._version

    def note(self, index: int, version: int) -> None:
        """Note that change number *version* made the post at *index* what it is."""
        self._version = max(self._version, version)
        self._seen[index] = (version, self._told(index))

    def number_changes(self) -> None:
        """Give each post that changed since the last look a number."""
        for index in range(len(self.posts)):
            if index not in self._seen or self._seen[index][1] != self._told(index):
                self.note(index, self._version + 1)

    def changes(self, since: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The posts that changed after version *since*, oldest change first.

        Each comes with the number of its change. Whatever happened to a post between two calls
        counts as one change.
        """
        self.number_changes()
        yield from self.numbered_changes(since)

    def numbered_changes(self, since: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The same, of the changes that have a number already."""
        yield from sorted(
            (change for change in self._seen.values() if change[0] > since),
            key=lambda change: change[0],
        )

    def to_response(self) -> JobResponse:
        """What clients receive."""
        created_at = f"{datetime.fromtimestamp(self.created_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return JobResponse(self.id, self.state, created_at, self.posts)

    def _told(self, index: int) -> dict[str, Any]:
        return {"index": index, **self.posts[index].to_json()}


def new_job(urls: Sequence[str], *, max_url_length: int, client: str | None = None) -> Job:
    """A job of *urls* for *client*; links that are not a post's have failed at once."""
    posts = [_post(url, max_url_length) for url in urls]
    return Job(uuid.uuid4().hex, time.time(), posts, client=client)


def _post(url: str, max_url_length: int) -> JobPost:
    try:
        link = read_link(url, max_length=max_url_length)
        return JobPost(url, link if isinstance(link, str) else None)
    except (InvalidURL, UnsupportedLink) as error:
        post = JobPost(url, None)
        post.fail(*RESPONSES[type(error)])
        return post
