"""Telling one plugin of posts and jobs: in order, each at least once, with up to three tries."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from scrapper.jobs.store import FinishedJob, FinishedJobs
from scrapper.library.additions import Additions, check_additions
from scrapper.library.store import Library
from scrapper.plugins.calls import Call, NotReturned
from scrapper.plugins.ledger import Ledger, Outcome
from scrapper.plugins.loading import Plugin
from scrapper.scraping.peers import Peers
from scrapper.telemetry.metrics import Metrics

__all__ = ["Followed", "Follower", "Pauses", "UnreadablePost"]

log = structlog.get_logger(__name__)

_NO_VERSION = 0
_MAY_RETURN = "post_stored may return Additions or None, the others None"
_SECONDS_TO_CLEAN_UP = 5.0


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between two looks, before each further try of a call, and after a fault of ours."""

    looks: float = 2.0
    tries: Sequence[float] = (30.0, 300.0)
    fault: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What plugins are told of: the posts in the *library*, and *jobs* that ended.

    The *ledger* has what they know. A call may take *timeout* seconds. If it fails, it is tried
    again after each of the *pauses* for that. If the *peers* share the library, only the process
    that has the turn tells a plugin.
    """

    library: Library
    ledger: Ledger
    metrics: Metrics
    peers: Peers
    timeout: float
    jobs: FinishedJobs | None = None
    pauses: Pauses = Pauses()


class UnreadablePost(Exception):
    """A post is stored, but cannot be read."""


class Follower:
    """Tells one plugin of what is *followed*."""

    def __init__(self, plugin: Plugin, followed: Followed) -> None:
        self.plugin = plugin
        self.gave_up = False
        self._library = followed.library
        self._ledger = followed.ledger
        self._calls = followed.metrics.plugin_calls
        self._behind = followed.metrics.plugin_behind.labels(plugin.name)
        self._peers = followed.peers
        self._timeout = followed.timeout
        self._jobs = followed.jobs if plugin.follows_jobs else None
        self._pauses = followed.pauses
        self._news: set[str] = set()
        self._look_at_all = True
        self._seen: tuple[int | None, tuple[int, int]] | None = None
        self._awake = asyncio.Event()
        self._call: Call | None = None
        self._unwritten: dict[str, _Told] = {}
        self._tries: dict[tuple[str, str], int] = {}
        self._next_try: dict[tuple[str, str], float] = {}

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
                pause = self._pauses.looks
                try:
                    turn = f"plugin:{self.plugin.name}"
                    async with self._peers.exclusively(turn, in_doubt=False) as ours:
                        if ours:
                            await self.catch_up(ours)
                        # Another process has the turn: look at all posts once it is ours.
                        self._look_at_all = self._look_at_all or not ours
                # The disk or Redis may be away; the next look finds what is to be told.
                except Exception as error:  # noqa: BLE001
                    log.warning("plugin not told", cause=repr(error))
                    self._look_at_all = True
                    pause = self._pauses.fault
                await self._sleep(pause)

    async def close(self) -> None:
        """Abandon the call under way; the plugin is told again after the next start."""
        if self._call is not None:
            await self._call.abandon(_SECONDS_TO_CLEAN_UP)

    async def catch_up(self, ours: object = True) -> bool:
        """Tell what is to be told now; return whether something is left for another try.

        It stops once *ours* is false: another process may do it then.
        """
        if self.plugin.follows_posts:
            changes = await self._changes()
            for number, shortcode in enumerate(changes):
                self._behind.set(len(changes) - number)
                if not ours:
                    self._news.update(changes[number:])
                    return True
                await self._tell_post(shortcode)
        if self._jobs is not None and ours:
            unreported = await self._jobs.unreported(self.plugin.name)
            ids = {job.response.id for job in unreported}
            for hook, subject in list(self._next_try):
                if hook == "job_finished" and subject not in ids:
                    self._settle(hook, subject)
            for job in unreported:
                await self._tell_job(self._jobs, job)
        self._behind.set(len(self._next_try))
        return bool(self._next_try)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()

    async def _changes(self) -> list[str]:
        """Posts that the plugin may not know as they are: those that are gone, then the oldest."""
        news, self._news = self._news, set()
        try:
            return await self._find_changes(news)
        except BaseException:
            self._news |= news
            raise

    async def _find_changes(self, news: set[str]) -> list[str]:
        name = self.plugin.name
        changed_at = await self._library.changed_at() if self._peers.shared else None
        edition = await asyncio.to_thread(self._ledger.edition, name)
        if self._seen is not None and edition != self._seen[1]:
            # Somebody wants everything done now, what failed included.
            self._next_try.clear()
            self._tries.clear()
        if self._look_at_all or (changed_at, edition) != self._seen:
            there = await self._library.versions()
            known = await asyncio.to_thread(self._ledger.posts, name)
            self._look_at_all, self._seen = False, (changed_at, edition)
            changed = {it for it in there.keys() | known.keys() if there.get(it) != known.get(it)}
        else:
            changed = news | {subject for hook, subject in self._next_try if hook != "job_finished"}
            versions = {shortcode: await self._library.version(shortcode) for shortcode in changed}
            there = {it: version for it, version in versions.items() if version is not None}
        return sorted(changed, key=lambda shortcode: (there.get(shortcode, 0), shortcode))

    async def _tell_post(self, shortcode: str) -> None:
        """Tell of the post as it is by now, if the plugin does not know that."""
        name = self.plugin.name
        entry = await asyncio.to_thread(self._ledger.entry, name, shortcode)
        try:
            version = await self._library.version(shortcode)
        except OSError as error:
            # It may be there, or gone.
            self._note_failure(shortcode, "post_stored", error)
            return
        if version is None:
            await self._tell_removal(
                shortcode, is_known=entry is not None and entry[1] != "skipped"
            )
        elif entry is None or entry[0] != version:
            await self._tell_storing(shortcode, version)

    async def _tell_removal(self, shortcode: str, *, is_known: bool) -> None:
        self._settle("post_stored", shortcode)
        self._unwritten.pop(shortcode, None)
        if not is_known or await self._tell(shortcode, "post_removed", shortcode=shortcode):
            await asyncio.to_thread(self._ledger.forget, self.plugin.name, shortcode)

    async def _tell_storing(self, shortcode: str, version: int) -> None:
        name = self.plugin.name
        # The removal of an earlier version is no news any more.
        self._settle("post_removed", shortcode)
        told = self._unwritten.get(shortcode)
        if told is None or told.version != version:
            told = await self._call_with_post(shortcode, version)
        if told is None:
            return
        # If the disk takes no writes, only the writing is tried again, not the call.
        self._unwritten[shortcode] = told
        if await self._library.version(shortcode) == version:
            outcome = await self._add(shortcode, told)
            if outcome is not None:
                self._settle("post_stored", shortcode)
                await asyncio.to_thread(self._ledger.note, name, shortcode, version, outcome)
        else:
            # The plugin worked on files that are gone.
            self.note(shortcode)
        del self._unwritten[shortcode]

    async def _add(self, shortcode: str, told: "_Told") -> Outcome | None:
        """Make what the plugin returned part of the post; None if it must do its work again."""
        if told.additions is not None:
            name = self.plugin.name
            try:
                await self._library.add(shortcode, name, told.additions, told.version)
            except OSError as error:
                return "failed" if self._note_failure(shortcode, "post_stored", error) else None
        return "done" if told.worked else "failed"

    async def _call_with_post(self, shortcode: str, version: int) -> "_Told | None":
        """Call the plugin; None if that is to be done later."""
        if self._waits("post_stored", shortcode):
            return None
        if "post_stored" not in self.plugin.hooks:
            return _Told(version, worked=True)
        stored = await self._library.reread(shortcode)
        if stored is None:
            told = self._note_failure(shortcode, "post_stored", UnreadablePost(shortcode))
            return told and replace(told, version=version)
        # However the call ends, the plugin must hear of it if the post is removed later.
        name = self.plugin.name
        await asyncio.to_thread(self._ledger.note, name, shortcode, _NO_VERSION, "begun")
        folder = self._library.root / shortcode
        told = await self._tell(shortcode, "post_stored", post=stored.post, folder=folder)
        return told and replace(told, version=version)

    async def _tell_job(self, jobs: FinishedJobs, job: FinishedJob) -> None:
        if job not in await jobs.unreported(self.plugin.name):
            # It went on while the plugin was told of others.
            return
        if await self._tell(job.response.id, "job_finished", job=job.response):
            await jobs.note_reported(self.plugin.name, job)

    async def _tell(self, subject: str, hook: str, **arguments: Any) -> "_Told | None":
        """Call the *hook* if the plugin has it; None if it is to be tried later."""
        impl = self.plugin.hooks.get(hook)
        if impl is None:
            return _Told(worked=True)
        if self._waits(hook, subject):
            return None
        call = self._call = Call(impl.function, *[arguments[name] for name in impl.argnames])
        cause: Exception | None = None
        try:
            result = await call.result(self._timeout)
            _check_result(result, hook, arguments)
        except NotReturned as error:
            cause = error
            log.warning("plugin does not return", hook=hook, subject=subject)
            await call.ended()
        # A plugin may raise anything.
        except Exception as error:  # noqa: BLE001
            cause = error
        if cause is not None:
            return self._note_failure(subject, hook, cause)
        if hook != "post_stored":
            # What that returned is to be stored first.
            self._settle(hook, subject)
        self._calls.labels(self.plugin.name, hook, "ok").inc()
        return _Told(worked=True, additions=result)

    def _note_failure(self, subject: str, hook: str, cause: Exception) -> "_Told | None":
        tries = self._tries[hook, subject] = self._tries.get((hook, subject), 0) + 1
        gave_up = tries > len(self._pauses.tries)
        known = {"hook": hook, "subject": subject, "tries": tries, "cause": repr(cause)}
        self._calls.labels(self.plugin.name, hook, "given_up" if gave_up else "failed").inc()
        if gave_up:
            log.error("plugin gave up", **known, exc_info=cause)
            self._settle(hook, subject)
            self.gave_up = True
            return _Told(worked=False)
        log.warning("plugin failed", **known, exc_info=cause if tries == 1 else None)
        self._next_try[hook, subject] = time.monotonic() + self._pauses.tries[tries - 1]
        return None

    def _waits(self, hook: str, subject: str) -> bool:
        return self._next_try.get((hook, subject), 0.0) > time.monotonic()

    def _settle(self, hook: str, subject: str) -> None:
        self._tries.pop((hook, subject), None)
        self._next_try.pop((hook, subject), None)


@dataclass(frozen=True, slots=True)
class _Told:
    """A plugin was told of something, and need not be told again."""

    version: int = _NO_VERSION
    worked: bool = False
    additions: Additions | None = None


def _check_result(result: Any, hook: str, arguments: Mapping[str, Any]) -> None:
    """See that a hook may return *result*.

    Raises:
        TypeError, ValueError: it may not.
    """
    if hook == "post_stored" and isinstance(result, Additions):
        check_additions(result, arguments["post"])
    elif result is not None:
        raise TypeError(f"{hook} returned {type(result).__name__}: {_MAY_RETURN}")
