"""Notifies each plugin of events in order, one at a time, with up to three attempts per event.

To find the events that a plugin has not been notified of, this module compares the library with the
ledger. It looks for posts that are stored but not in the ledger, and for posts that are in the
ledger but no longer stored. Work that a crash interrupted is therefore done after the next start.
The ledger also records the conditions that a plugin was notified of.
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
_BATCH_SIZE = 64
_SECONDS_TO_CLEAN_UP = 5.0


@dataclass(frozen=True, slots=True)
class Pauses:
    """How many seconds to wait between *polls*, and after an *error* in the service.

    *tries* gives the seconds to wait before each retry of a failed call. Its length is the maximum
    number of retries.
    """

    polls: float = 2.0
    tries: Sequence[float] = (30.0, 300.0)
    error: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What plugins follow: the posts in the *library*, finished *jobs*, and *conditions*.

    The *ledger* records what the plugins were notified of. A call may take up to *timeout* seconds.
    The *pauses* determine when a failed call is retried, and how many times. If *peers* share the
    library, only the process that has the turn for a plugin notifies that plugin.
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
    """Notifies each of the *plugins* of the events in *followed*.

    Each plugin gets one event at a time, and posts in the order in which they were stored. A slow
    plugin delays neither requests nor other plugins.
    """

    def __init__(self, plugins: Sequence[Plugin], followed: Followed) -> None:
        self._library = followed.library
        self._ledger = followed.ledger
        self._followers = [_Follower(plugin, followed) for plugin in plugins]

    async def begin(self) -> None:
        """Make new plugins skip the posts stored so far. Call this before more posts are stored.

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
            self._library.listen(self._mark_changed)
        try:
            yield
        finally:
            for task in tasks:
                await end(task)
            await asyncio.gather(*(follower.close() for follower in self._followers))
            await asyncio.to_thread(self._ledger.close)

    async def catch_up(self) -> bool:
        """Notify the plugins of all events so far; return False if any call failed for good."""
        succeeded = True
        for follower in self._followers:
            while await follower.catch_up():  # noqa: ASYNC110 - sleeps until a retry is due
                await asyncio.sleep(follower.seconds_to_next)
            succeeded = succeeded and not follower.gave_up
        return succeeded

    def _mark_changed(self, shortcode: str) -> None:
        for follower in self._followers:
            follower.mark_changed(shortcode)


class _Ended(NamedTuple):
    """The outcome of a call that succeeded or that the follower gave up on."""

    succeeded: bool
    additions: Additions | None = None


