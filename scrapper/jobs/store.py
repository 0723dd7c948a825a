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
    runner, and return only once the store has answered, however long that takes.
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
        """Apply *how* to each post of *job*, and update *job*. Return False if it is gone.

        With *queue*, the changed posts are queued.

        Raises:
            DiskFull, DiskReadOnly, MediaFolderGone: the change cannot be stored; no post changed.
        """

    async def newest(self, number: int, after: Cursor | None, wanted: JobFilter) -> Sequence[Job]:
        """Return up to *number* jobs past the cursor *after* that match *wanted*, newest first."""

    async def forget(self, job: Job) -> bool:
        """Hide *job* from all clients. Return False if the job is gone or unfinished.

        Its webhook is still delivered, and plugins are still notified of its end.

        Raises:
            DiskFull, DiskReadOnly, MediaFolderGone: the change cannot be stored.
        """

    async def changed(self, since: int) -> JobChanges:
        """Return the jobs that changed after change number *since*, latest change first.

        The numbering restarts whenever the store does.
        """

    async def check_room(self, client: str | None) -> None:
        """Check that *client* may have one more unfinished job.

        Raises:
            JobsFull, TooManyJobs: there is no room at the moment.
        """

    async def find(self, job_id: str, index: int) -> tuple[Job, JobPost] | None:
        """Return the job and the post at *index*, or None if they are gone.

        The returned job may lack its posts.
        """

    async def save_post(self, job_id: str, index: int, post: JobPost) -> bool:
        """Store the new state of a post. Return False if it already has an outcome or is gone."""

    async def wait(self, job: Job, index: int, post: JobPost, hold: float = 0.0) -> None:
        """Add a post to the backlog.

        If *hold* is 0, the post waits behind others. Otherwise, it hit a limit of *hold* seconds.
        """

    async def hold(self, seconds: float) -> None:
        """Let no post leave the backlog for *seconds*, because of a limit."""

    async def has_waiting(self) -> bool:
        """Return whether any post waits in the backlog."""

    def record_success(self) -> None:
        """Shorten the pause between posts of the backlog, because one of them hit no limit."""

    async def skip(self) -> None:
        """Let the next post leave the backlog at once, because the last one was cancelled."""


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A finished job. It may end again after a retry; ``end`` identifies this end."""

    response: JobResponse
    end: object


class FinishedJobs(Protocol):
    """The finished jobs that have not been reported to every plugin."""

    async def unreported(self, plugin: str) -> Sequence[FinishedJob]:
        """Return the jobs not yet reported to *plugin*, oldest first."""

    async def record_reported(self, plugin: str, job: FinishedJob) -> None:
        """Record that this end of the job was reported to *plugin*."""


def check_room(unfinished: Sequence[Client], client: Client, max_jobs: int) -> None:
    """Check that there is room for one more job of *client*.

    *unfinished* lists the client of each unfinished job. To leave room for others, one client may
    have at most a quarter of *max_jobs*, or all of them if *max_jobs* is below four.

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
    """Return the finished jobs to drop to make room for a new job.

    *kept* is the number of stored jobs, and *finished* lists the finished ones, oldest first. Jobs
    whose end is *unreported* are not dropped, unless there are at least *max_jobs* of them.
    """
    if len(unreported) < max_jobs:
        finished = [job_id for job_id in finished if job_id not in unreported]
    return finished[: max(0, kept + 1 - max_jobs)]
