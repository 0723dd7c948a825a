"""Jobs: batches of posts that a client requested, and the progress of each post."""

import math
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from operator import itemgetter
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from scrapper.errors import InvalidURL, UnsupportedLink, response_to
from scrapper.jobs.waiting import Place
from scrapper.library.listing import Cursor
from scrapper.library.post import Preference, moment
from scrapper.links import clean_link, read_link

__all__ = [
    "Job",
    "JobEvent",
    "JobFilter",
    "JobPost",
    "JobResponse",
    "JobState",
    "PostState",
    "new_job",
    "unix_time",
]

PostState = Literal["queued", "waiting", "running", "done", "failed", "cancelled"]
JobState = Literal["running", "done", "cancelled"]
WebhookState = Literal["none", "waiting", "delivered", "given_up"]

_ANY = Preference()
_EPOCH = secrets.token_hex(4)


@dataclass(slots=True)
class JobPost:
    """One URL of a job.

    Once the post has an outcome, ``status``, ``code``, ``error`` and ``retry_after`` (seconds) are
    those that ``POST /scrape`` would have returned. ``bytes_total`` is None until the CDN has sent
    the size. A post is ``waiting`` if it hit a limit or is behind other posts in the backlog. Times
    are in RFC 3339 format.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    url: str
    shortcode: str | None
    state: PostState = "queued"
    bytes_done: Annotated[int, Field(ge=0)] = 0
    bytes_total: Annotated[
        int | None, Field(description="Null until the CDN has sent the size")
    ] = None
    status: Annotated[int | None, Field(description="The status that /scrape would return")] = None
    error: str | None = None
    retry_after: Annotated[int | None, Field(description="Seconds")] = None
    code: Annotated[str | None, Field(description="The error, as a machine-readable code")] = None
    next_try_at: Annotated[
        str | None,
        Field(
            description="The earliest time at which a waiting post is tried again",
            json_schema_extra={"format": "date-time"},
        ),
    ] = None
    waiting_since: Annotated[
        str | None,
        Field(
            description="When the post first hit a limit", json_schema_extra={"format": "date-time"}
        ),
    ] = None

    @property
    def unfinished(self) -> bool:
        """Whether the post has no outcome yet."""
        return self.state in ("queued", "waiting", "running")

    @property
    def can_be_retried(self) -> bool:
        """Whether the post ended without success."""
        return self.state in ("failed", "cancelled")

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the post is queued or waiting."""
        return self.state in ("queued", "waiting")

    def started(self) -> "JobPost":
        """Return a copy of the post, marked as running."""
        return replace(self, state="running", next_try_at=None)

    def done(self, size: int) -> "JobPost":
        """Return a copy of the post, marked as done with *size* bytes stored."""
        return replace(
            self, state="done", next_try_at=None, status=200, bytes_done=size, bytes_total=size
        )

    def failed(
        self, status: int, code: str, error: str, retry_after: int | None = None
    ) -> "JobPost":
        """Return a copy of the post, marked as failed. It is retried only on request."""
        return replace(
            self,
            state="failed",
            next_try_at=None,
            status=status,
            code=code,
            error=error,
            retry_after=retry_after,
        )

    def waiting(self, until: float, *, limited: bool) -> "JobPost":
        """Return a copy of the post, marked as waiting, with its next try no earlier than *until*.

        *until* is a Unix time. *limited* is true if the post itself hit a limit. The post's
        patience begins to run out at its first limit, not when it joins the backlog behind other
        posts.
        """
        since = self.waiting_since
        if limited:
            # If the clock was set back, the stored time may be in the future.
            now = time.time()
            since = moment(now if since is None else min(unix_time(since), now))
        return replace(
            self, state="waiting", next_try_at=moment(math.ceil(until)), waiting_since=since
        )

    def cancelled(self) -> "JobPost":
        """Return a copy of the post, marked as cancelled."""
        return replace(self, state="cancelled", next_try_at=None)

    def interrupted(self) -> "JobPost":
        """Return a copy of the post, queued again after an interrupted attempt."""
        return replace(self, state="queued", bytes_done=0, bytes_total=None)

    def retried(self) -> "JobPost":
        """Return a copy of the post, queued again without its earlier outcome."""
        return JobPost(self.url, self.shortcode)

    def delayed(self, until: float) -> "JobPost":
        """Return the post, with its next try postponed to the Unix time *until*.

        A post that is not waiting, or whose next try is later anyway, is returned unchanged.
        """
        if self.next_try_at is None or unix_time(self.next_try_at) >= until:
            return self
        return replace(self, next_try_at=moment(math.ceil(until)))

    def seconds_to_wait(self, longest: float) -> float:
        """Return the number of seconds until the next try.

        Return 0 if the next try is due, or if it is more than *longest* seconds away. In the latter
        case, the clock was wrong when the time of the next try was set.
        """
        left = unix_time(self.next_try_at) - time.time() if self.next_try_at else 0.0
        return max(0.0, left) if left <= longest else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the post's fields, in the order in which they are sent and stored."""
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
    keep: Annotated[
        bool, Field(description="Whether the job's posts are exempt from removal by age")
    ]
    webhook_state: Annotated[
        WebhookState,
        Field(
            description="`none`: the job has no webhook; `given_up`: the webhook was not delivered"
        ),
    ]


