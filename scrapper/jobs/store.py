"""The contract of a store of jobs, for the engine and the runner."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from scrapper.errors import JobsFull, TooManyJobs
from scrapper.jobs.model import Job, JobFilter, JobPost, JobResponse
from scrapper.library.listing import Cursor

__all__ = [
    "MAKE_ROOM_SECONDS",
    "Change",
    "FinishedJob",
    "FinishedJobs",
    "JobChanges",
    "JobStore",
    "check_room",
    "jobs_to_drop",
]

MAKE_ROOM_SECONDS = 5.0
"""Seconds after which to try again if there is no room for a job or a stream."""

Change = Callable[[JobPost], JobPost | None]
"""Returns the changed post, or None to leave it as it is."""

Client = TypeVar("Client")


class JobChanges(NamedTuple):
    """The jobs that changed or are gone, with owners; and the ``number`` of the last change."""

    number: int
    jobs: Sequence[tuple[str, str | None]]


class JobStore(Protocol):
    """Keeps jobs, the queue of their posts, and the backlog of those that wait.

    The first eight methods are for clients, and raise :class:`~scrapper.errors.JobsUnreachable`
    where the store cannot be reached. The others are for the runner, and return only once the store
    has answered, however long that takes.
    """

    async def add(self, job: Job) -> None:
        """Keep a new *job*, and queue its posts.

        Raises:
            JobsFull: ``MAX_JOBS`` jobs are kept, and none of them is finished.
            TooManyJobs: the client has as many unfinished jobs as one client may have.
            DiskFull, DiskReadOnly, MediaFolderGone: the job cannot be kept.
        """

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now; None if it is unknown or too old."""

    async def refresh(self, job: Job) -> bool:
        """Bring *job* up to date if possible. Return False if the job is gone."""

    async def change(self, job: Job, how: Change, *, queue: bool = False) -> bool:
        """Change the posts of *job*, and bring it up to date. Return False if the job is gone.

        With *queue*, the changed posts are queued. The change is kept as a whole, or not at all.

        Raises:
            DiskFull, DiskReadOnly, MediaFolderGone: the change cannot be kept.
        """

    async def newest(self, number: int, after: Cursor | None, wanted: JobFilter) -> Sequence[Job]:
        """The latest *number* jobs that are *wanted* and come *after* a place."""

    async def forget(self, job: Job) -> bool:
        """Hide *job* from everybody; False if the job is gone or unfinished.

        Its webhook is still delivered, and plugins are notified of its end.

        Raises:
            DiskFull, DiskReadOnly, MediaFolderGone: the change cannot be kept.
        """

    async def changed(self, since: int) -> JobChanges:
        """The jobs that changed after change number *since*, latest change first.

        If the store begins anew, so do the numbers.
        """

    async def check_room(self, client: str | None) -> None:
        """Check that *client* may have one more unfinished job.

        Raises:
            JobsFull, TooManyJobs: there is no room now.
        """

    async def find(self, job_id: str, index: int) -> tuple[Job, JobPost] | None:
        """The job, perhaps without its posts, and the post at *index*; None if they are gone."""

    async def note(self, job_id: str, index: int, post: JobPost) -> bool:
        """Store the outcome of a post; return False if it ended meanwhile, or is gone."""

    async def wait(self, job: Job, index: int, post: JobPost, hold: float = 0.0) -> None:
        """Add a post to the backlog: others wait, or it met a limit of *hold* seconds."""

    async def hold(self, seconds: float) -> None:
        """Note a limit: no post leaves the backlog for *seconds*."""

    async def has_waiting(self) -> bool:
        """Whether any post waits in the backlog."""

    def note_success(self) -> None:
        """Note that a post that had left the backlog met no limit."""

    async def skip(self) -> None:
        """Let the next post leave the backlog at once, since the last one was cancelled."""


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that ended; ``end`` distinguishes this end from later ones."""

    response: JobResponse
    end: object


class FinishedJobs(Protocol):
    """The finished jobs that plugins may not have got yet."""

    async def unreported(self, plugin: str) -> Sequence[FinishedJob]:
        """The jobs that *plugin* has not got, oldest first."""

    async def note_reported(self, plugin: str, job: FinishedJob) -> None:
        """Note that *plugin* got this end of the job."""


def check_room(unfinished: Sequence[Client], client: Client, max_jobs: int) -> None:
    """Check that there is room for one more job of *client*.

    *unfinished* names the client of each unfinished job. One client may have a quarter of
    *max_jobs*, so that others find room. If *max_jobs* is below four, one client may
    have them all.

    Raises:
        JobsFull: *max_jobs* jobs are kept, and none of them is finished.
        TooManyJobs: the client's share is used up.
    """
    if len(unfinished) >= max_jobs:
        raise JobsFull(retry_after=MAKE_ROOM_SECONDS)
    if unfinished.count(client) >= (max_jobs // 4 or max_jobs):
        raise TooManyJobs(retry_after=MAKE_ROOM_SECONDS)


def jobs_to_drop(
    kept: int, finished: Sequence[str], unreported: Collection[str], max_jobs: int
) -> Sequence[str]:
    """Which of the *finished* jobs, oldest first, to drop for a new one, if *kept* jobs are there.
    Those whose end is *unreported* stay, unless there are *max_jobs* of them.
    """
    if len(unreported) < max_jobs:
        finished = [job_id for job_id in finished if job_id not in unreported]
    return finished[: max(0, kept + 1 - max_jobs)]
