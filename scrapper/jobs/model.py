"""A job: a batch of posts that one client asked for, and how far each of them is."""

import secrets
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from scrapper.errors import ANSWERS, InvalidURL, UnsupportedLink
from scrapper.links import read_link

__all__ = ["Job", "JobPost", "PostState", "new_job"]

PostState = Literal["queued", "running", "done", "failed", "cancelled"]

_EPOCH = secrets.token_hex(4)


@dataclass(slots=True)
class JobPost:
    """One URL of a job.

    ``status``, ``error`` and ``retry_after`` (seconds) are those that ``POST /scrape`` would
    answer, once there is an outcome; ``bytes_total`` is None until the CDN tells it.
    """

    url: str
    shortcode: str | None
    state: PostState = "queued"
    bytes_done: int = 0
    bytes_total: int | None = None
    status: int | None = None
    error: str | None = None
    retry_after: int | None = None

    @property
    def unfinished(self) -> bool:
        """Whether there is still something to do for it."""
        return self.state in ("queued", "running")

    def fail(self, status: int, error: str, retry_after: int | None = None) -> None:
        """Note the outcome of a post that could not be had."""
        self.state, self.status, self.error = "failed", status, error
        self.retry_after = retry_after

    def to_json(self) -> dict[str, Any]:
        """What clients are told."""
        return {
            "url": self.url,
            "shortcode": self.shortcode,
            "state": self.state,
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "status": self.status,
            "error": self.error,
            "retry_after": self.retry_after,
        }


@dataclass(slots=True)
class Job:
    """A batch of posts; ``created_at`` is a unix time.

    Its changes are counted by this process, as those of ``epoch``, unless :meth:`note` tells
    the count of another.
    """

    id: str
    created_at: float
    posts: list[JobPost]
    epoch: str = _EPOCH
    _version: int = 0
    _seen: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    @property
    def state(self) -> Literal["running", "done", "cancelled"]:
        """``running`` until every post has an outcome; ``cancelled`` if that is some post's."""
        if any(post.unfinished for post in self.posts):
            return "running"
        cancelled = any(post.state == "cancelled" for post in self.posts)
        return "cancelled" if cancelled else "done"

    @property
    def version(self) -> int:
        """The number of the last change."""
        return self._version

    def note(self, index: int, version: int) -> None:
        """Take note that the post at *index* is as change number *version* made it."""
        self._version = max(self._version, version)
        self._seen[index] = (version, self._told(index))

    def changes(self, since: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The posts that changed after version *since*, oldest change first.

        Each with the version that its change made: an integer that grows by one a change. What
        happened to a post between two calls is one change.
        """
        for index in range(len(self.posts)):
            if index not in self._seen or self._seen[index][1] != self._told(index):
                self.note(index, self._version + 1)
        yield from sorted(
            (change for change in self._seen.values() if change[0] > since),
            key=lambda change: change[0],
        )

    def to_json(self) -> dict[str, Any]:
        """What clients are told."""
        return {
            "id": self.id,
            "state": self.state,
            "created_at": f"{datetime.fromtimestamp(self.created_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "posts": [post.to_json() for post in self.posts],
        }

    def _told(self, index: int) -> dict[str, Any]:
        return {"index": index, **self.posts[index].to_json()}


def new_job(urls: Sequence[str], *, max_url_length: int) -> Job:
    """A job of *urls*; those that are not of a post have failed at once."""
    posts = [_post(url, max_url_length) for url in urls]
    return Job(uuid.uuid4().hex, time.time(), posts)


def _post(url: str, max_url_length: int) -> JobPost:
    try:
        link = read_link(url, max_length=max_url_length)
        return JobPost(url, link if isinstance(link, str) else None)
    except (InvalidURL, UnsupportedLink) as error:
        post = JobPost(url, None)
        post.fail(*ANSWERS[type(error)])
        return post
