"""What the service asks of whatever keeps its jobs: this process, or Redis."""

from typing import Protocol

from scrapper.jobs.model import Job

__all__ = ["MAKE_ROOM_SECONDS", "Jobs"]

MAKE_ROOM_SECONDS = 5.0
"""After which another try makes sense, where there was no room for one more job or post."""


class Jobs(Protocol):
    """Takes jobs, has them done, and tells how they are."""

    closing: bool
    """Whether the process ends, so that nobody may be kept waiting for a job's end."""

    async def submit(self, job: Job) -> None:
        """Take a new *job*.

        Raises:
            JobsFull: as many jobs as may be kept are unfinished.
            JobsUnreachable: where they are kept does not answer.
        """
        ...

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now, or None: unknown, or too old.

        Raises:
            JobsUnreachable: where it is kept does not answer.
        """
        ...

    async def cancel(self, job: Job) -> bool:
        """Give up the job's posts that wait; those under way go on. False: it is there no more.

        Raises:
            JobsUnreachable: where it is kept does not answer.
        """
        ...

    async def observe(self, job: Job) -> bool:
        """Bring *job* up to date, as far as that can be known. False: it is there no more."""
        ...