@dataclass(slots=True)
class JobEvent(JobPost):
    """The state of one post of a job; ``index`` is its position in the job."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    index: Annotated[int, Field(ge=0)] = 0


@dataclass(slots=True)
class Job:
    """A batch of posts. ``created_at`` is a Unix time, and ``client`` is the client's IP address.

    ``owner`` is the name of the API key that submitted the job, or None if keys have no names. With
    ``keep``, sweeps skip the job's posts. ``preference`` is the requested quality and size.
    ``webhook`` is the URL to which the job is sent when it ends, and ``webhook_outcome`` is the
    result of that delivery. A ``forgotten`` job is hidden from clients. The store numbers the job's
    changes; numbers can be compared only within the same ``epoch``.
    """

    id: str
    created_at: float
    posts: list[JobPost]
    client: str | None = None
    keep: bool = False
    webhook: str | None = None
    owner: str | None = None
    forgotten: bool = False
    preference: Preference = _ANY
    webhook_outcome: Literal["delivered", "given_up"] | None = None
    epoch: str = _EPOCH
    version: int = 0
    """The number of the last change."""
    _changes: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    @property
    def state(self) -> JobState:
        """``running`` until all posts have an outcome.

        After that, ``cancelled`` if any post was cancelled, or else ``done``, even if some failed.
        """
        if any(post.unfinished for post in self.posts):
            return "running"
        cancelled = any(post.state == "cancelled" for post in self.posts)
        return "cancelled" if cancelled else "done"

    @property
    def cursor(self) -> Cursor:
        """The job's position in the list of all jobs, newest first."""
        return Cursor(self.created_at, self.id)

    def place(self, index: int) -> Place:
        """Return the position of the post at *index* among the posts of all jobs."""
        return Place(self.created_at, self.id, index)

    def delay(self, until: float) -> None:
        """Postpone the next try of each waiting post, as :meth:`JobPost.delayed` does."""
        self.posts[:] = [post.delayed(until) for post in self.posts]

    def record_version(self, index: int, version: int) -> None:
        """Record *version* as the number of the last change of the post at *index*."""
        self.version = max(self.version, version)
        self._changes[index] = (version, {"index": index, **self.posts[index].to_json()})

    def changes(self, since: int) -> list[tuple[int, dict[str, Any]]]:
        """Return the posts whose last change is later than version *since*, oldest change first.

        Each post is paired with the number of its last change.
        """
        return sorted(
            (change for change in self._changes.values() if change[0] > since),
            key=itemgetter(0),
        )

    def to_response(self) -> JobResponse:
        """Return the job as sent to clients."""
        return JobResponse(
            self.id,
            self.state,
            moment(self.created_at),
            self.posts,
            self.keep,
            self._webhook_state(),
        )

    def _webhook_state(self) -> WebhookState:
        if self.webhook is None:
            return "none"
        # A retried job sends another webhook when it ends again.
        return "waiting" if self.state == "running" else self.webhook_outcome or "waiting"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Selects jobs by ``owner`` and by ``state``; None matches every job."""

    owner: str | None = None
    state: JobState | None = None

    def allows(self, job: Job) -> bool:
        """Return whether *job* matches; a forgotten job never does."""
        return (
            not job.forgotten
            and self.owner in (None, job.owner)
            and self.state in (None, job.state)
        )


def unix_time(text: str) -> float:
    """Parse a time written by :func:`~scrapper.library.post.moment`.

    Raises:
        ValueError: *text* is not an ISO 8601 time.
    """
    return datetime.fromisoformat(text).timestamp()


def new_job(
    urls: Sequence[str],
    *,
    max_url_length: int,
    client: str | None = None,
    keep: bool = False,
    webhook: str | None = None,
    owner: str | None = None,
    preference: Preference = _ANY,
) -> Job:
    """Return a job for *urls*, submitted by *client*. Posts with unusable links fail at once."""
    posts = [_post(url, max_url_length) for url in urls]
    return Job(
        uuid.uuid4().hex,
        time.time(),
        posts,
        client=client,
        keep=keep,
        webhook=webhook,
        owner=owner,
        preference=preference,
    )


def _post(url: str, max_url_length: int) -> JobPost:
    url = clean_link(url)
    try:
        link = read_link(url, max_length=max_url_length)
        return JobPost(url, link if isinstance(link, str) else None)
    except (InvalidURL, UnsupportedLink) as error:
        return JobPost(url, None).failed(*response_to(error))
