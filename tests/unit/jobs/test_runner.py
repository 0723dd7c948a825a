"""The table that decides what happens to a post, and the runner that carries it out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from scrapper.errors import (
    CoolingDown,
    DeadlineExceeded,
    DiskFull,
    MediaFolderGone,
    PaceExceeded,
    PostNotFound,
    RateLimited,
    ServerFull,
)
from scrapper.jobs.engine import Jobs, running
from scrapper.jobs.model import Job, JobPost, unix_time
from scrapper.jobs.runner import ROWS, Case, Decision, Runner, decide
from scrapper.jobs.stores.memory import MemoryStore
from scrapper.jobs.waiting import Patience, Place
from scrapper.library.post import Preference, moment
from tests.conftest import until
from tests.unit.jobs.contract import batch

QUEUED = JobPost("url", "shortcode")
WAITING = QUEUED.waiting(0.0, limited=True)
RUNNING = QUEUED.started()
PATIENCE = 100.0


def ended(status: int, code: str, *, hold: float = 0.0, is_fault: bool = False) -> Any:
    def check(decision: Decision) -> None:
        post = decision.post
        assert (decision.action, post.state) == ("end", "failed")
        assert (post.status, post.code, decision.hold) == (status, code, hold)
        assert decision.is_fault == is_fault

    return check


def only(action: str, hold: float = 0.0) -> Callable[[Decision], None]:
    def check(decision: Decision) -> None:
        assert (decision.action, decision.hold, decision.is_fault) == (action, hold, False)

    return check


def left(decision: Decision) -> None:
    post = decision.post
    assert (decision.action, post.state, post.bytes_done, post.bytes_total) == (
        "leave",
        "queued",
        0,
        None,
    )
    assert (decision.hold, decision.is_fault) == (0.0, False)


def stored(decision: Decision) -> None:
    assert (decision.action, decision.post.state, decision.post.status) == ("end", "done", 200)
    assert decision.post.bytes_done == decision.post.bytes_total == 7


CASES: list[tuple[str, Case, Callable[[Decision], None]]] = [
    ("done", Case(QUEUED.done(1)), only("skip")),
    ("cancelled", Case(QUEUED.cancelled()), only("skip")),
    ("cancelled behind others", Case(QUEUED.cancelled(), others_wait=True), only("skip")),
    ("queued", Case(QUEUED), only("run")),
    ("behind others", Case(QUEUED, others_wait=True), only("wait")),
    (
        "behind others, but needs no query",
        Case(QUEUED, others_wait=True, needs_no_query=True),
        only("run"),
    ),
    ("from the backlog", Case(WAITING), only("run")),
    ("stored", Case(RUNNING, size=7), stored),
    ("stored in a process that is stopping", Case(RUNNING, size=7, stopping=True), stored),
    (
        "out of time in a process that is stopping",
        Case(
            replace(RUNNING, bytes_done=3, bytes_total=7), error=DeadlineExceeded(), stopping=True
        ),
        left,
    ),
    (
        "refused in a process that is stopping",
        Case(RUNNING, error=PostNotFound(), stopping=True),
        ended(404, "post_not_found"),
    ),
    (
        "stored, although reporting it failed",
        Case(RUNNING, size=7, error=BrokenPipeError()),
        stored,
    ),
    ("out of time", Case(RUNNING, error=DeadlineExceeded()), ended(503, "deadline_exceeded")),
    (
        "a limit",
        Case(RUNNING, error=RateLimited(retry_after=60.0), patience_left=PATIENCE),
        only("wait", 60.0),
    ),
    (
        "a limit of unknown length",
        Case(RUNNING, error=ServerFull(), patience_left=PATIENCE),
        only("wait", 5.0),
    ),
    (
        "a limit that ends at once",
        Case(RUNNING, error=PaceExceeded(retry_after=0.0), patience_left=PATIENCE),
        only("wait", 1.0),
    ),
    (
        "a limit as long as the patience left",
        Case(RUNNING, error=CoolingDown(retry_after=PATIENCE), patience_left=PATIENCE),
        only("wait", PATIENCE),
    ),
    (
        "a limit longer than the patience left",
        Case(RUNNING, error=RateLimited(retry_after=PATIENCE + 1), patience_left=PATIENCE),
        ended(429, "instagram_rate_limited", hold=PATIENCE + 1),
    ),
    ("refused", Case(RUNNING, error=PostNotFound()), ended(404, "post_not_found")),
    (
        "refused although patience is left",
        Case(RUNNING, error=PostNotFound(retry_after=1.0), patience_left=PATIENCE),
        ended(404, "post_not_found"),
    ),
    ("a full disk", Case(RUNNING, error=DiskFull()), ended(507, "disk_full")),
    (
        "another disk error",
        Case(RUNNING, error=PermissionError(13, "Permission denied")),
        ended(500, "internal_error", is_fault=True),
    ),
    (
        "an unexpected error",
        Case(RUNNING, error=KeyError("x"), others_wait=True),
        ended(500, "internal_error", is_fault=True),
    ),
]


@pytest.mark.parametrize(
    ("case", "check"), [(case, check) for _, case, check in CASES], ids=[it[0] for it in CASES]
)
def test_each_case_gets_the_expected_decision(
    case: Case, check: Callable[[Decision], None]
) -> None:
    check(decide(case))


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_every_row_of_the_table_is_needed(row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [decide(case) for _, case, _ in CASES]
    monkeypatch.setattr("scrapper.jobs.runner.ROWS", [it for it in ROWS if it is not row])
    try:
        found: Any = [decide(case) for _, case, _ in CASES]
    except StopIteration:
        found = None
    assert found != expected


@pytest.mark.parametrize(("wait", "expected"), [(PATIENCE + 0.5, 101), (0.0, 1), (None, None)])
def test_retry_after_is_in_whole_seconds(wait: float | None, expected: int | None) -> None:
    decision = decide(Case(RUNNING, error=RateLimited(retry_after=wait)))
    assert decision.post.retry_after == expected


def test_an_empty_post_is_stored_with_zero_bytes() -> None:
    post = decide(Case(RUNNING, size=0)).post
    assert (post.state, post.bytes_done) == ("done", 0)


def test_a_disk_error_is_in_the_message_of_the_post() -> None:
    error = PermissionError(13, "Permission denied")
    post = decide(Case(RUNNING, error=error)).post
    assert post.error == "The post cannot be stored: Permission denied"


class ScriptedScraper:
    """A scraper that raises the errors in ``answers`` for a shortcode, then returns the post."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.stored: set[str] = set()
        self.scraped: list[str] = []
        self.lookups: list[str] = []
        self.lookup_fails = False
        self.options: dict[str, Any] = {}
        self.release = asyncio.Event()
        self.release.set()
        self.done: int | None = None

    def progress(self, _shortcode: str) -> Any:
        return None if self.done is None else SimpleNamespace(done=self.done, total=9)

    async def has(self, shortcode: str, _preference: Any) -> bool:
        self.lookups.append(shortcode)
        if self.lookup_fails:
            raise MediaFolderGone
        return shortcode in self.stored

    async def shortcode_of(self, link: Any) -> str:
        return link if isinstance(link, str) else "opened"

    async def scrape(self, shortcode: str, url: str, **options: Any) -> Any:
        self.scraped.append(shortcode)
        self.options = {"url": url, **options}
        await self.release.wait()
        answers = self.answers.get(shortcode, [])
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        post = SimpleNamespace(files=[SimpleNamespace(size=4), SimpleNamespace(size=3)])
        return SimpleNamespace(stored=SimpleNamespace(post=post))


