"""Telling plugins of posts and jobs: each in its own time, none of it lost.

The library itself says what is to be told: what is stored and not in the ledger, and what is in
the ledger and no longer stored. So whatever a crash interrupts is done after the next start.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog
from structlog.contextvars import bound_contextvars

from scrapper.background import in_background
from scrapper.cancellation import end
from scrapper.jobs.model import Job
from scrapper.library.additions import Additions
from scrapper.library.store import Library
from scrapper.plugins.calls import Call
from scrapper.plugins.ledger import Ledger, Outcome
from scrapper.plugins.loading import Plugin, Plugins
from scrapper.scraping.peers import Alone, Peers
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

__all__ = ["FinishedJobs", "Followers"]

log = structlog.get_logger(__name__)

_PAUSES = (30.0, 300.0)
_SECONDS_BETWEEN_LOOKS = 2.0
_PAUSE_AFTER_FAULT = 30.0
_SECONDS_TO_CLEAN_UP = 5.0

Turn = Callable[[str], AbstractAsyncContextManager[bool]]
"""Gives True in the block if this process alone may do what the name says, for now."""


class FinishedJobs(Protocol):
    """The jobs that ended, which plugins may not know of yet."""

    async def untold(self, plugin: str) -> Sequence[Job]:
        """Those that *plugin* was not told of, oldest first."""
        ...

    async def note_told(self, plugin: str, job_id: str) -> None:
        """Note that *plugin* was told of the job."""
        ...


class Followers:
    """Tells *plugins* what happens in *library*, and to *jobs*.

    Each plugin is told one thing after the other, posts in order of storing, and holds up neither
    requests nor other plugins. A call may take *timeout* seconds. One that fails is tried again
    after each of the *pauses*, in seconds. Where processes share the library (*shared*),
    one at a time has the *turn* to tell a plugin.
    """

    def __init__(
        self,
        plugins: Sequence[Plugin],
        library: Library,
        ledger: Ledger,
        metrics: Metrics,
        *,
        turn: Turn,
        shared: bool,
        timeout: float,
        jobs: FinishedJobs | None = None,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        self._library = library
        self._ledger = ledger
        self._followers = [
            _Follower(plugin, library, ledger, metrics, turn, shared, timeout, jobs, pauses)
            for plugin in plugins
        ]

    @classmethod
    def from_settings(  # noqa: PLR0917 - each is of another type
        cls,
        settings: Settings,
        plugins: Plugins,
        library: Library,
        ledger: Ledger,
        metrics: Metrics,
        peers: Peers,
        jobs: FinishedJobs,
    ) -> "Followers":
        """The followers of *plugins* as *settings* describe them."""
        return cls(
            plugins.followers,
            library,
            ledger,
            metrics,
            turn=partial(peers.exclusively, in_doubt=False),
            shared=not isinstance(peers, Alone),
            timeout=settings.plugin_timeout_seconds,
            jobs=jobs,
        )

    async def begin(self) -> frozenset[str]:
        """Have new plugins start here; return them. Call it before anything is stored.

        Raises:
            DiskFull, DiskReadOnly, OSError, sqlite3.Error: the ledger cannot be written.
        """
        names = [follower.plugin.name for follower in self._followers]
        if not names:
            return frozenset()
        new = await asyncio.to_thread(self._ledger.unknown, names)
        if new:
            posts = await self._library.versions()
            if await asyncio.to_thread(self._ledger.begin, new, posts):
                return frozenset(new)
        return frozenset()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell what is to be told while the block runs."""
        tasks = [
            in_background(follower.run(), f"plugin {follower.plugin.name}")
            for follower in self._followers
        ]
        self._library.listen(self._note_post)
        try:
            yield
        finally:
            for task in tasks:
                await end(task)
            await asyncio.gather(*(follower.close() for follower in self._followers))
            await asyncio.to_thread(self._ledger.close)

    async def catch_up(self) -> bool:
        """Tell all that is to be told now, with all tries; return whether all of it worked."""
        worked = True
        for follower in self._followers:
            while await follower.catch_up():  # noqa: ASYNC110 - not an event: the next try
                await asyncio.sleep(follower.seconds_to_next)
            worked = worked and not follower.gave_up
        return worked

    def wake(self) -> None:
        """Look now: a job ended."""
        for follower in self._followers:
            follower.wake()

    def _note_post(self, shortcode: str) -> None:
        for follower in self._followers:
            follower.note(shortcode)


