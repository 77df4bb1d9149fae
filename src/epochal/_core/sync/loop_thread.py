"""An asyncio event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from epochal._core.sync.completion import Completion
from epochal._core.sync.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class LoopThread:
    """An asyncio event loop on a daemon thread, from now until `stop`.

    The thread does not refer to this object.

    Raises:
        NoThreadError: the system starts no more threads.
        OSError: there are no files left for the loop.

    Attributes:
        loop: the event loop.
        thread: its thread.
    """

    def __init__(self, name: str) -> None:
        # The thread makes the loop: were the caller interrupted by Ctrl-C between making a loop and
        # starting its thread, there would be a loop that never runs.
        made: Completion[asyncio.AbstractEventLoop] = Completion()
        try:
            self.thread: Final = start_thread(partial(_run_loop, made), name=name)
            self.loop: Final = made.result()
        except BaseException:
            made.add_done_callback(_stop_made)  # the thread may have begun
            raise
        self._stop_claim: Final = threading.Lock()  # acquired by the first `stop`, never released

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self.thread.is_alive()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> LoopCall[T]:
        """Run a coroutine in the loop.

        Raises:
            RuntimeError: the loop is closed; the coroutine is closed too.
        """
        return LoopCall(self.loop, coroutine)

    def stop(self, timeout: float) -> bool:
        """Cancel what runs in the loop and end the thread. May be called again, to wait longer.

        Args:
            timeout: seconds to wait for that.

        Returns:
            Whether the thread has ended; True in the thread itself, which cannot wait for its end.
        """
        # Once: a second stop would cut off the tasks that are being cancelled.
        if self._stop_claim.acquire(blocking=False):
            with suppress(RuntimeError):  # the loop has ended by itself
                self.loop.call_soon_threadsafe(self.loop.stop)
        if self.thread is threading.current_thread():
            return True
        self.thread.join(timeout)
        return not self.thread.is_alive()


class LoopCall(Generic[T]):
    """A coroutine that runs in the loop of another thread; that thread waits for its end.

    `asyncio.run_coroutine_threadsafe` returns a future whose state is guarded by a condition. A
    Ctrl-C within that leaves it locked, and the loop would wait for it for ever.

    Attributes:
        ended: its completion, also once it is cancelled.
    """

    __slots__ = ("_loop", "_task", "ended")

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> None:
        self.ended: Final[Completion[T]] = Completion()
        self._loop: Final = loop
        self._task: asyncio.Task[T] | None = None  # written and read by the loop's thread
        try:
            loop.call_soon_threadsafe(self._begin, coroutine)
        except RuntimeError:
            coroutine.close()
            raise

    def cancel(self) -> None:
        """End it with `asyncio.CancelledError`, if it goes on. Idempotent; any thread."""
        if not self.ended.done():
            self.ended.set_exception(asyncio.CancelledError())
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> None:
        if self.ended.done():
            coroutine.close()
            return
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        self._task = None  # it has this object in its callback
        if task.cancelled():
            self.ended.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(task.result())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _run_loop(made: Completion[asyncio.AbstractEventLoop]) -> None:
    try:
        _run_new_loop(made)
    except BaseException as error:
        if made.done():
            raise
        made.set_exception(error)  # such as no files left for a loop: the caller's answer


def _run_new_loop(made: Completion[asyncio.AbstractEventLoop]) -> None:
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        made.set_result(loop)
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _stop_made(made: Completion[asyncio.AbstractEventLoop]) -> None:
    if made.exception() is None:
        with suppress(RuntimeError):  # it has ended by itself
            loop = made.result()
            loop.call_soon_threadsafe(loop.stop)
