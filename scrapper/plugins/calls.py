"""Calls a plugin's functions, which may hang, block, or fail, without depending on them."""

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["Call", "NotReturned"]


class NotReturned(Exception):
    """A call did not return in time."""


class Call:
    """*work* that calls a plugin's functions, by :meth:`invoke`, without blocking anything else.

    The work runs in a thread of its own. Nothing can stop a thread, but this one does not keep the
    process from ending. A coroutine gets an event loop of its own there, so it cannot block ours.
    """

    def __init__(self, work: Callable[["Call"], Any]) -> None:
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = loop.create_future()
        # result() raises the failure. If nobody waits for it, asyncio must not log it.
        self._future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._since: float | None = None
        self._theirs: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self.stopped = False
        """Whether the work must not call another function."""

        def run() -> None:
            settle: Callable[[Any], None] = self._future.set_result
            try:
                result = work(self)
            # result() raises the error.
            except Exception as error:  # noqa: BLE001
                result, settle = error, self._future.set_exception
            # The service's loop may be closed: the process ends.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="plugin", daemon=True).start()

    @classmethod
    def of(cls, function: Callable[..., Any], *arguments: Any) -> "Call":
        """A call of one *function*; the result is what *function* returns."""
        return cls(lambda call: call.invoke(function, *arguments))

    def invoke(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call *function*; only the work may do this.

        Raises:
            Exception: whatever *function* raised; a RuntimeError if that was no Exception.
        """

        async def run_coroutine() -> Any:
            task = asyncio.ensure_future(function(*arguments))
            self._theirs = asyncio.get_running_loop(), task
            if self.stopped:
                task.cancel()
            return await task

        self._since = time.monotonic()
        try:
            if inspect.iscoroutinefunction(function):
                return asyncio.run(run_coroutine())
            return function(*arguments)
        except StopIteration as error:
            # A future cannot hold a StopIteration.
            raise RuntimeError(repr(error)) from error
        except Exception:
            raise
        # Even a SystemExit must not end the process.
        except BaseException as error:
            raise RuntimeError(repr(error)) from error
        finally:
            self._since = self._theirs = None

    async def result(self, seconds: float) -> Any:
        """What the work returns.

        Raises:
            NotReturned: a function did not return within *seconds*; :meth:`ended` waits for it.
            Exception: whatever the work raised.
        """
        try:
            while not self._future.done():
                since = self._since
                left = seconds if since is None else since + seconds - time.monotonic()
                if left <= 0:
                    raise NotReturned
                await asyncio.wait([self._future], timeout=left)
        finally:
            self._stop()
        return self._future.result()

    async def ended(self, seconds: float | None = None) -> None:
        """Wait until the work has really ended, however late; *seconds* at most."""
        await asyncio.wait([self._future], timeout=seconds)

    async def abandon(self, seconds: float) -> None:
        """Cancel a coroutine, and give it *seconds* to clean up; leave a function alone."""
        theirs = self._theirs
        self._stop()
        if theirs is not None:
            await self.ended(seconds)

    def _stop(self) -> None:
        self.stopped = True
        theirs = self._theirs
        if theirs is not None:
            loop, task = theirs
            # The coroutine's loop may be closed by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
