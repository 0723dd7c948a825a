"""Telling plugins of posts and jobs: each plugin at its own pace, without losing an event.

A comparison of the library with the ledger shows what a plugin must be told: posts that are stored
but not in the ledger, and posts that are in the ledger but no longer stored. So the next start does
whatever a crash interrupted.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from scrapper.plugins.follower import Followed, Follower
from scrapper.plugins.loading import Plugin
from scrapper.tasks import end, in_background

__all__ = ["Followed", "Followers"]


class Followers:
    """Tells *plugins* of what is *followed*: posts of the library, and jobs that ended.

    Each plugin gets one event at a time, and posts in the order in which they were stored. It holds
    up neither requests nor other plugins. If several processes share the library, one at a time
    tells a plugin.
    """

    def __init__(self, plugins: Sequence[Plugin], followed: Followed) -> None:
        self._library = followed.library
        self._ledger = followed.ledger
        self._followers = [Follower(plugin, followed) for plugin in plugins]

    async def begin(self) -> None:
        """Have new plugins start here. Call it before anything is stored.

        Raises:
            SettingsError: the ledger cannot be used.
            ScrapeError, OSError, sqlite3.Error: it cannot be written.
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

    def _note_post(self, shortcode: str) -> None:
        for follower in self._followers:
            follower.note(shortcode)