class _Follower:
    """Notifies one *plugin* of the events in *followed*."""

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
        # Posts that have no entry, but may have been received before the ledger was lost.
        self._without_entry: set[str] = set()
        self._check_all = True
        self._seen: tuple[int | None, tuple[int, int]] | None = None
        self._wake = asyncio.Event()
        self._call: Call | None = None
        self._batch_size = 1
        self._unwritten: dict[str, tuple[int, _Ended]] = {}
        self._tries: dict[tuple[str, str], int] = {}
        self._next_try: dict[tuple[str, str], float] = {}

    def mark_changed(self, shortcode: str) -> None:
        """Request a check of a post that may have been stored or removed."""
        self._news.add(shortcode)
        self._wake.set()

    @property
    def seconds_to_next(self) -> float:
        """The seconds until the next retry."""
        return max(0.0, min(self._next_try.values(), default=0.0) - time.monotonic())

    async def run(self) -> None:
        """Notify the plugin until the task is cancelled."""
        with bound_contextvars(plugin=self.plugin.name):
            while True:
                self._wake.clear()
                pause = self._followed.pauses.polls
                try:
                    turn = f"plugin:{self.plugin.name}"
                    async with self._followed.peers.exclusive(turn, if_unknown=False) as ours:
                        if ours:
                            await self.catch_up(ours)
                        # This process misses events while another has the turn, so it must check
                        # all posts later.
                        self._check_all = self._check_all or not ours
                # The disk or Redis may be unavailable. The next poll finds the missed events.
                except Exception as error:  # noqa: BLE001
                    log.warning("plugin not notified", cause=repr(error))
                    self._check_all = True
                    pause = self._followed.pauses.error
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    async def close(self) -> None:
        """Abandon the current call, which is repeated after the next start."""
        if self._call is not None:
            await self._call.abandon(_SECONDS_TO_CLEAN_UP)

    async def catch_up(self, ours: object = True) -> bool:
        """Notify the plugin of all events so far; return whether any calls must be retried.

        Stop when *ours* becomes false, which means that another process has the turn.
        """
        if self.plugin.follows_posts:
            changes = await self._changes()
            for start in range(0, len(changes), _BATCH_SIZE):
                self._behind.set(len(changes) - start)
                if not ours:
                    return True
                batch = changes[start : start + _BATCH_SIZE]
                self._news.difference_update(batch)
                try:
                    await self._check_posts(batch, ours)
                except Exception:
                    self._news.update(batch)
                    raise
        if self._conditions is not None and ours:
            await self._check_conditions(self._conditions)
        if self._jobs is not None and ours:
            await self._check_jobs(self._jobs)
        self._behind.set(len(self._next_try))
        return bool(self._next_try)

    async def _changes(self) -> list[str]:
        """Return the posts to check: removed posts first, then stored posts, oldest first."""
        name = self.plugin.name
        changed = {subject for hook, subject in self._next_try if hook in _OF_POSTS}
        changed_at = await self._library.changed_at() if self._followed.peers.shared else None
        generation = await asyncio.to_thread(self._ledger.generation, name)
        was_reset = self._was_reset(generation)
        if was_reset:
            self._without_entry |= changed | self._news
            # The plugin must be notified of all events again, including those it failed to handle.
            self._next_try.clear()
            self._tries.clear()
        if self._check_all or (changed_at, generation) != self._seen:
            stored = await self._library.versions()
            if was_reset:
                await asyncio.to_thread(self._ledger.begin_again, name, stored)
            known = await asyncio.to_thread(self._ledger.posts, name)
            self._check_all, self._seen = False, (changed_at, generation)
            changed |= {
                code for code in stored.keys() | known.keys() if stored.get(code) != known.get(code)
            }
            self._news |= changed
        else:
            self._news |= changed
            versions = await self._library.versions_of(tuple(self._news))
            stored = {
                code: version for code, version in versions.items() if isinstance(version, int)
            }
        return sorted(self._news, key=lambda shortcode: (stored.get(shortcode, 0), shortcode))

    def _was_reset(self, generation: tuple[int, int]) -> bool:
        """Return whether the plugin's entries have been lost since the last check."""
        return self._seen is not None and generation != self._seen[1]

    async def _check_jobs(self, jobs: FinishedJobs) -> None:
        """Notify the plugin of each finished job that it has not been notified of yet."""
        name = self.plugin.name
        unreported = await jobs.unreported(name)
        ids = {job.response.id for job in unreported}
        for hook, subject in list(self._next_try):
            if hook == "job_finished" and subject not in ids:
                self._reset_tries(hook, subject)
        for job in unreported:
            # The job may have been retried while the plugin was handling other jobs.
            if await jobs.is_unreported(name, job) and await self._notify(
                job.response.id, "job_finished", job=job.response
            ):
                await jobs.record_reported(name, job)

    async def _check_conditions(self, conditions: Conditions) -> None:
        """Notify the plugin of each condition that changed since the last call."""
        plugin = self.plugin.name
        known = await asyncio.to_thread(self._ledger.conditions, plugin)
        for name, condition in (await asyncio.to_thread(conditions.now)).items():
            hook = "condition_changed" if isinstance(condition, Condition) else "login_changed"
            value = json.dumps(astuple(condition))
            if value == known.get(name) or (name not in known and _is_default(condition)):
                self._reset_tries(hook, name)
            elif await self._notify(name, hook, login=condition, condition=condition):
                await asyncio.to_thread(self._ledger.record_condition, plugin, name, value)

    async def _check_posts(self, shortcodes: Sequence[str], ours: object) -> None:
        """Notify the plugin of each post that was stored or removed since the last call."""
        entries = await asyncio.to_thread(self._ledger.entries, self.plugin.name, shortcodes)
        stored, new = [], set()
        for shortcode, version in (await self._library.versions_of(shortcodes)).items():
            entry = entries.get(shortcode)
            if isinstance(version, OSError):
                # The disk could not be read, so it is unknown whether the post is stored.
                self._handle_failure(shortcode, "post_stored", version)
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
        self._reset_tries("post_stored", shortcode)
        self._unwritten.pop(shortcode, None)
        if not entry and self._was_reset(await asyncio.to_thread(self._ledger.generation, name)):
            self._without_entry.add(shortcode)
        is_known = entry[1] != "skipped" if entry else shortcode in self._without_entry
        if not is_known or await self._notify(shortcode, "post_removed", shortcode=shortcode):
            await asyncio.to_thread(self._ledger.forget, name, shortcode)
            self._without_entry.discard(shortcode)

    async def _report_stored(
        self, posts: Sequence[tuple[str, int]], new: Set[str], ours: object
    ) -> None:
        """Notify the plugin of *posts*, which are pairs of a shortcode and a version. *new*
        contains the shortcodes that the plugin has never been notified of.
        """
        to_call = []
        for shortcode, version in posts:
            # A failed call for the removal of an earlier version need not be retried.
            self._reset_tries("post_removed", shortcode)
            if "post_stored" not in self.plugin.hooks:
                self._unwritten[shortcode] = version, _Ended(succeeded=True)
            known, _ = self._unwritten.get(shortcode, (None, None))
            if known == version:
                await self._write(shortcode)
            elif not self._is_waiting("post_stored", shortcode):
                to_call.append((shortcode, version))
        remaining: Sequence[tuple[str, int]] = to_call
        while remaining and ours:
            run = StoredRun(
                self.plugin,
                self._library,
                self._ledger,
                remaining,
                ours,
                batch_size=self._batch_size,
            )
            remaining = await self._call_all(run, new)
            self._batch_size = run.batch_size

    async def _call_all(self, run: StoredRun, new: Set[str]) -> Sequence[tuple[str, int]]:
        """Call the plugin for the posts of *run*; return the posts that the run did not reach."""
        call = self._call = Call(run)
        fault: Exception | None = None
        try:
            await call.result(self._followed.timeout)
        except NotReturned as error:
            log.warning("plugin does not return", hook="post_stored", subject=run.last)
            await call.ended()
            # Even if the call succeeded, it was too late.
            run.fail(error)
        # The disk may be unavailable. Calls that were made before the error still count.
        except Exception as error:  # noqa: BLE001
            fault = error
        # Keep all outcomes in memory before writing any of them, so that no call is repeated if a
        # write fails.
        for called in run.called:
            self._handle_call(called)
        for called in run.called:
            if called.shortcode in self._unwritten:
                await self._write(called.shortcode)
            elif not called.made and called.shortcode in new:
                # The plugin was not called for this post, so it must not be notified of its
                # removal. The entry "begun" would cause that.
                await asyncio.to_thread(self._ledger.forget, self.plugin.name, called.shortcode)
        if fault is not None:
            raise fault
        return run.remaining

    def _handle_call(self, called: StoredCall) -> None:
        shortcode = called.shortcode
        ended: _Ended | None = None
        if not called.made:
            self.mark_changed(shortcode)
        elif called.error is not None:
            ended = self._handle_failure(shortcode, "post_stored", called.error)
        else:
            self._count_success("post_stored")
            ended = _Ended(succeeded=True, additions=called.result)
        if called.recorded:
            self._reset_tries("post_stored", shortcode)
        elif ended is not None:
            self._unwritten[shortcode] = called.version, ended

    async def _write(self, shortcode: str) -> None:
        # If the disk cannot be written to, only the write is retried, not the call.
        version, ended = self._unwritten[shortcode]
        if await self._library.version(shortcode) == version:
            outcome = await self._add(shortcode, version, ended)
            if outcome is not None:
                self._reset_tries("post_stored", shortcode)
                name = self.plugin.name
                await asyncio.to_thread(self._ledger.record, name, (shortcode, version, outcome))
        else:
            # The post was replaced or removed during the call.
            self.mark_changed(shortcode)
        del self._unwritten[shortcode]

    async def _add(self, shortcode: str, version: int, ended: _Ended) -> Outcome | None:
        """Add the plugin's additions to the post; return None if the call will be retried."""
        if ended.additions is not None:
            try:
                await self._library.add(shortcode, self.plugin.name, ended.additions, version)
            except OSError as error:
                return "failed" if self._handle_failure(shortcode, "post_stored", error) else None
        return "done" if ended.succeeded else "failed"

    async def _notify(self, subject: str, hook: str, **arguments: Any) -> _Ended | None:
        """Call the *hook* if the plugin implements it; return None if the call will be retried."""
        impl = self.plugin.hooks.get(hook)
        if impl is None:
            return _Ended(succeeded=True)
        if self._is_waiting(hook, subject):
            return None
        call = self._call = Call.of(impl.function, *[arguments[name] for name in impl.argnames])
        try:
            check_result(hook, await call.result(self._followed.timeout))
        except NotReturned as error:
            log.warning("plugin does not return", hook=hook, subject=subject)
            await call.ended()
            return self._handle_failure(subject, hook, error)
        # A plugin may raise anything.
        except Exception as error:  # noqa: BLE001
            return self._handle_failure(subject, hook, error)
        self._reset_tries(hook, subject)
        self._count_success(hook)
        return _Ended(succeeded=True)

    def _count_success(self, hook: str) -> None:
        self._followed.metrics.plugin_calls.labels(self.plugin.name, hook, "ok").inc()

    def _handle_failure(self, subject: str, hook: str, cause: Exception) -> _Ended | None:
        tries = self._tries[hook, subject] = self._tries.get((hook, subject), 0) + 1
        pauses, calls = self._followed.pauses.tries, self._followed.metrics.plugin_calls
        gives_up = tries > len(pauses)
        known = {"hook": hook, "subject": subject, "tries": tries, "cause": repr(cause)}
        calls.labels(self.plugin.name, hook, "given_up" if gives_up else "failed").inc()
        if gives_up:
            log.error("plugin call given up", **known, exc_info=cause)
            self._reset_tries(hook, subject)
            self.gave_up = True
            return _Ended(succeeded=False)
        log.warning("plugin failed", **known, exc_info=cause if tries == 1 else None)
        self._next_try[hook, subject] = time.monotonic() + pauses[tries - 1]
        return None

    def _is_waiting(self, hook: str, subject: str) -> bool:
        return self._next_try.get((hook, subject), 0.0) > time.monotonic()

    def _reset_tries(self, hook: str, subject: str) -> None:
        self._tries.pop((hook, subject), None)
        self._next_try.pop((hook, subject), None)


def _is_default(condition: LoginState | Condition) -> bool:
    """Return whether *condition* is normal, so that a new plugin need not be notified of it."""
    return not condition.holds if isinstance(condition, Condition) else condition.state == "none"
