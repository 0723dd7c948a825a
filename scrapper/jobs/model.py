"""A job: a batch of posts that one client asked for, and the progress of each."""

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
from scrapper.library.post import Wish, moment
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

_ANY = Wish()
_EPOCH = secrets.token_hex(4)


@dataclass(slots=True)
class JobPost:
    """One URL of a job.

    ``status``, ``code``, ``error`` and ``retry_after`` (seconds) are what ``POST /scrape`` would
    give, once there is an outcome. ``bytes_total`` is None until the CDN gives it. A post that met
    a limit is ``waiting``; the times are in RFC 3339.
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
    next_try_at: Annotated[
        str | None,
        Field(
            description="When a waiting post is tried again, at the earliest",
            json_schema_extra={"format": "date-time"},
        ),
    ] = None
    waiting_since: Annotated[
        str | None,
        Field(
            description="When the post first met a limit", json_schema_extra={"format": "date-time"}
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
        """Whether the post did not start."""
        return self.state in ("queued", "waiting")

    def started(self) -> "JobPost":
        """The post, being downloaded."""
        return replace(self, state="running", next_try_at=None)

    def done(self, size: int) -> "JobPost":
        """The post, stored: *size* bytes."""
        return replace(
            self, state="done", next_try_at=None, status=200, bytes_done=size, bytes_total=size
        )

    def failed(
        self, status: int, code: str, error: str, retry_after: int | None = None
    ) -> "JobPost":
        """The post, failed for good."""
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
        """The post, waiting until *until*, a unix time, or longer.

        Only a post that was *limited* itself uses up its patience; waiting behind others does not.
        """
        since = self.waiting_since
        if limited:
            # After the clock was set back, the stored time may be in the future.
            now = time.time()
            since = moment(now if since is None else min(unix_time(since), now))
        return replace(
            self, state="waiting", next_try_at=moment(math.ceil(until)), waiting_since=since
        )

    def cancelled(self) -> "JobPost":
        """The post, given up."""
        return replace(self, state="cancelled", next_try_at=None)

    def left(self) -> "JobPost":
        """The post, queued for another process after a try that was broken off."""
        return replace(self, state="queued", bytes_done=0, bytes_total=None)

    def anew(self) -> "JobPost":
        """The post as it was when the job began."""
        return JobPost(self.url, self.shortcode)

    def delayed(self, until: float) -> "JobPost":
        """The post, tried no earlier than *until*, a unix time, if it waits."""
        if self.next_try_at is None or unix_time(self.next_try_at) >= until:
            return self
        return replace(self, next_try_at=moment(math.ceil(until)))

    def seconds_to_wait(self, most: float) -> float:
        """The seconds until the next try; 0 if more than *most*, because a clock was wrong."""
        left = unix_time(self.next_try_at) - time.time() if self.next_try_at else 0.0
        return max(0.0, left) if left <= most else 0.0

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
    keep: Annotated[bool, Field(description="Whether its posts are kept")]
    webhook_state: Annotated[
        WebhookState,
        Field(description="`none` without a webhook; `given_up`: its receiver did not accept it"),
    ]


@dataclass(slots=True)
class JobEvent(JobPost):
    """The state of one post of a job; ``index`` is its place in the job."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    index: Annotated[int, Field(ge=0)] = 0


@dataclass(slots=True)
class Job:
    """A batch of posts; ``created_at`` is a unix time, ``client`` the address that sent it.

    ``owner`` is the name of the key that it was sent with; None if keys have no names. With
    ``keep``, sweeps leave its posts alone. ``wish`` says how the posts are wanted. ``webhook`` is
    the URL that gets the job when it ends, and ``webhook_outcome`` the result. A ``forgotten`` job
    is not shown any more. The store numbers the job's changes, within an ``epoch``.
    """

    id: str
    created_at: float
    posts: list[JobPost]
    client: str | None = None
    keep: bool = False
    webhook: str | None = None
    owner: str | None = None
    forgotten: bool = False
    wish: Wish = _ANY
    webhook_outcome: Literal["delivered", "given_up"] | None = None
    epoch: str = _EPOCH
    version: int = 0
    """The number of the last change."""
    _changes: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    @property
    def state(self) -> JobState:
        """``running`` while a post has no outcome; then ``cancelled`` if any is, else ``done``."""
        if any(post.unfinished for post in self.posts):
            return "running"
        cancelled = any(post.state == "cancelled" for post in self.posts)
        return "cancelled" if cancelled else "done"

    @property
    def cursor(self) -> Cursor:
        """The job's place among all jobs, newest first."""
        return Cursor(self.created_at, self.id)

    def place(self, index: int) -> Place:
        """The place of the post at *index* among the posts of all jobs."""
        return Place(self.created_at, self.id, index)

    def delay(self, until: float) -> None:
        """Note that waiting posts are tried no earlier than *until*, a unix time."""
        self.posts[:] = [post.delayed(until) for post in self.posts]

    def note(self, index: int, version: int) -> None:
        """Note that change number *version* was the last one of the post at *index*."""
        self.version = max(self.version, version)
        self._changes[index] = (version, {"index": index, **self.posts[index].to_json()})

    def changes(self, since: int) -> list[tuple[int, dict[str, Any]]]:
        """The posts that changed after version *since*, oldest change first.

        Each comes with the number of its last change.
        """
        return sorted(
            (change for change in self._changes.values() if change[0] > since),
            key=itemgetter(0),
        )

    def to_response(self) -> JobResponse:
        """What clients receive."""
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
    """Which jobs are wanted: by ``owner`` (None: everybody's) and by ``state``."""

    owner: str | None = None
    state: JobState | None = None

    def allows(self, job: Job) -> bool:
        """Whether *job* is wanted; a forgotten one never is."""
        return (
            not job.forgotten
            and self.owner in (None, job.owner)
            and self.state in (None, job.state)
        )


def unix_time(text: str) -> float:
    """The reverse of :func:`~scrapper.library.post.moment`.

    Raises:
        ValueError: *text* is not a time.
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
    wish: Wish = _ANY,
) -> Job:
    """A job of *urls* for *client*; links that are not a post's are failed from the start."""
    posts = [_post(url, max_url_length) for url in urls]
    return Job(
        uuid.uuid4().hex,
        time.time(),
        posts,
        client=client,
        keep=keep,
        webhook=webhook,
        owner=owner,
        wish=wish,
    )


def _post(url: str, max_url_length: int) -> JobPost:
    url = clean_link(url)
    try:
        link = read_link(url, max_length=max_url_length)
        return JobPost(url, link if isinstance(link, str) else None)
    except (InvalidURL, UnsupportedLink) as error:
        return JobPost(url, None).failed(*response_to(error))
