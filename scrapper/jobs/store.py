"""The interface that the engine and the runner expect of a job store."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from scrapper.errors import JobsFull, TooManyJobs
from scrapper.jobs.model import Job, JobFilter, JobPost, JobResponse
from scrapper.library.listing import Cursor

__all__ = [
    "FULL_RETRY_SECONDS",
    "Change",
    "FinishedJob",
    "FinishedJobs",
    "JobChanges",
    "JobStore",
    "check_room",
    "jobs_to_drop",
]

FULL_RETRY_SECONDS = 5.0
"""Seconds after which a client should retry if there is no room for a job or a stream."""

Change = Callable[[JobPost], JobPost | None]
"""A function that returns the changed post, or None to leave the post unchanged."""

Client = TypeVar("Client")


class JobChanges(NamedTuple):
    """The IDs and owners of changed and removed jobs, and the ``number`` of the last change."""

    number: int
    jobs: Sequence[tuple[str, str | None]]


class JobStore(Protocol):
    """Stores jobs, the queue of their posts, and the backlog of waiting posts.

    The first eight methods serve clients. Except for :meth:`refresh`, they raise
    :class:`~scrapper.errors.JobsUnreachable` if the store is unreachable. The others serve the
    runner, and do not return until the store has answered, however long that takes.
    """

    async def add(self, job: Job) -> None:
        """Store a new *job*, and queue its posts.

        Raises:
            JobsFull: ``MAX_JOBS`` jobs are stored, and none of them is finished.
            TooManyJobs: the client has used up its share of unfinished jobs.
            DiskFull, DiskReadOnly, MediaFolderGone: the job cannot be stored.
        """

    async def get(self, job_id: str) -> Job | None:
        """Return the current state of the job, or None if it is unknown or expired."""

    async def refresh(self, job: Job) -> bool:
        """Update *job* in place. Return False if the job is gone.

        If the store is unreachable, leave *job* unchanged and return True.
        """

    async def change(self, job: Job, how: Change, *, queue: bool = False) -> bool:
        """Apply *how* to each post of *job*, and update *job*. Return False if the job is gone.

        If *queue* is true, the changed posts are queued.

        Raises:
            DiskFull, DiskReadOnly, MediaFolderGone: the change cannot be stored; no post changed.
        """

    async def newest(self, number: int, after: Cursor | None, wanted: JobFilter) -> Sequence[Job]:
        """Return up to *number* jobs that match the filter *wanted*, newest first.

        If *after* is not None, only jobs after that cursor are returned.
        """

    async def forget(self, job: Job) -> bool:
        """Hide *job* from all clients. Return False if the job is gone or unfinished.

        Its webhook is still delivered, and plugins are still notified of its end.

        Raises:
            DiskFull, DiskReadOnly, MediaFolderGone: the change cannot be stored.
        """

    async def changed(self, since: int) -> JobChanges:
        """Return the jobs whose last change has a number greater than *since*, latest change first.

        The numbers may start over when the service or Redis is restarted.
        """

    async def check_room(self, client: str | None) -> None:
        """Check that *client* may have one more unfinished job.

        Raises:
            JobsFull, TooManyJobs: there is no room at the moment.
        """

    async def find(self, job_id: str, index: int) -> tuple[Job, JobPost] | None:
        """Return the job and its post at *index*, or None if either is gone.

        The list of posts in the returned job may be empty.
        """

    async def save_post(self, job_id: str, index: int, post: JobPost) -> bool:
        """Store the new state of a post.

        Return False if the post is gone or already has an outcome.
        """

    async def wait(self, job: Job, index: int, post: JobPost, hold: float = 0.0) -> None:
        """Add a post to the backlog.

        If *hold* is 0, the post waits behind others. Otherwise, the post hit a limit that lasts
        *hold* seconds.
        """

    async def hold(self, seconds: float) -> None:
        """Hold all posts in the backlog for *seconds* seconds, because of a limit."""

    async def has_waiting(self) -> bool:
        """Return whether any post is waiting in the backlog."""

    def record_success(self) -> None:
        """Shorten the backlog's pause between posts, because one of them hit no limit."""

    async def skip(self) -> None:
        """Let the next post leave the backlog now, because the last one to leave was cancelled."""


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A finished job. A retried job ends more than once, each time with a different ``end``."""

    response: JobResponse
    end: object


class FinishedJobs(Protocol):
    """The finished jobs that have not been reported to every plugin."""

    async def unreported(self, plugin: str) -> Sequence[FinishedJob]:
        """Return the jobs not yet reported to *plugin*, oldest first."""

    async def is_unreported(self, plugin: str, job: FinishedJob) -> bool:
        """Return whether this end of *job* still has to be reported to *plugin*."""

    async def record_reported(self, plugin: str, job: FinishedJob) -> None:
        """Record that *job* was reported to *plugin*, unless it has ended again since."""


def check_room(unfinished: Sequence[Client], client: Client, max_jobs: int) -> None:
    """Check that there is room for one more job of *client*.

    *unfinished* lists the client of each unfinished job. To leave room for others, the share of one
    client is a quarter of *max_jobs*. If *max_jobs* is below four, one client may use all of it.

    Raises:
        JobsFull: *max_jobs* jobs are unfinished.
        TooManyJobs: the client has used up its share.
    """
    if len(unfinished) >= max_jobs:
        raise JobsFull(retry_after=FULL_RETRY_SECONDS)
    if unfinished.count(client) >= (max_jobs // 4 or max_jobs):
        raise TooManyJobs(retry_after=FULL_RETRY_SECONDS)


def jobs_to_drop(
    kept: int, finished: Sequence[str], unreported: Collection[str], max_jobs: int
) -> Sequence[str]:
    """Return the IDs of the finished jobs to drop so that a new job fits.

    *kept* is the number of stored jobs. *finished* lists the IDs of the finished jobs, oldest
    first, and *unreported* lists the IDs of those whose end has not been reported yet. Unreported
    jobs are dropped only if there are at least *max_jobs* of them.
    """
    if len(unreported) < max_jobs:
        finished = [job_id for job_id in finished if job_id not in unreported]
    return finished[: max(0, kept + 1 - max_jobs)]
