"""What handlers need of the jobs, whether this process or Redis keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from scrapper.errors import JobsFull, TooManyJobs
from scrapper.jobs.model import Job, JobResponse

__all__ = [
    "MAKE_ROOM_SECONDS",
    "FinishedJob",
    "FinishedJobs",
    "JobEnds",
    "Jobs",
    "Nobody",
    "check_room",
]

MAKE_ROOM_SECONDS = 5.0
"""Seconds after which to try again if there was no room for a job or a post."""


Client = TypeVar("Client")


class Jobs(Protocol):
    """Takes jobs, runs them, and knows how far they are."""

    closing: bool
    """Whether the process is ending: streams of events must end, too."""

    async def submit(self, job: Job) -> None:
        """Take a new *job*.

        Raises:
            JobsFull: ``MAX_JOBS`` jobs are kept, and none of them is finished.
            TooManyJobs: the client has as many unfinished jobs as one client may have.
            JobsUnreachable: Redis does not answer.
            MediaFolderGone: there is nowhere to keep it.
        """
        ...

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now; None if it is unknown or too old.

        Raises:
            JobsUnreachable: Redis does not answer.
        """
        ...

    async def cancel(self, job: Job) -> bool:
        """Cancel the job's posts that did not start. Return False if it is gone.

        Raises:
            JobsUnreachable: Redis does not answer.
        """
        ...

    async def retry(self, job: Job) -> bool:
        """Queue the job's failed and cancelled posts again. Return False if it is gone.

        Raises:
            JobsFull, TooManyJobs: as for a new job, where this one is finished.
            JobsUnreachable: Redis does not answer.
        """
        ...

    async def observe(self, job: Job) -> bool:
        """Bring *job* up to date if possible. Return False if it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that ended; ``end`` tells this end from later ones."""

    response: JobResponse
    end: object


class FinishedJobs(Protocol):
    """The jobs that ended, which plugins may not know of yet."""

    async def untold(self, plugin: str) -> Sequence[FinishedJob]:
        """Those that *plugin* was not told of, oldest first."""
        ...

    async def note_told(self, plugin: str, job: FinishedJob) -> None:
        """Note that *plugin* was told of this end of the job."""
        ...


class JobEnds(Protocol):
    """Who wants to know when jobs end."""

    async def opened(self, jobs: Sequence[Job]) -> None:
        """Take note of all *jobs* of an earlier process, before any goes on."""
        ...

    def ended(self, job: Job) -> None:
        """Take note that *job* ended, perhaps not for the first time."""
        ...

    async def reopened(self, job: Job) -> None:
        """Take note that *job*, which may have ended, goes on."""
        ...


class Nobody:
    """:class:`JobEnds` for nobody."""

    async def opened(self, jobs: Sequence[Job]) -> None:
        pass

    def ended(self, job: Job) -> None:
        pass

    async def reopened(self, job: Job) -> None:
        pass


def check_room(unfinished: Sequence[Client], client: Client, max_jobs: int) -> None:
    """See that there is room for one more job of *client*.

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
