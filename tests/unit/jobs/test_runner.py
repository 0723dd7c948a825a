"""What becomes of a post of a job, row by row, and that the runner acts accordingly."""

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
from scrapper.library.post import Wish, moment
from tests.conftest import until
from tests.unit.jobs.contract import batch

QUEUED = JobPost("url", "shortcode")
WAITING = QUEUED.waiting(0.0, limited=True)
RUNNING = QUEUED.started()
PATIENCE = 100.0


def ended(status: int, code: str, *, hold: float = 0.0, is_fault: bool = False) -> Any:
    def check(decision: Decision) -> None:
        post = decision.post
        assert (decision.verb, post.state) == ("end", "failed")
        assert (post.status, post.code, decision.hold) == (status, code, hold)
        assert decision.is_fault == is_fault

    return check


def is_just(verb: str, hold: float = 0.0) -> Callable[[Decision], None]:
    def check(decision: Decision) -> None:
        assert (decision.verb, decision.hold, decision.is_fault) == (verb, hold, False)

    return check


def left(decision: Decision) -> None:
    post = decision.post
    assert (decision.verb, post.state, post.bytes_done, post.bytes_total) == (
        "leave",
        "queued",
        0,
        None,
    )
    assert (decision.hold, decision.is_fault) == (0.0, False)


def stored(decision: Decision) -> None:
    assert (decision.verb, decision.post.state, decision.post.status) == ("end", "done", 200)
    assert decision.post.bytes_done == decision.post.bytes_total == 7


CASES: list[tuple[str, Case, Callable[[Decision], None]]] = [
    ("done", Case(QUEUED.done(1)), is_just("skip")),
    ("cancelled", Case(QUEUED.cancelled()), is_just("skip")),
    ("cancelled behind others", Case(QUEUED.cancelled(), others_wait=True), is_just("skip")),
    ("queued", Case(QUEUED), is_just("run")),
    ("behind others", Case(QUEUED, others_wait=True), is_just("wait")),
    ("at hand", Case(QUEUED, others_wait=True, at_hand=True), is_just("run")),
    ("its turn", Case(WAITING), is_just("run")),
    ("stored", Case(RUNNING, size=7), stored),
    ("stored in a process that ends", Case(RUNNING, size=7, stopping=True), stored),
    (
        "out of time in a process that ends",
        Case(
            replace(RUNNING, bytes_done=3, bytes_total=7), error=DeadlineExceeded(), stopping=True
        ),
        left,
    ),
    (
        "refused in a process that ends",
        Case(RUNNING, error=PostNotFound(), stopping=True),
        ended(404, "post_not_found"),
    ),
    (
        "stored although the report of it failed",
        Case(RUNNING, size=7, error=BrokenPipeError()),
        stored,
    ),
    ("out of time", Case(RUNNING, error=DeadlineExceeded()), ended(503, "deadline_exceeded")),
    (
        "a limit",
        Case(RUNNING, error=RateLimited(retry_after=60.0), patience_left=PATIENCE),
        is_just("wait", 60.0),
    ),
    (
        "a limit that does not say how long",
        Case(RUNNING, error=ServerFull(), patience_left=PATIENCE),
        is_just("wait", 5.0),
    ),
    (
        "a limit that is over at once",
        Case(RUNNING, error=PaceExceeded(retry_after=0.0), patience_left=PATIENCE),
        is_just("wait", 1.0),
    ),
    (
        "a limit as long as patience",
        Case(RUNNING, error=CoolingDown(retry_after=PATIENCE), patience_left=PATIENCE),
        is_just("wait", PATIENCE),
    ),
    (
        "a limit longer than patience",
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
        "another fault of the disk",
        Case(RUNNING, error=PermissionError(13, "Permission denied")),
        ended(500, "internal_error", is_fault=True),
    ),
    (
        "a fault of ours",
        Case(RUNNING, error=KeyError("x"), others_wait=True),
        ended(500, "internal_error", is_fault=True),
    ),
]


