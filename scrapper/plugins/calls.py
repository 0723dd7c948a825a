"""Calling a plugin's function without depending on it: it may hang, block, or fail."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["Call", "NotReturned"]


class NotReturned(Exception):
    """A call did not return in time."""


class Call:
    """A call of *function* with *arguments* that blocks nothing else.

    It runs in a thread of its own. Nothing can stop a thread, but this one does not keep the
    process from ending. A coroutine gets an event loop of its own there, so it cannot block ours.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = loop.create_future()
        # result() raises its failure. If nobody waits any more, asyncio must not log it.
        self._future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._theirs: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

        async def run_coroutine() -> Any:
            task = asyncio.ensure_future(function(*arguments))
            self._theirs = asyncio.get_running_loop(), task
            return await task

        def run() -> None:
            settle: Callable[[Any], None] = self._future.set_result
            try:
                if inspect.iscoroutinefunction(function):
                    result = asyncio.run(run_coroutine())
                else:
                    result = function(*arguments)
            # result() raises its errors; even a SystemExit must not end the process.
            except BaseException as error:  # noqa: BLE001
                is_usual = isinstance(error, Exception) and not isinstance(error, StopIteration)
                result = error if is_usual else RuntimeError(repr(error))
                settle = self._future.set_exception
            # The service's loop may be closed: the process ends.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="plugin", daemon=True).start()

    async def result(self, seconds: float) -> Any:
        """What the function returns.

        Raises:
            NotReturned: it did not return within *seconds*; :meth:`ended` waits for it.
            Exception: whatever it raised; a RuntimeError if that was no Exception.
        """
        try:
            await asyncio.wait([self._future], timeout=seconds)
        finally:
            self._cancel()
        if not self._future.done():
            raise NotReturned
        return self._future.result()

    async def ended(self, seconds: float | None = None) -> None:
        """Wait until the function has really returned, however late; *seconds* at most."""
        await asyncio.wait([self._future], timeout=seconds)

    async def abandon(self, seconds: float) -> None:
        """Cancel a coroutine, and give it *seconds* to clean up; leave a function alone."""
        self._cancel()
        if self._theirs is not None:
            await self.ended(seconds)

    def _cancel(self) -> None:
        if self._theirs is not None and not self._future.done():
            loop, task = self._theirs
            # Their loop may be closed by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
