"""An asyncio event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal._core.sync.completion import Completion
from epochal._core.sync.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

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

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop; cancelling the future cancels it.

        Raises:
            RuntimeError: the loop is closed; the coroutine is closed too.
        """
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:
            coroutine.close()
            raise

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