class _Follower:
    """Tells one plugin."""

    def __init__(  # noqa: PLR0917 - each is of another type
        self,
        plugin: Plugin,
        library: Library,
        ledger: Ledger,
        metrics: Metrics,
        turn: Turn,
        shared: bool,
        timeout: float,
        jobs: FinishedJobs | None,
        pauses: Sequence[float],
    ) -> None:
        self.plugin = plugin
        self.gave_up = False
        self._library = library
        self._ledger = ledger
        self._calls = metrics.plugin_calls
        self._behind = metrics.plugin_behind.labels(plugin.name)
        self._turn = partial(turn, f"plugin:{plugin.name}")
        self._shared = shared
        self._timeout = timeout
        self._jobs = jobs if plugin.follows_jobs else None
        self._pauses = pauses
        self._news: set[str] = set()
        self._look_at_all = True
        self._seen: tuple[int | None, int] | None = None
        self._awake = asyncio.Event()
        self._call: Call | None = None
        self._tries: dict[str, int] = {}
        self._next_try: dict[str, float] = {}

    def note(self, shortcode: str) -> None:
        """Look at the post again: it may have been stored or removed."""
        self._news.add(shortcode)
        self.wake()

    def wake(self) -> None:
        """Look now."""
        self._awake.set()

    @property
    def seconds_to_next(self) -> float:
        """The seconds to the next try of what failed."""
        return max(0.0, min(self._next_try.values(), default=0.0) - time.monotonic())

    async def run(self) -> None:
        """Tell what is to be told, until it is cancelled."""
        with bound_contextvars(plugin=self.plugin.name):
            while True:
                self._awake.clear()
                pause = _SECONDS_BETWEEN_LOOKS
                try:
                    async with self._turn() as ours:
                        if ours:
                            await self.catch_up()
                        # What we heard of, the other process sees for itself.
                        self._look_at_all = self._look_at_all or not ours
                # The disk or Redis may be away; the next look finds what is to be told.
                except Exception as error:  # noqa: BLE001
                    log.warning("plugin not told", cause=repr(error))
                    self._look_at_all = True
                    pause = _PAUSE_AFTER_FAULT
                await self._sleep(pause)

    async def close(self) -> None:
        """Abandon the call under way; the plugin is told again after the next start."""
        if self._call is not None:
            await self._call.abandon(_SECONDS_TO_CLEAN_UP)

    async def catch_up(self) -> bool:
        """Tell what is to be told now; return whether something is left for another try."""
        if self.plugin.follows_posts:
            changes = await self._changes()
            for number, (shortcode, version) in enumerate(changes):
                self._behind.set(len(changes) - number)
                if self._is_due(shortcode):
                    await self._tell_post(shortcode, version)
        if self._jobs is not None:
            for job in await self._jobs.untold(self.plugin.name):
                if self._is_due(job.id):
                    await self._tell_job(self._jobs, job)
        self._behind.set(len(self._next_try))
        return bool(self._next_try)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()

    async def _changes(self) -> list[tuple[str, int | None]]:
        """Posts that the plugin does not know as they are, with their versions: oldest first.

        Those that are gone have none, and come first.
        """
        news, self._news = self._news, set()
        try:
            there, known = await self._compare(news)
        except BaseException:
            self._news |= news
            raise
        gone: list[tuple[str, int | None]] = [(it, None) for it in known if it not in there]
        stored = [(version, it) for it, version in there.items() if known.get(it) != version]
        return [*gone, *((it, version) for version, it in sorted(stored))]

    async def _compare(self, news: set[str]) -> tuple[dict[str, int], dict[str, int]]:
        """The versions of posts that are stored, and of those that the plugin was told of."""
        name = self.plugin.name
        changed_at = await self._library.changed_at() if self._shared else None
        restarts = await asyncio.to_thread(self._ledger.restarts, name)
        if self._look_at_all or (changed_at, restarts) != self._seen:
            there = await self._library.versions()
            known = await asyncio.to_thread(self._ledger.posts, name)
            self._look_at_all, self._seen = False, (changed_at, restarts)
            return there, known
        there, known = {}, {}
        for shortcode in news | self._next_try.keys():
            version = await self._library.version(shortcode)
            told = await asyncio.to_thread(self._ledger.version, name, shortcode)
            there |= {} if version is None else {shortcode: version}
            known |= {} if told is None else {shortcode: told}
            if version == told:
                # It was removed before its next try.
                self._next_try.pop(shortcode, None)
        return there, known

    async def _tell_post(self, shortcode: str, version: int | None) -> None:
        name = self.plugin.name
        if version is None:
            if await self._tell(shortcode, "post_removed", shortcode=shortcode):
                await asyncio.to_thread(self._ledger.forget, name, shortcode)
            return
        stored = await self._library.get(shortcode)
        if stored is None:
            return
        folder = self._library.root / shortcode
        outcome = await self._tell(shortcode, "post_stored", post=stored.post, folder=folder)
        if await self._library.version(shortcode) != version:
            # The plugin worked on files that are gone.
            self._settle(shortcode)
            self.note(shortcode)
        elif outcome:
            if outcome.additions is not None:
                await self._library.add(shortcode, name, outcome.additions)
            word: Outcome = "done" if outcome.worked else "failed"
            await asyncio.to_thread(self._ledger.note, name, shortcode, version, word)

    async def _tell_job(self, jobs: FinishedJobs, job: Job) -> None:
        if await self._tell(job.id, "job_finished", job=job.to_response()):
            await jobs.note_told(self.plugin.name, job.id)

    async def _tell(self, subject: str, hook: str, **arguments: Any) -> "_Told | None":
        """Call the *hook* if the plugin has it; None if it failed and is to be tried again."""
        impl = self.plugin.hooks.get(hook)
        if impl is None:
            return _Told(worked=True)
        call = self._call = Call(impl.function, *[arguments[name] for name in impl.argnames])
        cause: Exception | None = None
        try:
            result = await call.result(self._timeout)
            if result is not None and not (hook == "post_stored" and isinstance(result, Additions)):
                raise TypeError(f"{hook} returned {type(result).__name__}")
        except TimeoutError as error:
            cause = error
            log.warning("plugin does not return", hook=hook, subject=subject)
            await call.ended()
        # A plugin may raise anything.
        except Exception as error:  # noqa: BLE001
            cause = error
        if cause is None:
            self._settle(subject)
            self._calls.labels(self.plugin.name, hook, "ok").inc()
            return _Told(worked=True, additions=result)
        return self._note_failure(subject, hook, cause)

    def _note_failure(self, subject: str, hook: str, cause: Exception) -> "_Told | None":
        tries = self._tries[subject] = self._tries.get(subject, 0) + 1
        gave_up = tries > len(self._pauses)
        known = {"hook": hook, "subject": subject, "tries": tries, "cause": repr(cause)}
        self._calls.labels(self.plugin.name, hook, "given_up" if gave_up else "failed").inc()
        if gave_up:
            log.error("plugin gave up", **known, exc_info=cause)
            self._settle(subject)
            self.gave_up = True
            return _Told(worked=False)
        log.warning("plugin failed", **known)
        self._next_try[subject] = time.monotonic() + self._pauses[tries - 1]
        return None

    def _is_due(self, subject: str) -> bool:
        return self._next_try.get(subject, 0.0) <= time.monotonic()

    def _settle(self, subject: str) -> None:
        self._tries.pop(subject, None)
        self._next_try.pop(subject, None)


@dataclass(frozen=True, slots=True)
class _Told:
    """A plugin was told of something, and need not be told again."""

    worked: bool
    additions: Additions | None = None
