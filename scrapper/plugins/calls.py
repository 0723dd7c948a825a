"""Calls plugins' functions, and protects the service from those that hang, block or fail."""

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
    """A function did not return in time."""


class Call:
    """Runs *work* in a separate thread. *work* calls a plugin's functions with :meth:`invoke`.

    The thread cannot be stopped, but it is a daemon thread, so the process can exit anyway. A
    coroutine runs in that thread on a separate event loop, so it cannot block the service's loop.
    """

    def __init__(self, work: Callable[["Call"], Any]) -> None:
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = loop.create_future()
        # result() raises the error. If result() is never called, asyncio would log the error unless
        # it is retrieved here.
        self._future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._started_at: float | None = None
        self._coroutine: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self.stopped = False
        """True if *work* must not call any more functions."""

        def run() -> None:
            settle: Callable[[Any], None] = self._future.set_result
            try:
                result = work(self)
            # result() raises the error.
            except Exception as error:  # noqa: BLE001
                result, settle = error, self._future.set_exception
            # The service's loop may be closed, because the process is exiting.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="plugin", daemon=True).start()

    @classmethod
    def of(cls, function: Callable[..., Any], *arguments: Any) -> "Call":
        """Start a call of one *function*; its return value becomes the call's result."""
        return cls(lambda call: call.invoke(function, *arguments))

    def invoke(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call *function*. Only *work* may call this method.

        Raises:
            Exception: *function* raised it.
            RuntimeError: *function* raised a StopIteration, or a BaseException that is not an
                Exception.
        """

        async def run_coroutine() -> Any:
            task = asyncio.ensure_future(function(*arguments))
            self._coroutine = asyncio.get_running_loop(), task
            if self.stopped:
                task.cancel()
            return await task

        self._started_at = time.monotonic()
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
            self._started_at = self._coroutine = None

    async def result(self, seconds: float) -> Any:
        """Wait for *work* to end, and return its result.

        Raises:
            NotReturned: a function did not return within *seconds*; await :meth:`ended` next.
            Exception: *work* raised it.
        """
        try:
            while not self._future.done():
                started_at = self._started_at
                left = seconds if started_at is None else started_at + seconds - time.monotonic()
                if left <= 0:
                    raise NotReturned
                await asyncio.wait([self._future], timeout=left)
        finally:
            self._stop()
        return self._future.result()

    async def ended(self, seconds: float | None = None) -> None:
        """Wait until *work* has actually ended, for at most *seconds* if given."""
        await asyncio.wait([self._future], timeout=seconds)

    async def abandon(self, seconds: float) -> None:
        """Cancel a coroutine and give it *seconds* to clean up. A plain function keeps running."""
        coroutine = self._coroutine
        self._stop()
        if coroutine is not None:
            await self.ended(seconds)

    def _stop(self) -> None:
        self.stopped = True
        coroutine = self._coroutine
        if coroutine is not None:
            loop, task = coroutine
            # The coroutine's loop may be closed by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
