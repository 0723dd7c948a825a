"""Runs the posts of jobs. One table decides what happens to each post."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import structlog
from structlog.contextvars import bound_contextvars

from scrapper.errors import (
    DeadlineExceeded,
    PaceExceeded,
    RateLimited,
    ScrapeError,
    ServerFull,
    response_to,
)
from scrapper.jobs.model import Job, JobPost, unix_time
from scrapper.jobs.store import FULL_RETRY_SECONDS, JobStore
from scrapper.jobs.waiting import Patience, Place
from scrapper.library.post import Preference
from scrapper.links import read_link
from scrapper.scraping.scraper import Scraped, Scraper
from scrapper.tasks import end

__all__ = ["ROWS", "Case", "Decision", "Row", "Runner", "decide"]

log = structlog.get_logger(__name__)

_LIMITS = (RateLimited, PaceExceeded, ServerFull)
_SHORTEST_PAUSE = 1.0
_PROGRESS_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Case:
    """The facts that determine what happens next to a post.

    Before an attempt, ``others_wait`` is true if other posts are waiting in the backlog, and
    ``needs_no_query`` is true if Instagram need not be queried for this post. After an attempt,
    either ``size`` is the number of bytes stored, or ``error`` is the reason why nothing was
    stored. ``patience_left`` is in seconds. ``stopping`` is true if this process is shutting down.
    """

    post: JobPost
    others_wait: bool = False
    needs_no_query: bool = False
    size: int | None = None
    error: Exception | None = None
    patience_left: float = 0.0
    stopping: bool = False

    @property
    def pause(self) -> float | None:
        """The seconds to wait before a retry if the post hit a limit, else None."""
        if not isinstance(self.error, _LIMITS):
            return None
        wait = self.error.retry_after
        return max(_SHORTEST_PAUSE, FULL_RETRY_SECONDS if wait is None else wait)

    @property
    def failure(self) -> tuple[int, str, str, int | None]:
        """The status, code, message and ``retry_after`` that ``POST /scrape`` would return."""
        error = self.error or Exception()
        status, code, message = response_to(error)
        if isinstance(error, OSError):
            message = f"The post cannot be stored: {error.strerror}"
        wait = getattr(error, "retry_after", None)
        return status, code, message, None if wait is None else max(1, math.ceil(wait))


class Decision(NamedTuple):
    """What to do with a post, and the ``post`` as it will be stored.

    The ``action`` is to skip the post, run it, add it to the backlog ("wait"), leave it to another
    process, or end it. After a limit, no post leaves the backlog for ``hold`` seconds. If
    ``is_fault``, the error is logged as a bug.
    """

    action: Literal["skip", "run", "wait", "leave", "end"]
    post: JobPost
    hold: float = 0.0
    is_fault: bool = False


class Row(NamedTuple):
    """A row of the table: if ``applies`` is true for a case, ``decide`` makes the decision."""

    name: str
    applies: Callable[[Case], bool]
    decide: Callable[[Case], Decision]


def _failed(case: Case, *, is_fault: bool = False) -> Decision:
    return Decision("end", case.post.failed(*case.failure), case.pause or 0.0, is_fault)


ROWS: Sequence[Row] = (
    Row(
        "ended or cancelled while queued",
        lambda case: not case.post.unfinished,
        lambda case: Decision("skip", case.post),
    ),
    Row(
        "stored",
        lambda case: case.size is not None,
        lambda case: Decision("end", case.post.done(case.size or 0)),
    ),
    Row(
        "out of time in a process that is stopping",
        lambda case: case.stopping and isinstance(case.error, DeadlineExceeded),
        lambda case: Decision("leave", case.post.interrupted()),
    ),
    Row(
        "behind others in the backlog",
        lambda case: case.error is None and case.others_wait and not case.needs_no_query,
        lambda case: Decision("wait", case.post),
    ),
    Row(
        "not tried yet",
        lambda case: case.error is None,
        lambda case: Decision("run", case.post),
    ),
    Row(
        "limited, with patience left",
        lambda case: case.pause is not None and case.pause <= case.patience_left,
        lambda case: Decision("wait", case.post, case.pause or 0.0),
    ),
    Row(
        "refused, or limited with no patience left",
        lambda case: isinstance(case.error, ScrapeError),
        _failed,
    ),
    Row("a fault", lambda _: True, lambda case: _failed(case, is_fault=True)),
)
"""The table. The first row that applies to a case makes the decision."""


def decide(case: Case) -> Decision:
    """Return the decision of the first row of :data:`ROWS` that applies to *case*."""
    return next(row.decide(case) for row in ROWS if row.applies(case))


class Runner:
    """Runs posts of the jobs in *store* with *scraper*, and keeps the jobs up to date.

    Posts that hit a limit wait as long as *patience* allows. *on_stored* is called with the job's
    ID, the post's index and the scraper's result. *stopping* returns whether the process is
    shutting down.
    """

    def __init__(
        self,
        store: JobStore,
        scraper: Scraper,
        patience: Patience,
        *,
        on_stored: Callable[[str, int, Scraped], None] = lambda *_: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._scraper = scraper
        self._patience = patience
        self._on_stored = on_stored
        self._stopping = stopping

    async def run(self, job_id: str, index: int) -> bool:
        """Process a queued post; return False if another process should run it.

        Does not return until the outcome is stored, even if the store is unreachable for a long
        time. Otherwise another process would find the post unfinished and run it again.
        """
        with bound_contextvars(job=job_id):
            found = await self._store.find(job_id, index)
            if found is None:
                await self._store.skip()
                return True
            job, post = found
            others_wait = post.state == "queued" and await self._store.has_waiting()
            needs_no_query = others_wait and await self._needs_no_query(post, job.preference)
            decision = decide(Case(post, others_wait, needs_no_query))
            if decision.action == "run":
                running = post.started()
                if not await self._store.save_post(job_id, index, running):
                    return True
                decision = await self._attempt(job, index, running)
                if not decision.hold and post.state == "waiting":
                    self._store.record_success()
            await self._carry_out(job, index, decision)
            return decision.action != "leave"

    async def _carry_out(self, job: Job, index: int, decision: Decision) -> None:
        match decision.action:
            case "skip":
                await self._store.skip()
            case "wait":
                await self._store.wait(job, index, decision.post, decision.hold)
            case "leave":
                await self._store.save_post(job.id, index, decision.post)
            case "end":
                self._patience.forget(job.place(index))
                if decision.hold:
                    await self._store.hold(decision.hold)
                await self._store.save_post(job.id, index, decision.post)

    async def _attempt(self, job: Job, index: int, post: JobPost) -> Decision:
        attempt = _Attempt(self._scraper, post, job.preference, keep=job.keep)
        reporting = asyncio.create_task(self._report_progress(job.id, index, attempt))
        size, error = None, None
        try:
            scraped = await attempt.scrape()
            size = sum(file.size for file in scraped.stored.post.files)
            self._on_stored(job.id, index, scraped)
        # The table has a row for every error.
        except Exception as raised:  # noqa: BLE001
            error = raised
        finally:
            await end(reporting)
        case = Case(attempt.post, size=size, error=error, stopping=self._stopping())
        if case.pause is not None:
            left = await self._patience_left(job.place(index), post)
            case = replace(case, patience_left=left)
        decision = decide(case)
        if decision.is_fault:
            log.error("post of a job failed", shortcode=attempt.post.shortcode, exc_info=error)
        return decision

    async def _patience_left(self, place: Place, post: JobPost) -> float:
        since = post.waiting_since
        return await self._patience.left(place, None if since is None else unix_time(since))

    async def _needs_no_query(self, post: JobPost, preference: Preference) -> bool:
        try:
            return post.shortcode is not None and await self._scraper.has(
                post.shortcode, preference
            )
        except ScrapeError:
            # The attempt will fail with the same error and record it.
            return True

    async def _report_progress(self, job_id: str, index: int, attempt: "_Attempt") -> None:
        """Store the progress of the download while it runs."""
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            if attempt.update_progress():
                await self._store.save_post(job_id, index, attempt.post)


class _Attempt:
    """One attempt to scrape *post*. If its URL is a share link, the link is resolved first."""

    def __init__(
        self, scraper: Scraper, post: JobPost, preference: Preference, *, keep: bool
    ) -> None:
        self._scraper = scraper
        self._preference = preference
        self._keep = keep
        self.post = post

    async def scrape(self) -> Scraped:
        url, shortcode = self.post.url, self.post.shortcode
        if shortcode is None:
            shortcode = await self._scraper.shortcode_of(read_link(url, max_length=len(url)))
            self.post = replace(self.post, shortcode=shortcode)
        return await self._scraper.scrape(
            shortcode, url, keep=self._keep, preference=self._preference
        )

    def update_progress(self) -> bool:
        """Copy the progress of the download to the post; return whether it changed."""
        post = self.post
        progress = self._scraper.progress(post.shortcode) if post.shortcode else None
        if progress is not None:
            self.post = replace(post, bytes_done=progress.done, bytes_total=progress.total)
        return self.post != post