class Harness:
    """An engine and a runner that share a store in memory."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.scraper = ScriptedScraper()
        self.store = MemoryStore(max_jobs=8)
        self.jobs = Jobs(self.store)
        self.runner = Runner(self.store, cast(Any, self.scraper), Patience(patience))

    async def ended(self, job: Job) -> None:
        await until(lambda: job.state != "running")


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    harness = Harness()
    async with running(harness.store, harness.runner, 1):
        yield harness


async def test_posts_of_a_job_run_in_order(harness: Harness) -> None:
    job = batch(4)
    await harness.jobs.submit(job)
    await harness.ended(job)
    assert harness.scraper.scraped == [f"reel-{number}" for number in range(4)]
    assert [(post.status, post.bytes_done) for post in job.posts] == [(200, 7)] * 4


async def test_a_failing_post_does_not_stop_the_others(harness: Harness) -> None:
    harness.scraper.answers = {"reel-0": [KeyError("x")], "reel-1": [PostNotFound()]}
    job = batch(3)
    with capture_logs([merge_contextvars]) as logs:
        await harness.jobs.submit(job)
        await harness.ended(job)
    assert [post.status for post in job.posts] == [500, 404, 200]
    [line] = logs
    assert (line["event"], line["job"], line["shortcode"]) == (
        "post of a job failed",
        job.id,
        "reel-0",
    )
    assert isinstance(line["exc_info"], KeyError)


class BusyStore(MemoryStore):
    """A store whose backlog is never empty, and which records calls about its backlog."""

    skips = 0
    successes = 0
    others_wait = True

    def __init__(self) -> None:
        super().__init__(max_jobs=8)
        self.holds: list[float] = []

    async def has_waiting(self) -> bool:
        return self.others_wait

    async def skip(self) -> None:
        self.skips += 1

    async def hold(self, seconds: float) -> None:
        self.holds.append(seconds)

    def record_success(self) -> None:
        self.successes += 1


class RecordingPatience(Patience):
    """A patience that records which posts it is asked about, and which it forgets."""

    def __init__(self) -> None:
        super().__init__(PATIENCE)
        self.asked: list[Place] = []
        self.forgotten: list[Place] = []

    async def left(self, place: Place, waiting_since: float | None) -> float:
        self.asked.append(place)
        return await super().left(place, waiting_since)

    def forget(self, place: Place) -> None:
        self.forgotten.append(place)


def with_backlog(*posts: JobPost) -> tuple[BusyStore, ScriptedScraper, Runner, Job]:
    store, script = BusyStore(), ScriptedScraper()
    job = batch(0)
    job.posts.extend(posts)
    return store, script, Runner(store, cast(Any, script), RecordingPatience()), job


async def test_a_post_of_a_removed_job_is_skipped() -> None:
    store, script, runner, _ = with_backlog()
    assert await runner.run("gone", 0)
    assert (script.scraped, store.skips) == ([], 1)


async def test_a_cancelled_post_is_skipped() -> None:
    store, script, runner, job = with_backlog(QUEUED, QUEUED)
    await store.add(job)
    await store.save_post(job.id, 0, QUEUED.cancelled())
    assert await runner.run(job.id, 0)
    assert (script.scraped, store.skips) == ([], 1)


async def test_a_post_from_the_backlog_runs_at_once() -> None:
    store, script, runner, job = with_backlog(WAITING)
    await store.add(job)
    await runner.run(job.id, 0)
    assert (script.scraped, script.lookups) == (["shortcode"], [])


@pytest.mark.parametrize(
    ("post", "error", "successes", "holds"),
    [
        (WAITING, None, 1, []),
        (WAITING, PostNotFound(), 1, []),
        (WAITING, RateLimited(retry_after=PATIENCE * 2), 0, [PATIENCE * 2]),
        (replace(QUEUED, shortcode="stored"), None, 0, []),
    ],
)
async def test_the_backlog_learns_of_successes_and_limits(
    post: JobPost, error: Exception | None, successes: int, holds: list[float]
) -> None:
    store, script, runner, job = with_backlog(post)
    script.answers, script.stored = {"shortcode": [error]}, {"stored"}
    await store.add(job)
    await runner.run(job.id, 0)
    assert (store.successes, store.holds) == (successes, holds)


async def test_a_stored_post_is_reported_and_its_task_ends() -> None:
    store, script, job = BusyStore(), ScriptedScraper(), batch(0)
    job.posts.append(WAITING)
    stored: list[Any] = []
    runner = Runner(
        store, cast(Any, script), RecordingPatience(), on_stored=lambda *it: stored.append(it)
    )
    await store.add(job)
    assert await runner.run(job.id, 0)
    [(job_id, index, scraped)] = stored
    assert (job_id, index, len(scraped.stored.post.files)) == (job.id, 0, 2)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_post_is_scraped_with_the_options_of_its_job() -> None:
    preference = Preference("best", 8_000_000)
    script, store = ScriptedScraper(), BusyStore()
    job = batch(1, keep=True, preference=preference)
    await store.add(job)
    await store.save_post(job.id, 0, job.posts[0].waiting(0.0, limited=True))
    await Runner(store, cast(Any, script), RecordingPatience()).run(job.id, 0)
    assert script.options == {"url": job.posts[0].url, "keep": True, "preference": preference}


@pytest.mark.parametrize(
    ("stopping", "handled", "state"), [(True, False, "queued"), (False, True, "failed")]
)
async def test_a_stopping_process_leaves_its_post_to_another(
    stopping: bool, handled: bool, state: str
) -> None:
    store, script, job = BusyStore(), ScriptedScraper(), batch(0)
    job.posts.append(WAITING)
    script.answers = {"shortcode": [DeadlineExceeded()]}
    options: dict[str, Any] = {"stopping": lambda: True} if stopping else {}
    runner = Runner(store, cast(Any, script), RecordingPatience(), **options)
    await store.add(job)
    assert await runner.run(job.id, 0) is handled
    assert job.posts[0].state == state


async def test_a_post_that_ended_before_it_started_is_not_run() -> None:
    class Ended(BusyStore):
        async def save_post(self, *_: Any) -> bool:
            return False

    store, script, job = Ended(), ScriptedScraper(), batch(0)
    job.posts.append(WAITING)
    await store.add(job)
    assert await Runner(store, cast(Any, script), RecordingPatience()).run(job.id, 0)
    assert script.scraped == []


async def test_a_limited_post_without_patience_fails() -> None:
    store, script, runner, job = with_backlog(
        replace(WAITING, waiting_since=moment(time.time() - PATIENCE)), WAITING
    )
    script.answers = {"shortcode": [RateLimited(retry_after=9.0), RateLimited(retry_after=9.0)]}
    await store.add(job)
    for index in (0, 1):
        assert await runner.run(job.id, index)
    assert [post.state for post in job.posts] == ["failed", "waiting"]
    assert store.holds == [9.0, 9.0]


async def test_the_patience_of_a_finished_post_is_forgotten() -> None:
    store, patience, job = BusyStore(), RecordingPatience(), batch(0)
    job.posts.extend([WAITING, WAITING])
    script = ScriptedScraper()
    script.answers = {"shortcode": [RateLimited(retry_after=1.0)]}
    runner = Runner(store, cast(Any, script), patience)
    await store.add(job)
    for index in (0, 1):
        await runner.run(job.id, index)
    assert (patience.asked, patience.forgotten) == ([job.place(0)], [job.place(1)])


async def test_a_post_behind_others_runs_if_it_needs_no_query() -> None:
    store, script, runner, job = with_backlog(QUEUED, replace(QUEUED, shortcode="stored"))
    script.stored = {"stored"}
    await store.add(job)
    for index in (0, 1):
        assert await runner.run(job.id, index)
    assert script.scraped == ["stored"]
    assert job.posts[0].state == "waiting"


async def test_a_post_with_an_empty_backlog_runs_without_a_lookup() -> None:
    store, script, runner, job = with_backlog(QUEUED)
    store.others_wait = False
    await store.add(job)
    await runner.run(job.id, 0)
    assert (script.scraped, script.lookups) == (["shortcode"], [])


async def test_a_share_link_behind_others_is_not_opened() -> None:
    store, script, runner, job = with_backlog(replace(QUEUED, shortcode=None))
    await store.add(job)
    await runner.run(job.id, 0)
    assert (script.lookups, job.posts[0].state) == ([], "waiting")


async def test_a_post_behind_others_runs_if_it_cannot_be_looked_up() -> None:
    store, script, runner, job = with_backlog(QUEUED)
    script.lookup_fails = True
    await store.add(job)
    await runner.run(job.id, 0)
    assert script.scraped == ["shortcode"]


async def test_a_limited_post_runs_again_before_those_behind_it(harness: Harness) -> None:
    harness.scraper.answers = {"reel-0": [RateLimited(retry_after=0.0)]}
    harness.scraper.stored = {"reel-2"}
    job = batch(3)
    await harness.jobs.submit(job)
    await until(lambda: job.posts[2].state == "done")
    assert [post.state for post in job.posts] == ["waiting", "waiting", "done"]
    # Only the limit costs patience.
    assert job.posts[0].waiting_since is not None
    assert job.posts[1].waiting_since is None
    assert harness.scraper.scraped == ["reel-0", "reel-2"]
    await harness.ended(job)
    assert [post.status for post in job.posts] == [200] * 3


async def test_a_limit_holds_the_backlog_even_if_its_post_fails(harness: Harness) -> None:
    harness.scraper.answers = {"reel-0": [RateLimited(retry_after=PATIENCE * 2)]}
    job = batch(1)
    await harness.jobs.submit(job)
    await harness.ended(job)
    assert job.posts[0].status == 429
    other = batch(1, "192.0.2.2")
    before = time.time()
    await harness.store.add(other)
    await harness.store.wait(other, 0, other.posts[0])
    assert other.posts[0].next_try_at is not None
    assert unix_time(other.posts[0].next_try_at) > before + PATIENCE


async def test_a_cancelled_post_is_never_run(harness: Harness) -> None:
    harness.scraper.release.clear()
    job = batch(3)
    await harness.jobs.submit(job)
    await until(lambda: job.posts[0].state == "running")
    assert await harness.jobs.cancel(job)
    harness.scraper.release.set()
    await harness.ended(job)
    assert [post.state for post in job.posts] == ["done", "cancelled", "cancelled"]
    assert harness.scraper.scraped == ["reel-0"]


async def test_a_failed_post_can_be_retried(harness: Harness) -> None:
    harness.scraper.answers = {"reel-1": [PostNotFound()]}
    job = batch(2)
    await harness.jobs.submit(job)
    await harness.ended(job)
    assert await harness.jobs.retry(job)
    await harness.ended(job)
    assert [post.state for post in job.posts] == ["done", "done"]
    assert harness.scraper.scraped == ["reel-0", "reel-1", "reel-1"]


async def test_a_share_link_is_resolved_before_the_scrape(harness: Harness) -> None:
    job = batch(0)
    job.posts.append(JobPost("https://www.instagram.com/share/reel/token/", None))
    await harness.jobs.submit(job)
    await harness.ended(job)
    assert (job.posts[0].shortcode, job.posts[0].status) == ("opened", 200)


async def test_followers_of_a_job_see_its_progress(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.jobs.runner._PROGRESS_SECONDS", 0.0)
    harness.scraper.release.clear()
    job = batch(1)
    seen: list[tuple[str, str, int]] = []

    async def follow() -> None:
        async for it in harness.jobs.follow(job, lambda: 0.0):
            [post] = it.posts
            seen.append((it.state, post.state, post.bytes_done))

    await harness.jobs.submit(job)
    following = asyncio.create_task(follow())
    harness.scraper.done = 5
    await until(lambda: ("running", "running", 5) in seen)
    harness.scraper.release.set()
    await following
    assert seen[-1] == ("done", "done", 7)


async def test_progress_is_stored_only_if_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapper.jobs.runner._PROGRESS_SECONDS", 0.0)
    progress = iter([None, None, 5, 5, 5, 7, 7])

    class Recording(BusyStore):
        def __init__(self) -> None:
            super().__init__()
            self.saved: list[tuple[str, int, int | None]] = []

        async def save_post(self, job_id: str, index: int, post: JobPost) -> bool:
            self.saved.append((post.state, post.bytes_done, post.bytes_total))
            return await super().save_post(job_id, index, post)

    class Loading(ScriptedScraper):
        def progress(self, _shortcode: str) -> Any:
            self.done = next(progress, 7)
            if self.done == 7:
                self.release.set()
            return super().progress(_shortcode)

    store, script, job = Recording(), Loading(), batch(0)
    script.release.clear()
    job.posts.append(WAITING)
    await store.add(job)
    async with asyncio.timeout(PATIENCE):
        await Runner(store, cast(Any, script), RecordingPatience()).run(job.id, 0)
    running = [saved for saved in store.saved if saved[0] == "running"]
    assert running[:2] == [("running", 0, None), ("running", 5, 9)]
    assert running[2:] in ([], [("running", 7, 9)])
    assert store.saved[-1] == ("done", 7, 7)


async def test_following_ends_with_the_process(harness: Harness) -> None:
    harness.scraper.release.clear()
    job = batch(1)
    await harness.jobs.submit(job)
    harness.jobs.closing = True
    assert [it async for it in harness.jobs.follow(job, lambda: 0.0)] == []
    harness.scraper.release.set()
