"""What handlers need of the jobs, whether this process or Redis keeps them."""

from typing import Protocol

from scrapper.jobs.model import Job

__all__ = ["MAKE_ROOM_SECONDS", "Jobs", "share_of"]

MAKE_ROOM_SECONDS = 5.0
"""Seconds after which to try again if there was no room for a job or a post."""


class Jobs(Protocol):
    """Takes jobs, runs them, and knows how far they are."""

    closing: bool
    """Whether the process is ending: streams of events must end, too."""

    async def submit(self, job: Job) -> None:
        """Take a new *job*.

        Raises:
            JobsFull: every job that may be kept is unfinished.
            TooManyJobs: so many of the client's jobs are unfinished that there is no more room
                for them.
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
        """Cancel the job's posts that wait; running ones go on. Return False if it is gone.

        Raises:
            JobsUnreachable: Redis does not answer.
        """
        ...

    async def observe(self, job: Job) -> bool:
        """Bring *job* up to date if possible. Return False if it is gone."""
        ...


def share_of(max_jobs: int) -> int:
    """How many unfinished jobs one client may have: a quarter, so that others find room.

    Of fewer than four there is no quarter: one client may have them all.
    """
    return max_jobs // 4 or max_jobs
