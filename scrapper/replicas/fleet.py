"""The parts by which several processes act as one."""

import asyncio

from redis.exceptions import RedisError

from scrapper.instagram.pace import Pace
from scrapper.replicas.client import SharedRedis, blocking_client
from scrapper.replicas.documents import RedisDocuments
from scrapper.replicas.gathered_scripts import GatheredScripts
from scrapper.replicas.pace import RedisPaceMemory, RedisWindow
from scrapper.replicas.peers import RedisPeers
from scrapper.replicas.queue import PostQueue
from scrapper.settings import Settings
from scrapper.telemetry.metrics import Metrics

__all__ = ["Fleet"]


class Fleet:
    """The parts that share the Redis of *settings*; use them between open and close."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        url = settings.redis_url.get_secret_value()
        self.redis = SharedRedis.at(url, metrics)
        self._blocking = blocking_client(url)
        self.documents = RedisDocuments(self._blocking)
        self.scripts = GatheredScripts(self.redis)
        self.peers = RedisPeers(self.redis)
        self.queue = PostQueue(url, self.redis)

    async def open(self) -> None:
        """Begin to listen to the other processes; Redis need not answer yet."""
        await self.peers.open()

    async def close(self) -> None:
        """Close all connections."""
        await self.peers.close()
        await self.scripts.close()
        await self.queue.shutdown()
        await self.redis.aclose()
        await asyncio.to_thread(self._blocking.close)

    def make_pace(self, login_state: str, max_queries: int, window: float) -> Pace:
        """The pace of a login state.

        All replicas learn together. They also count together what they ask with the session:
        there is one account. Logged out, each may have an address of its own.
        """
        counts = RedisWindow(self._blocking, login_state) if login_state == "session" else None
        memory = RedisPaceMemory(self._blocking, login_state)
        return Pace(max_queries, window, memory=memory, counts=counts)

    async def answers(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(await self.redis.ping())
        except RedisError:
            return False
