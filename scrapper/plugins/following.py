"""Telling plugins of posts and jobs: each plugin at its own pace, without losing an event.

A comparison of the library with the ledger shows what a plugin must be told: posts that are stored
but not in the ledger, and posts that are in the ledger but no longer stored. So the next start does
whatever a crash interrupted.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from scrapper.jobs.contract import FinishedJobs
from scrapper.library.store import Library
from scrapper.plugins.follower import Follower, Pauses, Turn
from scrapper.plugins.ledger import Ledger
from scrapper.plugins.loading import Plugin, Plugins
from scrapper.scraping.peers import Alone, Peers
from scrapper.settings import Settings
from scrapper.tasks import end, in_background
from scrapper.telemetry.metrics import Metrics

__all__ = ["Followers"]

_PAUSES = Pauses()


class Followers:
    """Tells *plugins* of the posts in *library*, and of *jobs* that ended.

    Each plugin gets one event at a time, and posts in the order in which they were stored. It holds
    up neither requests nor other plugins. A call may take *timeout* seconds. If it fails, it is
    tried again after each of the *pauses* for that. If several processes share the library
    (*shared*), only the one that has the *turn* tells a plugin.
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
        pauses: Pauses = _PAUSES,
    ) -> None:
        self._library = library
        self._ledger = ledger
        self._followers = [
            Follower(plugin, library, ledger, metrics, turn, shared, timeout, jobs, pauses)
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