@pytest.mark.parametrize(
    ("case", "check"), [(case, check) for _, case, check in CASES], ids=[it[0] for it in CASES]
)
def test_each_case_has_its_decision(case: Case, check: Callable[[Decision], None]) -> None:
    check(decide(case))


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_each_row_is_needed(row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [decide(case) for _, case, _ in CASES]
    monkeypatch.setattr("scrapper.jobs.runner.ROWS", [it for it in ROWS if it is not row])
    try:
        found: Any = [decide(case) for _, case, _ in CASES]
    except StopIteration:
        found = None
    assert found != expected


@pytest.mark.parametrize(("wait", "said"), [(PATIENCE + 0.5, 101), (0.0, 1), (None, None)])
def test_a_failure_says_when_to_try_again(wait: float | None, said: int | None) -> None:
    decision = decide(Case(RUNNING, error=RateLimited(retry_after=wait)))
    assert decision.post.retry_after == said


def test_an_empty_post_is_stored_without_a_byte() -> None:
    post = decide(Case(RUNNING, size=0)).post
    assert (post.state, post.bytes_done) == ("done", 0)


def test_a_post_that_cannot_be_stored_says_why() -> None:
    error = PermissionError(13, "Permission denied")
    post = decide(Case(RUNNING, error=error)).post
    assert post.error == "The post cannot be stored: Permission denied"


class Script:
    """A scraper that answers by what ``answers`` has for a shortcode, one after the other."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.at_hand: set[str] = set()
        self.asked: list[str] = []
        self.looked_for: list[str] = []
        self.fails_to_look = False
        self.options: dict[str, Any] = {}
        self.go = asyncio.Event()
        self.go.set()
        self.done: int | None = None

    def progress(self, _shortcode: str) -> Any:
        return None if self.done is None else SimpleNamespace(done=self.done, total=9)

    async def has(self, shortcode: str, _wish: Any) -> bool:
        self.looked_for.append(shortcode)
        if self.fails_to_look:
            raise MediaFolderGone
        return shortcode in self.at_hand

    async def shortcode_of(self, link: Any) -> str:
        return link if isinstance(link, str) else "opened"

    async def scrape(self, shortcode: str, url: str, **options: Any) -> Any:
        self.asked.append(shortcode)
        self.options = {"url": url, **options}
        await self.go.wait()
        answers = self.answers.get(shortcode, [])
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        post = SimpleNamespace(files=[SimpleNamespace(size=4), SimpleNamespace(size=3)])
        return SimpleNamespace(stored=SimpleNamespace(post=post))


class Life:
    """An engine in memory."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.scraper = Script()
        self.store = MemoryStore(max_jobs=8)
        self.jobs = Jobs(self.store)
        self.runner = Runner(self.store, cast(Any, self.scraper), Patience(patience))

    async def ended(self, job: Job) -> None:
        await until(lambda: job.state != "running")


@pytest.fixture
async def life() -> AsyncIterator[Life]:
    life = Life()
    async with running(life.store, life.runner, 1):
        yield life


async def test_posts_of_a_job_are_run_in_their_order(life: Life) -> None:
    job = batch(4)
    await life.jobs.submit(job)
    await life.ended(job)
    assert life.scraper.asked == [f"reel-{number}" for number in range(4)]
    assert [(post.status, post.bytes_done) for post in job.posts] == [(200, 7)] * 4


async def test_a_failing_post_does_not_stop_the_others(life: Life) -> None:
    life.scraper.answers = {"reel-0": [KeyError("x")], "reel-1": [PostNotFound()]}
    job = batch(3)
    with capture_logs([merge_contextvars]) as logs:
        await life.jobs.submit(job)
        await life.ended(job)
    assert [post.status for post in job.posts] == [500, 404, 200]
    [line] = logs
    assert (line["event"], line["job"], line["shortcode"]) == (
        "post of a job failed",
        job.id,
        "reel-0",
    )
    assert isinstance(line["exc_info"], KeyError)


class Line(MemoryStore):
    """A store with others in the backlog; it notes what it is called for."""

    passed_on = 0
    successes = 0
    others_wait = True

    def __init__(self) -> None:
        super().__init__(max_jobs=8)
        self.holds: list[float] = []

    async def has_waiting(self) -> bool:
        return self.others_wait

    async def skip(self) -> None:
        self.passed_on += 1

    async def hold(self, seconds: float) -> None:
        self.holds.append(seconds)

    def note_success(self) -> None:
        self.successes += 1


class Watch(Patience):
    """Patience that notes which posts it is asked about, and which it forgets."""

    def __init__(self) -> None:
        super().__init__(PATIENCE)
        self.asked: list[Place] = []
        self.forgotten: list[Place] = []

    async def left(self, place: Place, waiting_since: float | None) -> float:
        self.asked.append(place)
        return await super().left(place, waiting_since)

    def forget(self, place: Place) -> None:
        self.forgotten.append(place)


def in_line(*posts: JobPost) -> tuple[Line, Script, Runner, Job]:
    store, script = Line(), Script()
    job = batch(0)
    job.posts.extend(posts)
    return store, script, Runner(store, cast(Any, script), Watch()), job


async def test_a_post_whose_job_is_gone_passes_its_turn_on() -> None:
    store, script, runner, _ = in_line()
    assert await runner.run("gone", 0)
    assert (script.asked, store.passed_on) == ([], 1)


async def test_a_cancelled_post_passes_its_turn_on() -> None:
    store, script, runner, job = in_line(QUEUED, QUEUED)
    await store.add(job)
    await store.note(job.id, 0, QUEUED.cancelled())
    assert await runner.run(job.id, 0)
    assert (script.asked, store.passed_on) == ([], 1)


async def test_a_post_that_left_the_backlog_runs_before_others() -> None:
    store, script, runner, job = in_line(WAITING)
    await store.add(job)
    await runner.run(job.id, 0)
    assert (script.asked, script.looked_for) == (["shortcode"], [])


@pytest.mark.parametrize(
    ("post", "error", "successes", "holds"),
    [
        (WAITING, None, 1, []),
        (WAITING, PostNotFound(), 1, []),
        (WAITING, RateLimited(retry_after=PATIENCE * 2), 0, [PATIENCE * 2]),
        (replace(QUEUED, shortcode="at-hand"), None, 0, []),
    ],
)
async def test_the_backlog_learns_whether_a_post_met_a_limit(
    post: JobPost, error: Exception | None, successes: int, holds: list[float]
) -> None:
    store, script, runner, job = in_line(post)
    script.answers, script.at_hand = {"shortcode": [error]}, {"at-hand"}
    await store.add(job)
    await runner.run(job.id, 0)
    assert (store.successes, store.holds) == (successes, holds)


async def test_a_stored_post_is_reported_and_no_longer_followed() -> None:
    store, script, job = Line(), Script(), batch(0)
    job.posts.append(WAITING)
    stored: list[Any] = []
    runner = Runner(store, cast(Any, script), Watch(), on_stored=lambda *it: stored.append(it))
    await store.add(job)
    assert await runner.run(job.id, 0)
    [(job_id, index, scraped)] = stored
    assert (job_id, index, len(scraped.stored.post.files)) == (job.id, 0, 2)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_post_is_scraped_as_its_job_wants_it() -> None:
    wish = Wish("best", 8_000_000)
    script, store = Script(), Line()
    job = batch(1, keep=True, wish=wish)
    await store.add(job)
    await store.note(job.id, 0, job.posts[0].waiting(0.0, limited=True))
    await Runner(store, cast(Any, script), Watch()).run(job.id, 0)
    assert script.options == {"url": job.posts[0].url, "keep": True, "wish": wish}


@pytest.mark.parametrize(
    ("stopping", "goes_on", "state"), [(True, False, "queued"), (False, True, "failed")]
)
async def test_a_process_that_ends_leaves_its_post_to_another(
    stopping: bool, goes_on: bool, state: str
) -> None:
    store, script, job = Line(), Script(), batch(0)
    job.posts.append(WAITING)
    script.answers = {"shortcode": [DeadlineExceeded()]}
    options: dict[str, Any] = {"stopping": lambda: True} if stopping else {}
    runner = Runner(store, cast(Any, script), Watch(), **options)
    await store.add(job)
    assert await runner.run(job.id, 0) is goes_on
    assert job.posts[0].state == state


async def test_a_post_that_ended_before_its_start_is_not_run() -> None:
    class Ended(Line):
        async def note(self, *_: Any) -> bool:
            return False

    store, script, job = Ended(), Script(), batch(0)
    job.posts.append(WAITING)
    await store.add(job)
    assert await Runner(store, cast(Any, script), Watch()).run(job.id, 0)
    assert script.asked == []


async def test_a_post_out_of_patience_fails_by_its_limit() -> None:
    store, script, runner, job = in_line(
        replace(WAITING, waiting_since=moment(time.time() - PATIENCE)), WAITING
    )
    script.answers = {"shortcode": [RateLimited(retry_after=9.0), RateLimited(retry_after=9.0)]}
    await store.add(job)
    for index in (0, 1):
        assert await runner.run(job.id, index)
    assert [post.state for post in job.posts] == ["failed", "waiting"]
    assert store.holds == [9.0, 9.0]


async def test_a_post_that_ended_needs_no_patience() -> None:
    store, patience, job = Line(), Watch(), batch(0)
    job.posts.extend([WAITING, WAITING])
    script = Script()
    script.answers = {"shortcode": [RateLimited(retry_after=1.0)]}
    runner = Runner(store, cast(Any, script), patience)
    await store.add(job)
    for index in (0, 1):
        await runner.run(job.id, index)
    assert (patience.asked, patience.forgotten) == ([job.place(0)], [job.place(1)])


async def test_a_post_behind_others_runs_only_if_at_hand() -> None:
    store, script, runner, job = in_line(QUEUED, replace(QUEUED, shortcode="at-hand"))
    script.at_hand = {"at-hand"}
    await store.add(job)
    for index in (0, 1):
        assert await runner.run(job.id, index)
    assert script.asked == ["at-hand"]
    assert job.posts[0].state == "waiting"


async def test_a_post_behind_nobody_runs_without_a_look() -> None:
    store, script, runner, job = in_line(QUEUED)
    store.others_wait = False
    await store.add(job)
    await runner.run(job.id, 0)
    assert (script.asked, script.looked_for) == (["shortcode"], [])


async def test_a_share_link_behind_others_waits_unopened() -> None:
    store, script, runner, job = in_line(replace(QUEUED, shortcode=None))
    await store.add(job)
    await runner.run(job.id, 0)
    assert (script.looked_for, job.posts[0].state) == ([], "waiting")


async def test_a_post_behind_others_runs_if_it_cannot_be_looked_up() -> None:
    store, script, runner, job = in_line(QUEUED)
    script.fails_to_look = True
    await store.add(job)
    await runner.run(job.id, 0)
    assert script.asked == ["shortcode"]


async def test_a_limited_post_runs_again_before_those_behind_it(life: Life) -> None:
    life.scraper.answers = {"reel-0": [RateLimited(retry_after=0.0)]}
    life.scraper.at_hand = {"reel-2"}
    job = batch(3)
    await life.jobs.submit(job)
    await until(lambda: job.posts[2].state == "done")
    assert [post.state for post in job.posts] == ["waiting", "waiting", "done"]
    # Only the limit costs patience.
    assert job.posts[0].waiting_since is not None
    assert job.posts[1].waiting_since is None
    assert life.scraper.asked == ["reel-0", "reel-2"]
    await life.ended(job)
    assert [post.status for post in job.posts] == [200] * 3


async def test_a_limit_holds_the_backlog_though_its_post_gave_up(life: Life) -> None:
    life.scraper.answers = {"reel-0": [RateLimited(retry_after=PATIENCE * 2)]}
    job = batch(1)
    await life.jobs.submit(job)
    await life.ended(job)
    assert job.posts[0].status == 429
    other = batch(1, "192.0.2.2")
    before = time.time()
    await life.store.add(other)
    await life.store.wait(other, 0, other.posts[0])
    assert other.posts[0].next_try_at is not None
    assert unix_time(other.posts[0].next_try_at) > before + PATIENCE


async def test_a_cancelled_post_is_never_run(life: Life) -> None:
    life.scraper.go.clear()
    job = batch(3)
    await life.jobs.submit(job)
    await until(lambda: job.posts[0].state == "running")
    assert await life.jobs.cancel(job)
    life.scraper.go.set()
    await life.ended(job)
    assert [post.state for post in job.posts] == ["done", "cancelled", "cancelled"]
    assert life.scraper.asked == ["reel-0"]


async def test_a_cancelled_post_can_be_tried_again(life: Life) -> None:
    life.scraper.answers = {"reel-1": [PostNotFound()]}
    job = batch(2)
    await life.jobs.submit(job)
    await life.ended(job)
    assert await life.jobs.retry(job)
    await life.ended(job)
    assert [post.state for post in job.posts] == ["done", "done"]
    assert life.scraper.asked == ["reel-0", "reel-1", "reel-1"]


async def test_a_share_link_is_opened_before_its_post_is_scraped(life: Life) -> None:
    job = batch(0)
    job.posts.append(JobPost("https://www.instagram.com/share/reel/token/", None))
    await life.jobs.submit(job)
    await life.ended(job)
    assert (job.posts[0].shortcode, job.posts[0].status) == ("opened", 200)


async def test_progress_reaches_followers_of_the_job(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.jobs.runner._PROGRESS_SECONDS", 0.0)
    life.scraper.go.clear()
    job = batch(1)
    seen: list[tuple[str, str, int]] = []

    async def follow() -> None:
        async for it in life.jobs.follow(job, lambda: 0.0):
            [post] = it.posts
            seen.append((it.state, post.state, post.bytes_done))

    await life.jobs.submit(job)
    following = asyncio.create_task(follow())
    life.scraper.done = 5
    await until(lambda: ("running", "running", 5) in seen)
    life.scraper.go.set()
    await following
    assert seen[-1] == ("done", "done", 7)


async def test_only_a_changed_progress_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapper.jobs.runner._PROGRESS_SECONDS", 0.0)
    looks = iter([None, None, 5, 5, 5, 7, 7])

    class Noting(Line):
        def __init__(self) -> None:
            super().__init__()
            self.noted: list[tuple[str, int, int | None]] = []

        async def note(self, job_id: str, index: int, post: JobPost) -> bool:
            self.noted.append((post.state, post.bytes_done, post.bytes_total))
            return await super().note(job_id, index, post)

    class Loading(Script):
        def progress(self, _shortcode: str) -> Any:
            self.done = next(looks, 7)
            if self.done == 7:
                self.go.set()
            return super().progress(_shortcode)

    store, script, job = Noting(), Loading(), batch(0)
    script.go.clear()
    job.posts.append(WAITING)
    await store.add(job)
    async with asyncio.timeout(PATIENCE):
        await Runner(store, cast(Any, script), Watch()).run(job.id, 0)
    running = [noted for noted in store.noted if noted[0] == "running"]
    assert running[:2] == [("running", 0, None), ("running", 5, 9)]
    assert running[2:] in ([], [("running", 7, 9)])
    assert store.noted[-1] == ("done", 7, 7)


async def test_following_ends_with_the_process(life: Life) -> None:
    life.scraper.go.clear()
    job = batch(1)
    await life.jobs.submit(job)
    life.jobs.closing = True
    assert [it async for it in life.jobs.follow(job, lambda: 0.0)] == []
    life.scraper.go.set()
