"""The jobs that ended, for the plugins that want to know, where one process runs all jobs."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from scrapper.jobs.contract import FinishedJob
from scrapper.jobs.model import Job
from scrapper.plugins.ledger import Ledger

__all__ = ["LocalFinishedJobs"]

log = structlog.get_logger(__name__)

_MOST_UNTOLD = 1000


class LocalFinishedJobs:
    """:class:`~scrapper.jobs.contract.FinishedJobs` and
    :class:`~scrapper.jobs.contract.JobEnds`: memory holds the jobs, and the *ledger* says which
    plugin was told of which job.

    *plugins* are the names of those to tell. ``wake`` is called when a job ended.
    """

    def __init__(self, ledger: Ledger, plugins: Sequence[str]) -> None:
        self._ledger = ledger
        self.wake: Callable[[], None] = lambda: None
        self._ended: dict[str, dict[str, FinishedJob]] = {plugin: {} for plugin in plugins}
        self.new_plugins: frozenset[str] = frozenset()
        """Those that are not to be told of jobs that ended before the start."""

    async def opened(self, jobs: Sequence[Job]) -> None:
        if not self._ended:
            return
        await asyncio.to_thread(self._ledger.keep_jobs, [job.id for job in jobs])
        for plugin in self._ended:
            for job in jobs:
                if job.state == "running":
                    continue
                if plugin in self.new_plugins:
                    await asyncio.to_thread(self._ledger.note_job, plugin, job.id)
                else:
                    self._note(plugin, job)
        self.wake()

    def ended(self, job: Job) -> None:
        for plugin in self._ended:
            self._note(plugin, job)
        self.wake()

    def _note(self, plugin: str, job: Job) -> None:
        ended = self._ended[plugin]
        if job.id not in ended:
            # As it is now: it may be retried before the plugin is told.
            posts = [replace(post) for post in job.posts]
            ended[job.id] = FinishedJob(replace(job.to_response(), posts=posts), object())
        if len(ended) > _MOST_UNTOLD:
            del ended[next(iter(ended))]
            log.error("plugin not told of a job: too many wait", plugin=plugin)

    async def reopened(self, job: Job) -> None:
        if not self._ended:
            return
        await asyncio.to_thread(self._ledger.reopen_job, job.id)
        for ended in self._ended.values():
            ended.pop(job.id, None)

    async def untold(self, plugin: str) -> Sequence[FinishedJob]:
        ended = self._ended[plugin]
        for job_id in list(ended):
            if await asyncio.to_thread(self._ledger.knows_job, plugin, job_id):
                ended.pop(job_id, None)
        return list(ended.values())

    async def note_told(self, plugin: str, job: FinishedJob) -> None:
        ended, job_id = self._ended[plugin], job.response.id
        # Otherwise the job went on meanwhile, and the plugin is told when it ends again.
        if ended.get(job_id) is job:
            await asyncio.to_thread(self._ledger.note_job, plugin, job_id)
            if ended.get(job_id) is job:
                del ended[job_id]
