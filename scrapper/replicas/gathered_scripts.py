"""Many calls of Redis scripts in one round trip."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError, RedisError

from scrapper.replicas.client import SharedRedis

__all__ = ["GatheredScripts"]


class _Call(NamedTuple):
    script: Any
    keys: Sequence[Any]
    arguments: Sequence[Any]
    reply: asyncio.Future[Any]


class GatheredScripts:
    """Runs scripts on *redis*, and sends together those that wait at the same time.

    Calls that come while another one is under way share one pipeline. So each request of a busy
    replica costs a fraction of a round trip.
    """

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        self._waiting: list[_Call] = []
        self._sending: asyncio.Task[None] | None = None

    def register_script(self, text: str) -> Callable[[Any, Any], Awaitable[Any]]:
        """A function of keys and arguments that runs the script *text*.

        It raises :class:`redis.exceptions.RedisError` if Redis does not answer.
        """
        script = self._redis.register_script(text)

        def run(keys: Sequence[Any], arguments: Sequence[Any]) -> Awaitable[Any]:
            loop = asyncio.get_running_loop()
            call = _Call(script, keys, arguments, loop.create_future())
            self._waiting.append(call)
            if self._sending is None or self._sending.done():
                self._sending = loop.create_task(self._send_all())
            return call.reply

        return run

    async def close(self) -> None:
        """Wait for the calls under way: a pipeline that is broken off keeps its connection."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send_all(self) -> None:
        while self._waiting:
            calls, self._waiting = self._waiting, []
            try:
                replies = await self._send(calls)
            # Whatever it is, the callers get it.
            except Exception as error:  # noqa: BLE001
                replies = [error] * len(calls)
            for call, reply in zip(calls, replies, strict=True):
                if call.reply.done():
                    continue
                if isinstance(reply, Exception):
                    call.reply.set_exception(reply)
                else:
                    call.reply.set_result(reply)

    async def _send(self, calls: Sequence[_Call]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for script, keys, arguments, _ in calls:
                pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
            with self._redis.asking():
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
        for index, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                # Redis was restarted, or replaced: redis-py loads the script again.
                replies[index] = await _run_alone(calls[index])
        return replies


async def _run_alone(call: _Call) -> Any:
    try:
        return await call.script(keys=call.keys, args=call.arguments)
    except RedisError as error:
        return error
