"""Notifies plugins of events: each plugin in order and at its own pace, with three tries.

A comparison of the library with the ledger shows what a plugin has not got yet: posts that are
stored but not in the ledger, and posts that are in the ledger but no longer stored. So the next
start does whatever a crash interrupted. The ledger also has the conditions that a plugin knows.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import structlog
from structlog.contextvars import bound_contextvars

from scrapper.instagram.login.session import LoginState
from scrapper.jobs.store import FinishedJobs
from scrapper.library.additions import Additions
from scrapper.library.store import Library
from scrapper.plugins.calls import Call, NotReturned
from scrapper.plugins.conditions import Condition, Conditions
from scrapper.plugins.ledger import Ledger, Outcome
from scrapper.plugins.loading import Plugin
from scrapper.plugins.stored_run import StoredCall, StoredRun, check_result
from scrapper.scraping.peers import Peers
from scrapper.tasks import end, in_background
from scrapper.telemetry.metrics import Metrics

__all__ = ["Followed", "Followers", "Pauses"]

log = structlog.get_logger(__name__)

_OF_POSTS = ("post_stored", "post_removed")
_POSTS_AT_ONCE = 64
_SECONDS_TO_CLEAN_UP = 5.0


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between two looks, before each further try of a call, and after a fault of ours."""

    looks: float = 2.0
    tries: Sequence[float] = (30.0, 300.0)
    fault: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What plugins follow: the posts in the *library*, *jobs* that ended, and *conditions*.

    The *ledger* has what they know. A call may take *timeout* seconds. If it fails, it is tried
    again after each of the *pauses*. If the *peers* share the library, only the process that has
    the turn notifies a plugin.
    """

    library: Library
    ledger: Ledger
    metrics: Metrics
    peers: Peers
    timeout: float
    jobs: FinishedJobs | None = None
    conditions: Conditions | None = None
    pauses: Pauses = Pauses()


class Followers:
    """Notifies *plugins* of what is *followed*.

    Each plugin gets one event at a time, and posts in the order in which they were stored. It holds
    up neither requests nor other plugins.
    """

    def __init__(self, plugins: Sequence[Plugin], followed: Followed) -> None:
        self._library = followed.library
        self._ledger = followed.ledger
        self._followers = [_Follower(plugin, followed) for plugin in plugins]

    async def begin(self) -> None:
        """Make new plugins skip the posts stored so far. Call this before any other is stored.

        Raises:
            SettingsError: the ledger cannot be used.
            ScrapeError, OSError, sqlite3.Error: the ledger cannot be written.
        """
        names = [follower.plugin.name for follower in self._followers]
        if not names:
            return
        await asyncio.to_thread(self._ledger.open)
        if new := await asyncio.to_thread(self._ledger.unknown, names):
            posts = await self._library.versions()
            await asyncio.to_thread(self._ledger.begin, new, posts)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Notify the plugins while the block runs."""
        tasks = [
            in_background(follower.run(), f"plugin {follower.plugin.name}")
            for follower in self._followers
        ]
        if tasks:
            self._library.listen(self._note_post)
        try:
            yield
        finally:
            for task in tasks:
                await end(task)
            await asyncio.gather(*(follower.close() for follower in self._followers))
            await asyncio.to_thread(self._ledger.close)

    async def catch_up(self) -> bool:
        """Notify the plugins of everything until now, with all tries; return whether all worked."""
        worked = True
        for follower in self._followers:
            while await follower.catch_up():  # noqa: ASYNC110 - not an event: the next try
                await asyncio.sleep(follower.seconds_to_next)
            worked = worked and not follower.gave_up
        return worked

    def _note_post(self, shortcode: str) -> None:
        for follower in self._followers:
            follower.note(shortcode)


class _Ended(NamedTuple):
    """The outcome of a call that must not be repeated."""

    worked: bool
    additions: Additions | None = None


