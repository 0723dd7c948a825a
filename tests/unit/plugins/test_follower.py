"""Plugins are notified of every post and job, in order, with up to three attempts."""

import asyncio
import shutil
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from scrapper.jobs.model import Job, JobPost, JobResponse, new_job
from scrapper.jobs.stores.sqlite import JobFile, SqliteStore
from scrapper.library.additions import Additions
from scrapper.library.post import Post
from scrapper.library.store import Library
from scrapper.plugins.follower import Followed, Followers, Pauses
from scrapper.plugins.hooks import hookimpl
from scrapper.plugins.ledger import Ledger
from scrapper.plugins.loading import Plugins
from scrapper.scraping.peers import Peers
from scrapper.telemetry.metrics import Metrics
from tests.conftest import until
from tests.process import PATIENCE_SECONDS
from tests.unit.library.test_catalogue import store

pytestmark = pytest.mark.blocks


class Recorder:
    """Records the events that plugins get, in order. The next ``fail`` calls fail."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []
        self.fail = 0

    def record(self, *event: str) -> None:
        self.events.append(event)
        if self.fail:
            self.fail -= 1
            raise OSError("the server is unavailable")


def module(**functions: Callable[..., Any]) -> ModuleType:
    made = ModuleType("made")
    for name, function in functions.items():
        setattr(made, name, hookimpl(function))
    return made


def recording(recorder: Recorder, name: str = "one") -> ModuleType:
    """Return a plugin that handles all events with plain functions."""

    def post_stored(post: Post, folder: Path) -> None:
        assert (folder / "post.json").exists()
        recorder.record(name, "stored", post.shortcode)

    def post_removed(shortcode: str) -> None:
        recorder.record(name, "removed", shortcode)

    def job_finished(job: JobResponse) -> None:
        recorder.record(name, "job", job.id)

    return module(post_stored=post_stored, post_removed=post_removed, job_finished=job_finished)


class Harness:
    """A library, a ledger and followers. Each use of :meth:`running` acts as one process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.library = Library(root)
        self.ledger_path = root.parent / "plugins.sqlite3"
        self.metrics = Metrics()
        self.timeout = 300.0
        self.pauses = Pauses(polls=0.01, tries=(0.0, 0.0), error=0.01)
        self.jobs: SqliteStore
        self.conditions: Any = None
        self.followers: Followers

    @asynccontextmanager
    async def running(
        self, monkeypatch: pytest.MonkeyPatch, **modules: ModuleType
    ) -> AsyncIterator[None]:
        self.library = Library(self.root)
        await self.library.open()
        for name, made in modules.items():
            monkeypatch.setitem(sys.modules, name, made)
        plugins = Plugins(list(modules))
        ledger = Ledger(self.ledger_path)
        self.jobs = SqliteStore(
            JobFile(self.root.parent / "jobs.sqlite3"), max_jobs=10, plugins=plugins.job_followers
        )
        followed = Followed(
            library=self.library,
            ledger=ledger,
            metrics=self.metrics,
            peers=Peers(),
            timeout=self.timeout,
            jobs=self.jobs,
            conditions=self.conditions,
            pauses=self.pauses,
        )
        self.followers = Followers(plugins.followers, followed)
        await self.followers.begin()
        await self.jobs.open()
        async with self.followers.running():
            yield
        await self.jobs.close()
        await self.library.close()

    def metrics_page(self) -> str:
        return generate_latest(self.metrics.registry).decode()

    def outcome(self, plugin: str, shortcode: str) -> str | None:
        with sqlite3.connect(self.ledger_path) as database:
            row = database.execute(
                "SELECT outcome FROM posts WHERE plugin = ? AND shortcode = ?", (plugin, shortcode)
            ).fetchone()
        database.close()
        return row[0] if row else None


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path / "media")


