"""The jobs that ended, for the plugins that want to know, where one process runs all jobs."""

import asyncio
from collections.abc import Callable, Sequence

from scrapper.jobs.model import Job
from scrapper.plugins.ledger import Ledger

__all__ = ["LocalFinishedJobs"]


class LocalFinishedJobs:
    """:class:`~scrapper.plugins.following.FinishedJobs` and
    :class:`~scrapper.jobs.contract.JobEnds`: the jobs themselves in memory, what was told in the
    *ledger*.

    *plugins* want to know of jobs. ``wake`` is called when one ended.
    """

    def __init__(self, ledger: Ledger, plugins: Sequence[str]) -> None:
        self._ledger = ledger
        self.wake: Callable[[], None] = lambda: None
        self._ended: dict[str, dict[str, Job]] = {plugin: {} for plugin in plugins}
        self.new_plugins: frozenset[str] = frozenset()
        """Those that are not to be told of jobs that ended before the start."""

    async def opened(self, jobs: Sequence[Job]) -> None:
        await asyncio.to_thread(self._ledger.keep_jobs, [job.id for job in jobs])
        for plugin, ended in self._ended.items():
            for job in jobs:
                if job.state == "running":
                    continue
                if plugin in self.new_plugins:
                    await asyncio.to_thread(self._ledger.note_job, plugin, job.id)
                else:
                    ended[job.id] = job
        self.wake()

    def ended(self, job: Job) -> None:
        for ended in self._ended.values():
            ended[job.id] = job
        self.wake()

    async def reopened(self, job: Job) -> None:
        for ended in self._ended.values():
            ended.pop(job.id, None)
        await asyncio.to_thread(self._ledger.reopen_job, job.id)

    async def untold(self, plugin: str) -> Sequence[Job]:
        ended = self._ended[plugin]
        for job_id in list(ended):
            if await asyncio.to_thread(self._ledger.knows_job, plugin, job_id):
                ended.pop(job_id, None)
        return list(ended.values())

    async def note_told(self, plugin: str, job_id: str) -> None:
        await asyncio.to_thread(self._ledger.note_job, plugin, job_id)
        self._ended[plugin].pop(job_id, None)