class _Follower:
    """Notifies one plugin of what is *followed*."""

    def __init__(self, plugin: Plugin, followed: Followed) -> None:
        self.plugin = plugin
        self.gave_up = False
        self._followed = followed
        self._library = followed.library
        self._ledger = followed.ledger
        self._behind = followed.metrics.plugin_behind.labels(plugin.name)
        self._jobs = followed.jobs if plugin.follows_jobs else None
        self._conditions = followed.conditions if plugin.follows_conditions else None
        self._news: set[str] = set()
        # Posts whose removal the plugin must get: an earlier ledger may have had them.
        self._without_entry: set[str] = set()
        self._look_at_all = True
        self._seen: tuple[int | None, tuple[int, int]] | None = None
        self._awake = asyncio.Event()
        self._call: Call | None = None
        self._batch_size = 1
        self._unwritten: dict[str, tuple[int, _Ended]] = {}
        self._tries: dict[tuple[str, str], int] = {}
        self._next_try: dict[tuple[str, str], float] = {}

    def note(self, shortcode: str) -> None:
        """Look at the post again: it may have been stored or removed."""
        self._news.add(shortcode)
        self._awake.set()

    @property
    def seconds_to_next(self) -> float:
        """The seconds to the next try of what failed."""
        return max(0.0, min(self._next_try.values(), default=0.0) - time.monotonic())

    async def run(self) -> None:
        """Notify the plugin until the task is cancelled."""
        with bound_contextvars(plugin=self.plugin.name):
            while True:
                self._awake.clear()
                pause = self._followed.pauses.looks
                try:
                    turn = f"plugin:{self.plugin.name}"
                    async with self._followed.peers.exclusively(turn, in_doubt=False) as ours:
                        if ours:
                            await self.catch_up(ours)
                        # If another process has the turn, look at all posts once it is ours.
                        self._look_at_all = self._look_at_all or not ours
                # The disk or Redis may be away; the next look finds what the plugin missed.
                except Exception as error:  # noqa: BLE001
                    log.warning("plugin not notified", cause=repr(error))
                    self._look_at_all = True
                    pause = self._followed.pauses.fault
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._awake.wait()

    async def close(self) -> None:
        """Abandon the call under way; the next start repeats it."""
        if self._call is not None:
            await self._call.abandon(_SECONDS_TO_CLEAN_UP)

    async def catch_up(self, ours: object = True) -> bool:
        """Notify the plugin of everything until now; return whether anything is left to retry.

        This stops once *ours* is false: then another process may notify the plugin.
        """
        if self.plugin.follows_posts:
            changes = await self._changes()
            for start in range(0, len(changes), _POSTS_AT_ONCE):
                self._behind.set(len(changes) - start)
                if not ours:
                    return True
                some = changes[start : start + _POSTS_AT_ONCE]
                self._news.difference_update(some)
                try:
                    await self._look_at(some, ours)
                except Exception:
                    self._news.update(some)
                    raise
        if self._conditions is not None and ours:
            await self._look_at_conditions(self._conditions)
        if self._jobs is not None and ours:
            await self._look_at_jobs(self._jobs)
        self._behind.set(len(self._next_try))
        return bool(self._next_try)

    async def _changes(self) -> list[str]:
        """Posts whose state the plugin may not know: removed ones first, then by age."""
        name = self.plugin.name
        changed = {subject for hook, subject in self._next_try if hook in _OF_POSTS}
        changed_at = await self._library.changed_at() if self._followed.peers.shared else None
        edition = await asyncio.to_thread(self._ledger.edition, name)
        is_new = self._is_new(edition)
        if is_new:
            self._without_entry |= changed | self._news
            # Everything must be done again now, failures included.
            self._next_try.clear()
            self._tries.clear()
        if self._look_at_all or (changed_at, edition) != self._seen:
            there = await self._library.versions()
            if is_new:
                await asyncio.to_thread(self._ledger.begin_again, name, there)
            known = await asyncio.to_thread(self._ledger.posts, name)
            self._look_at_all, self._seen = False, (changed_at, edition)
            changed |= {it for it in there.keys() | known.keys() if there.get(it) != known.get(it)}
            self._news |= changed
        else:
            self._news |= changed
            versions = await self._library.versions_of(tuple(self._news))
            there = {it: version for it, version in versions.items() if isinstance(version, int)}
        return sorted(self._news, key=lambda shortcode: (there.get(shortcode, 0), shortcode))

    def _is_new(self, edition: tuple[int, int]) -> bool:
        return self._seen is not None and edition != self._seen[1]

    async def _look_at_jobs(self, jobs: FinishedJobs) -> None:
        """Notify the plugin of each end of a job that it has not got."""
        name = self.plugin.name
        unreported = await jobs.unreported(name)
        ids = {job.response.id for job in unreported}
        for hook, subject in list(self._next_try):
            if hook == "job_finished" and subject not in ids:
                self._settle(hook, subject)
        for job in unreported:
            # The job may have been retried while the plugin worked on others.
            if job in await jobs.unreported(name) and await self._notify(
                job.response.id, "job_finished", job=job.response
            ):
                await jobs.note_reported(name, job)

    async def _look_at_conditions(self, conditions: Conditions) -> None:
        """Notify the plugin of each condition that differs from what the plugin knows."""
        plugin = self.plugin.name
        known = await asyncio.to_thread(self._ledger.conditions, plugin)
        for name, condition in (await asyncio.to_thread(conditions.now)).items():
            hook = "condition_changed" if isinstance(condition, Condition) else "login_changed"
            value = json.dumps(astuple(condition))
            if value == known.get(name) or (name not in known and _is_usual(condition)):
                self._settle(hook, name)
            elif await self._notify(name, hook, login=condition, condition=condition):
                await asyncio.to_thread(self._ledger.note_condition, plugin, name, value)

    async def _look_at(self, shortcodes: Sequence[str], ours: object) -> None:
        """Notify the plugin of the present state of posts, unless it knows that state."""
        entries = await asyncio.to_thread(self._ledger.entries, self.plugin.name, shortcodes)
        stored, new = [], set()
        for shortcode, version in (await self._library.versions_of(shortcodes)).items():
            entry = entries.get(shortcode)
            if isinstance(version, OSError):
                # The post may be stored, or gone.
                self._note_failure(shortcode, "post_stored", version)
            elif version is None:
                await self._report_removed(shortcode, entry)
            else:
                if entry is None or entry[0] != version:
                    stored.append((shortcode, version))
                if entry is None and shortcode not in self._without_entry:
                    new.add(shortcode)
                self._without_entry.discard(shortcode)
        await self._report_stored(stored, new, ours)

    async def _report_removed(self, shortcode: str, entry: tuple[int, Outcome] | None) -> None:
        name = self.plugin.name
        self._settle("post_stored", shortcode)
        self._unwritten.pop(shortcode, None)
        if not entry and self._is_new(await asyncio.to_thread(self._ledger.edition, name)):
            self._without_entry.add(shortcode)
        is_known = entry[1] != "skipped" if entry else shortcode in self._without_entry
        if not is_known or await self._notify(shortcode, "post_removed", shortcode=shortcode):
            await asyncio.to_thread(self._ledger.forget, name, shortcode)
            self._without_entry.discard(shortcode)

    async def _report_stored(
        self, posts: Sequence[tuple[str, int]], new: Set[str], ours: object
    ) -> None:
        """Notify the plugin of *posts*, each with its version; it never got the *new* ones."""
        to_call = []
        for shortcode, version in posts:
            # The removal of an earlier version no longer matters.
            self._settle("post_removed", shortcode)
            if "post_stored" not in self.plugin.hooks:
                self._unwritten[shortcode] = version, _Ended(worked=True)
            known, _ = self._unwritten.get(shortcode, (None, None))
            if known == version:
                await self._write(shortcode)
            elif not self._waits("post_stored", shortcode):
                to_call.append((shortcode, version))
        left: Sequence[tuple[str, int]] = to_call
        while left and ours:
            run = StoredRun(
                self.plugin, self._library, self._ledger, left, ours, batch_size=self._batch_size
            )
            left = await self._follow(run, new)
            self._batch_size = run.batch_size

    async def _follow(self, run: StoredRun, new: Set[str]) -> Sequence[tuple[str, int]]:
        """Let *run* call the plugin with its posts; return those that are left."""
        call = self._call = Call(run)
        fault: Exception | None = None
        try:
            await call.result(self._followed.timeout)
        except NotReturned as error:
            log.warning("plugin does not return", hook="post_stored", subject=run.last)
            await call.ended()
            # However the call ended, it was too late.
            run.fail(error)
        # The disk may be away: what was done before counts.
        except Exception as error:  # noqa: BLE001
            fault = error
        # Note all calls before writing any: if one cannot be written, none may be repeated.
        for called in run.called:
            self._note_call(called)
        for called in run.called:
            if called.shortcode in self._unwritten:
                await self._write(called.shortcode)
            elif not called.made and called.shortcode in new:
                # The post was noted as begun, but the plugin must not get its removal.
                await asyncio.to_thread(self._ledger.forget, self.plugin.name, called.shortcode)
        if fault is not None:
            raise fault
        return run.remaining

    def _note_call(self, called: StoredCall) -> None:
        shortcode = called.shortcode
        ended: _Ended | None = None
        if not called.made:
            self.note(shortcode)
        elif called.error is not None:
            ended = self._note_failure(shortcode, "post_stored", called.error)
        else:
            self._note_success("post_stored")
            ended = _Ended(worked=True, additions=called.result)
        if called.noted:
            self._settle("post_stored", shortcode)
        elif ended is not None:
            self._unwritten[shortcode] = called.version, ended

    async def _write(self, shortcode: str) -> None:
        # If the disk takes no writes, only the writing is tried again, not the call.
        version, ended = self._unwritten[shortcode]
        if await self._library.version(shortcode) == version:
            outcome = await self._add(shortcode, version, ended)
            if outcome is not None:
                self._settle("post_stored", shortcode)
                name = self.plugin.name
                await asyncio.to_thread(self._ledger.note, name, (shortcode, version, outcome))
        else:
            # The plugin worked on files that are gone by now.
            self.note(shortcode)
        del self._unwritten[shortcode]

    async def _add(self, shortcode: str, version: int, ended: _Ended) -> Outcome | None:
        """Add what the plugin returned to the post; None if the plugin must be called again."""
        if ended.additions is not None:
            try:
                await self._library.add(shortcode, self.plugin.name, ended.additions, version)
            except OSError as error:
                return "failed" if self._note_failure(shortcode, "post_stored", error) else None
        return "done" if ended.worked else "failed"

    async def _notify(self, subject: str, hook: str, **arguments: Any) -> _Ended | None:
        """Call the *hook* if the plugin has it; None if it is to be tried later."""
        impl = self.plugin.hooks.get(hook)
        if impl is None:
            return _Ended(worked=True)
        if self._waits(hook, subject):
            return None
        call = self._call = Call.of(impl.function, *[arguments[name] for name in impl.argnames])
        try:
            check_result(hook, await call.result(self._followed.timeout))
        except NotReturned as error:
            log.warning("plugin does not return", hook=hook, subject=subject)
            await call.ended()
            return self._note_failure(subject, hook, error)
        # A plugin may raise anything.
        except Exception as error:  # noqa: BLE001
            return self._note_failure(subject, hook, error)
        self._settle(hook, subject)
        self._note_success(hook)
        return _Ended(worked=True)

    def _note_success(self, hook: str) -> None:
        self._followed.metrics.plugin_calls.labels(self.plugin.name, hook, "ok").inc()

    def _note_failure(self, subject: str, hook: str, cause: Exception) -> _Ended | None:
        tries = self._tries[hook, subject] = self._tries.get((hook, subject), 0) + 1
        pauses, calls = self._followed.pauses.tries, self._followed.metrics.plugin_calls
        gave_up = tries > len(pauses)
        known = {"hook": hook, "subject": subject, "tries": tries, "cause": repr(cause)}
        calls.labels(self.plugin.name, hook, "given_up" if gave_up else "failed").inc()
        if gave_up:
            log.error("plugin gave up", **known, exc_info=cause)
            self._settle(hook, subject)
            self.gave_up = True
            return _Ended(worked=False)
        log.warning("plugin failed", **known, exc_info=cause if tries == 1 else None)
        self._next_try[hook, subject] = time.monotonic() + pauses[tries - 1]
        return None

    def _waits(self, hook: str, subject: str) -> bool:
        return self._next_try.get((hook, subject), 0.0) > time.monotonic()

    def _settle(self, hook: str, subject: str) -> None:
        self._tries.pop((hook, subject), None)
        self._next_try.pop((hook, subject), None)


def _is_usual(condition: LoginState | Condition) -> bool:
    """Return whether a plugin that knows no conditions yet need not get *condition*."""
    return not condition.holds if isinstance(condition, Condition) else condition.state == "none"
