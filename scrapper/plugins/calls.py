"""Calling a plugin's function without depending on it: it may hang, block, or fail."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Call"]


class Call:
    """A call of *function* with *arguments* that runs beside everything else.

    A coroutine runs on the loop, and a plain function in a thread of its own, which ends with the
    process at the latest: nothing can stop a thread.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._is_coroutine = inspect.iscoroutinefunction(function)
        if self._is_coroutine:
            self._future: asyncio.Future[Any] = asyncio.ensure_future(function(*arguments))
        else:
            self._future = _in_thread(function, *arguments)
        # Its failure is told by result(), or by nobody if it comes too late.
        self._future.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def result(self, seconds: float) -> Any:
        """What the function returns.

        Raises:
            TimeoutError: it did not return within so many *seconds*; :meth:`ended` waits for it.
            BaseException: whatever it raised.
        """
        try:
            await asyncio.wait([self._future], timeout=seconds)
        finally:
            if self._is_coroutine:
                self._future.cancel()
        if not self._future.done() or self._future.cancelled():
            raise TimeoutError
        return self._future.result()

    async def ended(self, seconds: float | None = None) -> None:
        """Wait until the function has really returned, however late; so many *seconds* at most."""
        await asyncio.wait([self._future], timeout=seconds)

    async def abandon(self, seconds: float) -> None:
        """Cancel a coroutine, and give it so many *seconds* to clean up; leave a thread alone."""
        if self._is_coroutine:
            self._future.cancel()
            await self.ended(seconds)


def _in_thread(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            told: tuple[Any, Any] = (future.set_result, context.run(function, *arguments))
        # Whatever it raises belongs to whoever waits.
        except BaseException as error:  # noqa: BLE001
            told = (future.set_exception, _settable(error))
        try:
            loop.call_soon_threadsafe(settle, *told)
        except RuntimeError:
            # The loop is closed: the process ends.
            return

    threading.Thread(target=run, name="plugin", daemon=True).start()
    return future


def _settable(error: BaseException) -> BaseException:
    """*error*, or what stands for one that a future does not take."""
    return RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