async def test_a_plugin_gets_stored_and_removed_posts(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    async with harness.running(monkeypatch, one=recording(recorder)):
        store(harness.library, "abcde")
        await until(lambda: harness.outcome("one", "abcde") == "done")
        await harness.library.remove("abcde")
        await until(lambda: harness.outcome("one", "abcde") is None)
    assert recorder.events == [("one", "stored", "abcde"), ("one", "removed", "abcde")]


async def test_a_removal_of_an_unseen_post_is_not_reported(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    harness.root.mkdir()
    async with harness.running(monkeypatch):
        store(harness.library, "aaaaa")
    async with harness.running(monkeypatch, one=recording(recorder)):
        assert harness.outcome("one", "aaaaa") == "skipped"
        await harness.library.remove("aaaaa")
        await until(lambda: harness.outcome("one", "aaaaa") is None)
    assert recorder.events == []


async def test_a_removal_is_also_reported_after_a_failure(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    recorder.fail = 1
    harness.pauses = Pauses(tries=(3600.0,))
    async with harness.running(monkeypatch, one=recording(recorder)):
        store(harness.library, "abcde")
        await until(lambda: harness.outcome("one", "abcde") == "begun" and bool(recorder.events))
        await harness.library.remove("abcde")
        # The pending retry does not delay the removal.
        await until(lambda: harness.outcome("one", "abcde") is None)
    assert recorder.events == [("one", "stored", "abcde"), ("one", "removed", "abcde")]


async def test_a_post_stored_again_is_reported_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    async with harness.running(monkeypatch, one=recording(recorder)):
        for times in (1, 2):
            store(harness.library, "abcde")
            await until(lambda: len(recorder.events) == times)  # noqa: B023
    assert recorder.events == [("one", "stored", "abcde")] * 2


async def test_after_a_crash_posts_are_reported_in_order(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    async with harness.running(monkeypatch, one=recording(recorder)):
        pass
    # A process stored these posts and was killed before it notified the plugin.
    names = ["zzzzz", "mmmmm", "aaaaa"]
    for name in names:
        store(harness.library, name)
    async with harness.running(monkeypatch, one=recording(recorder)):
        await until(lambda: len(recorder.events) == 3)
    assert recorder.events == [("one", "stored", name) for name in names]


async def test_an_unreported_removal_is_reported_after_the_next_start(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    async with harness.running(monkeypatch, one=recording(recorder)):
        store(harness.library, "abcde")
        await until(lambda: harness.outcome("one", "abcde") == "done")
    shutil.rmtree(harness.root / "abcde")
    async with harness.running(monkeypatch, one=recording(recorder)):
        await until(lambda: harness.outcome("one", "abcde") is None)
    assert recorder.events[1:] == [("one", "removed", "abcde")]


async def test_a_new_plugin_starts_with_the_next_stored_post(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    harness.root.mkdir()
    async with harness.running(monkeypatch):
        store(harness.library, "aaaaa")
    async with harness.running(monkeypatch, one=recording(recorder)):
        store(harness.library, "bbbbb")
        await until(lambda: harness.outcome("one", "bbbbb") == "done")
    assert recorder.events == [("one", "stored", "bbbbb")]


@pytest.mark.parametrize("damage", [0, 0.5, b"not a database" * 1000])
async def test_after_a_damaged_ledger_everything_is_reported_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, damage: float | bytes
) -> None:
    recorder = Recorder()
    async with harness.running(monkeypatch, one=recording(recorder)):
        store(harness.library, "abcde")
        await until(lambda: harness.outcome("one", "abcde") == "done")
    whole = harness.ledger_path.read_bytes()
    cut = damage if isinstance(damage, bytes) else whole[: int(len(whole) * damage)]
    harness.ledger_path.write_bytes(cut)
    async with harness.running(monkeypatch, one=recording(recorder)):
        await until(lambda: len(recorder.events) == 2)
    assert recorder.events == [("one", "stored", "abcde")] * 2


@pytest.mark.parametrize(
    ("failures", "calls", "outcome"), [(1, 2, "done"), (2, 3, "done"), (9, 3, "failed")]
)
async def test_a_failing_hook_is_tried_three_times(
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    calls: int,
    outcome: str,
) -> None:
    recorder = Recorder()
    recorder.fail = failures
    sample = harness.metrics.registry.get_sample_value
    labels = {"plugin": "one", "hook": "post_stored"}
    word = "ok" if outcome == "done" else "given_up"
    async with harness.running(monkeypatch, one=recording(recorder)):
        store(harness.library, "abcde")
        await until(lambda: sample("plugin_calls_total", {**labels, "outcome": word}) == 1)
        await until(lambda: harness.outcome("one", "abcde") == outcome)
    assert len(recorder.events) == calls
    assert sample("plugin_calls_total", {**labels, "outcome": "failed"}) == calls - 1


async def test_a_hanging_hook_delays_neither_other_plugins_nor_shutdown(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, forever = Recorder(), threading.Event()

    def hang(post: Post) -> None:
        forever.wait()

    async def hang_too(post: Post) -> None:
        await asyncio.Event().wait()

    modules = {
        "one": module(post_stored=hang),
        "two": module(post_stored=hang_too),
        "three": recording(recorder, "three"),
    }
    async with harness.running(monkeypatch, **modules):
        for name in ("aaaaa", "bbbbb"):
            store(harness.library, name)
            await until(lambda: harness.outcome("three", name) == "done")  # noqa: B023
        for plugin in ("one", "two"):
            await until(lambda: harness.outcome(plugin, "aaaaa") == "begun")  # noqa: B023
    assert harness.outcome("one", "aaaaa") == harness.outcome("two", "aaaaa") == "begun"
    forever.set()


async def test_a_slow_hook_fails_and_never_runs_concurrently(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[int] = []
    concurrent: list[int] = []

    async def slow(post: Post) -> None:
        running.append(1)
        concurrent.append(len(running))
        try:
            await asyncio.Event().wait()
        finally:
            running.pop()

    harness.timeout = 0.01
    async with harness.running(monkeypatch, one=module(post_stored=slow)):
        store(harness.library, "abcde")
        await until(lambda: harness.outcome("one", "abcde") == "failed")
    assert concurrent == [1, 1, 1]


async def test_a_function_that_returns_too_late_fails(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[threading.Event] = []

    def slow(post: Post) -> None:
        late.append(threading.Event())
        late[-1].wait()

    def refused() -> int:
        return [line["event"] for line in logs].count("plugin does not return")

    harness.timeout = 0.01
    with capture_logs() as logs:
        async with harness.running(monkeypatch, one=module(post_stored=slow)):
            store(harness.library, "abcde")
            for number in range(1, 4):
                await until(lambda: refused() == len(late) == number)  # noqa: B023
                late[-1].set()
            await until(lambda: harness.outcome("one", "abcde") == "failed")
    assert len(late) == 3


@pytest.mark.parametrize("result", ["text", 1, SimpleNamespace(media=())])
async def test_a_hook_with_a_wrong_return_type_fails(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, result: object
) -> None:
    async with harness.running(monkeypatch, one=module(post_stored=lambda: result)):
        store(harness.library, "abcde")
        await until(lambda: harness.outcome("one", "abcde") == "failed")


async def test_additions_belong_to_a_post_until_its_next_download(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sound(post: Post, folder: Path) -> Additions:
        (folder / "abcde.m4a").write_bytes(b"sound")
        made = replace(post.media[0], type="audio", filename="abcde.m4a", size=5, cdn_url="")
        return Additions((made,))

    async def copy(post: Post) -> Additions:
        return Additions(object_urls={post.media[0].filename: "https://s3.example/abcde.mp4"})

    modules = {"one": module(post_stored=sound), "two": module(post_stored=copy)}
    async with harness.running(monkeypatch, **modules):
        store(harness.library, "abcde")
        for name in modules:
            await until(lambda: harness.outcome(name, "abcde") == "done")  # noqa: B023
        stored = await harness.library.get("abcde")
    assert stored
    assert [item.filename for item in stored.post.items] == ["abcde.mp4", "abcde.m4a"]
    assert stored.post.object_urls == {"abcde.mp4": "https://s3.example/abcde.mp4"}
    async with harness.running(monkeypatch):
        store(harness.library, "abcde")
        stored_again = await harness.library.get("abcde")
    assert stored_again
    assert (stored_again.post.added, stored_again.post.object_urls) == ((), {})


async def test_a_truncated_file_is_left_out_of_the_post(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sound(post: Post, folder: Path) -> Additions:
        (folder / "abcde.m4a").write_bytes(b"sound")
        return Additions(
            (replace(post.media[0], type="audio", filename="abcde.m4a", size=5, cdn_url=""),)
        )

    async with harness.running(monkeypatch, one=module(post_stored=sound)):
        store(harness.library, "abcde")
        await until(lambda: harness.outcome("one", "abcde") == "done")
        (harness.root / "abcde/abcde.m4a").write_bytes(b"cut")
        stored = harness.library.load("abcde")
    assert stored
    assert stored.post.added == ()


WRONG = [
    {"filename": "../../etc/passwd"},
    {"filename": "other.m4a"},
    {"size": -1},
    {"size": "5"},
    {"width": 2**64},
    {"type": "text"},
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_invalid_additions_fail_and_delay_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    def add(post: Post) -> Additions:
        return Additions((replace(post.media[0], **wrong),))

    def copy(post: Post, folder: Path) -> Additions:
        return Additions(object_urls={post.main.filename: folder})  # type: ignore[dict-item]

    modules = {"one": module(post_stored=add), "two": module(post_stored=copy)}
    async with harness.running(monkeypatch, **modules):
        for name in ("aaaaa", "bbbbb"):
            store(harness.library, name)
        for plugin in modules:
            await until(lambda: harness.outcome(plugin, "bbbbb") == "failed")  # noqa: B023
        stored = harness.library.load("aaaaa")
    assert stored
    assert stored.post.added == ()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_hook_cannot_end_the_process(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def end() -> None:
        raise error

    async def end_too() -> None:
        raise error

    modules = {"one": module(post_stored=end), "two": module(post_stored=end_too)}
    async with harness.running(monkeypatch, **modules):
        store(harness.library, "abcde")
        for plugin in modules:
            await until(lambda: harness.outcome(plugin, "abcde") == "failed")  # noqa: B023


async def test_additions_that_cannot_be_stored_fail_after_three_tries(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def copy(post: Post) -> Additions:
        calls.append(post.shortcode)
        return Additions(object_urls={post.main.filename: "https://s3.example/"})

    async def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(Library, "add", refuse)
    async with harness.running(monkeypatch, one=module(post_stored=copy)):
        store(harness.library, "abcde")
        await until(lambda: harness.outcome("one", "abcde") == "failed")
    assert calls == ["abcde"] * 3


async def test_a_post_removed_during_its_hook_is_reported_as_removed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def stored(post: Post) -> None:
        seen.append("stored")
        await asyncio.to_thread(shutil.rmtree, harness.root / post.shortcode)

    modules = {"one": module(post_stored=stored, post_removed=lambda: seen.append("removed"))}
    async with harness.running(monkeypatch, **modules):
        store(harness.library, "abcde")
        await until(lambda: seen == ["stored", "removed"])


async def test_many_posts_are_each_reported_once_and_in_order(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    names = [f"post{number:03d}" for number in range(150)]
    async with harness.running(monkeypatch, one=recording(recorder)):
        for name in names:
            store(harness.library, name)
        await until(lambda: harness.outcome("one", names[-1]) == "done")
    assert recorder.events == [("one", "stored", name) for name in names]
    assert {harness.outcome("one", name) for name in names} == {"done"}


async def test_one_failure_does_not_affect_other_posts(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def post_stored(post: Post) -> None:
        seen.append(post.shortcode)
        if post.shortcode == "post005":
            raise OSError("the server is unavailable")

    names = [f"post{number:03d}" for number in range(20)]
    async with harness.running(monkeypatch, one=module(post_stored=post_stored)):
        for name in names:
            store(harness.library, name)
        await until(lambda: harness.outcome("one", "post005") == "failed")
        await until(lambda: harness.outcome("one", names[-1]) == "done")
    assert sorted(set(seen)) == names
    assert seen.count("post005") == 3
    assert len(seen) == len(names) + 2


async def test_no_hook_is_repeated_while_the_ledger_is_locked(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    refused: list[str] = []
    record = Ledger.record

    def refusing(self: Ledger, plugin: str, *posts: Any) -> None:
        if "done" in {outcome for _, _, outcome in posts} and len(refused) < 4:
            refused.append(plugin)
            raise sqlite3.OperationalError("database or disk is full")
        record(self, plugin, *posts)

    names = [f"post{number}" for number in range(5)]
    async with harness.running(monkeypatch, one=recording(recorder)):
        pass
    for name in names:
        store(harness.library, name)
    monkeypatch.setattr(Ledger, "record", refusing)
    async with harness.running(monkeypatch, one=recording(recorder)):
        for name in names:
            await until(lambda: harness.outcome("one", name) == "done")  # noqa: B023
    assert recorder.events == [("one", "stored", name) for name in names]
    assert len(refused) == 4


async def test_a_freshly_stored_post_is_not_read_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[str] = []

    def post_stored(post: Post) -> None:
        captions.append(post.description)

    async with harness.running(monkeypatch, one=module(post_stored=post_stored)):
        with patch("scrapper.library.index.load") as load:
            for text in ("old", "new"):
                store(harness.library, "abcde", text)
                await until(lambda: captions[-1:] == [text])  # noqa: B023
    assert captions == ["old", "new"]
    assert load.call_count == 0


async def test_a_slow_call_is_recorded_before_the_next_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.plugins.stored_run._BATCH_SECONDS", -1.0)
    names = [f"post{number}" for number in range(5)]
    outcomes: list[list[str | None]] = []

    def post_stored() -> None:
        outcomes.append([harness.outcome("one", name) for name in names])

    async with harness.running(monkeypatch, one=module(post_stored=post_stored)):
        for name in names:
            store(harness.library, name)
        await until(lambda: harness.outcome("one", names[-1]) == "done")
    done = [["done"] * number + ["begun"] + [None] * (4 - number) for number in range(5)]
    assert outcomes == done


async def test_additions_are_stored_before_the_next_call(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.plugins.stored_run._BATCH_SECONDS", 3600.0)
    plain, added = [f"plain{number}" for number in range(3)], [f"added{it}" for it in range(4)]
    done: list[list[str]] = []

    def post_stored(post: Post) -> Additions | None:
        done.append([name for name in added if harness.outcome("one", name) == "done"])
        name = post.main.filename
        return Additions(object_urls={name: "https://s3.example/"}) if name[0] == "a" else None

    plugin = module(post_stored=post_stored)
    async with harness.running(monkeypatch, one=plugin):
        pass
    for name in [*plain, *added]:
        store(harness.library, name)
    async with harness.running(monkeypatch, one=plugin):
        await until(lambda: harness.outcome("one", added[-1]) == "done")
    assert done == [[], [], [], [], added[:1], added[:2], added[:3]]


async def test_a_post_removed_before_its_hook_causes_no_event(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    started, proceed = threading.Event(), threading.Event()

    def post_stored(post: Post) -> None:
        recorder.record("stored", post.shortcode)
        if post.shortcode == "hangs":
            started.set()
            proceed.wait()

    plugin = module(
        post_stored=post_stored,
        post_removed=lambda shortcode: recorder.record("removed", shortcode),
    )
    # Fast calls are recorded in batches: of 1, 2, 4 and 8, and then one of the last posts.
    monkeypatch.setattr("scrapper.plugins.stored_run._BATCH_SECONDS", 3600.0)
    fast, last = [f"fast{number}" for number in range(15)], ["hangs", "leaves", "stays"]
    async with harness.running(monkeypatch, one=plugin):
        pass
    for name in [*fast, *last]:
        store(harness.library, name)
    async with harness.running(monkeypatch, one=plugin):
        await until(started.is_set)
        assert harness.outcome("one", "leaves") == "begun"
        await harness.library.remove("leaves")
        proceed.set()
        await until(lambda: harness.outcome("one", "stays") == "done")
        await until(lambda: harness.outcome("one", "leaves") is None)
    assert recorder.events == [("stored", name) for name in [*fast, "hangs", "stays"]]


def test_two_processes_that_start_together_lose_nothing(tmp_path: Path) -> None:
    one, other = (Ledger(tmp_path / "plugins.sqlite3") for _ in range(2))
    # The plugin is new to both processes. A post is stored after the first has listed the library
    # and before the second has.
    assert one.unknown(["mine"]) == other.unknown(["mine"]) == {"mine"}
    one.begin(["mine"], {"aaaaa": 1})
    other.begin(["mine"], {"aaaaa": 1, "bbbbb": 2})
    assert one.posts("mine") == other.posts("mine") == {"aaaaa": 1}
    one.close()
    other.close()


async def test_a_post_changed_during_its_hook_is_reported_as_changed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[str] = []

    async def slow(post: Post) -> None:
        captions.append(post.description)
        if len(captions) == 1:
            await asyncio.to_thread(store, harness.library, "abcde", "new")

    async with harness.running(monkeypatch, one=module(post_stored=slow)):
        store(harness.library, "abcde", "old")
        await until(lambda: harness.outcome("one", "abcde") == "done")
    assert captions == ["old", "new"]


def refuse_to_forget_once(monkeypatch: pytest.MonkeyPatch) -> None:
    forget = Ledger.forget

    def refuse(self: Ledger, *entry: str) -> None:
        monkeypatch.setattr(Ledger, "forget", forget)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Ledger, "forget", refuse)


@pytest.mark.parametrize(
    ("moment", "again"),
    [("before", []), ("during", []), ("during, with a failure", ["aaaaa"]), ("fault", ["aaaaa"])],
)
async def test_removals_survive_the_loss_of_the_ledger(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, moment: str, again: list[str]
) -> None:
    removed: list[str] = []
    started, proceed = threading.Event(), threading.Event()

    def post_stored(post: Post) -> None:
        if post.shortcode == "ddddd":
            started.set()
            proceed.wait()

    def post_removed(shortcode: str) -> None:
        removed.append(shortcode)
        if moment != "before" and len(removed) == 1:
            harness.ledger_path.unlink()
            if "failure" in moment:
                raise OSError("the server is unavailable")

    if moment == "fault":
        refuse_to_forget_once(monkeypatch)
    names = ["aaaaa", "bbbbb", "ccccc"]
    plugin = module(post_stored=post_stored, post_removed=post_removed)
    async with harness.running(monkeypatch, one=plugin):
        for name in names:
            store(harness.library, name)
            await until(lambda: harness.outcome("one", name) == "done")  # noqa: B023
        store(harness.library, "ddddd")
        await until(started.is_set)
        for name in names:
            await harness.library.remove(name)
        if moment == "before":
            harness.ledger_path.unlink()
        proceed.set()
        await until(lambda: sorted(removed) == sorted(names + again))


async def test_a_restart_while_catching_up_loses_no_removal(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    lost, started, proceed = threading.Event(), threading.Event(), threading.Event()

    def post_stored(post: Post) -> None:
        if lost.is_set():
            started.set()
            proceed.wait()

    def post_removed(shortcode: str) -> None:
        removed.append(shortcode)

    plugin = module(post_stored=post_stored, post_removed=post_removed)
    names = ["aaaaa", "bbbbb", "ccccc"]
    harness.pauses = replace(harness.pauses, tries=(300.0, 300.0))
    async with harness.running(monkeypatch, one=plugin):
        for name in names:
            store(harness.library, name)
            await until(lambda: harness.outcome("one", name) == "done")  # noqa: B023
        lost.set()
        harness.ledger_path.unlink()
        await until(started.is_set)
        asyncio.get_running_loop().call_later(0.1, proceed.set)
    for name in names:
        shutil.rmtree(harness.root / name)
    async with harness.running(monkeypatch, one=plugin):
        await until(lambda: sorted(removed) == names)


async def submit(harness: Harness) -> Job:
    job = new_job(["https://www.instagram.com/p/abcde/"], max_url_length=512)
    await harness.jobs.add(job)
    return job


async def finish(harness: Harness, job: Job) -> None:
    await harness.jobs.save_post(job.id, 0, job.posts[0].failed(404, "post_not_found", "gone"))


async def retry(harness: Harness, job: Job) -> None:
    kept = await harness.jobs.get(job.id)
    assert kept is not None
    await harness.jobs.change(kept, JobPost.retried, queue=True)


async def test_each_finished_job_is_reported_once_across_restarts(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    one = recording(recorder)
    async with harness.running(monkeypatch):
        await finish(harness, await submit(harness))
    async with harness.running(monkeypatch, one=one):
        first, second = await submit(harness), await submit(harness)
        await finish(harness, first)
        await until(lambda: recorder.events == [("one", "job", first.id)])
        # A call is repeated if its success was not recorded before the process ended.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await harness.jobs.unreported("one"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    async with harness.running(monkeypatch, one=one):
        await finish(harness, second)
        await until(lambda: recorder.events[1:] == [("one", "job", second.id)])
        await retry(harness, first)
        await finish(harness, first)
        await until(lambda: recorder.events[2:] == [("one", "job", first.id)])


async def test_a_job_retried_during_its_hook_is_reported_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    proceed = threading.Event()

    def job_finished(job: JobResponse) -> None:
        seen.append(job.posts[0].code)
        proceed.wait()

    async with harness.running(monkeypatch, one=module(job_finished=job_finished)):
        job = await submit(harness)
        await finish(harness, job)
        await until(lambda: seen == ["post_not_found"])
        await retry(harness, job)
        await harness.jobs.save_post(job.id, 0, job.posts[0].done(1))
        proceed.set()
        await until(lambda: seen == ["post_not_found", None])


async def test_jobs_waiting_for_a_retry_are_not_read_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The plugin checks the conditions once per poll, just before the jobs.
    log: list[str] = []
    unreported = SqliteStore.unreported

    async def reading(self: SqliteStore, plugin: str) -> Any:
        log.append("read")
        return await unreported(self, plugin)

    def job_finished(job: JobResponse) -> None:
        log.append("failed")
        raise OSError("the server is unavailable")

    def now() -> dict[str, Any]:
        log.append("poll")
        return {}

    harness.conditions = SimpleNamespace(now=now)
    harness.pauses = Pauses(polls=0.01, tries=(3600.0,))
    monkeypatch.setattr(SqliteStore, "unreported", reading)
    plugin = module(job_finished=job_finished, condition_changed=lambda: None)
    async with harness.running(monkeypatch, one=plugin):
        for _ in range(2):
            await finish(harness, await submit(harness))
        await until(lambda: log.count("failed") == 2)
        del log[:]
        await until(lambda: log.count("poll") == 4)
    assert log[log.index("poll") :][:6] == ["poll", "read"] * 3
