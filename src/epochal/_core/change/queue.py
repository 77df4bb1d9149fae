"""Begins the changes of one runtime, until it is closed, and waits for their answers.

Threads
-------

``_closed`` goes from False to True once, under ``_closing``, and the last change is queued under
that lock: every change that was begun before is in the queue before it, and none is begun after.
``_numbers`` is a counter whose `next` is one step. ``_running`` holds its members weakly, so that a
change leaves by itself when it ends.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from concurrent.futures import wait
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from epochal._core.change.executor import Executor
from epochal._core.change.plugin_calls import StepRunner, is_changing
from epochal._core.generation.ambient import leave_all
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import ForkedRuntimeError, NestedChangeError, RuntimeClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from epochal._core.change.sequence import ChangeSpec
    from epochal._core.generation.epoch import EpochStore
    from epochal.report import Cutover

_runtimes: Final = itertools.count(1)


class ChangeQueue:
    """Begins changes, each on a thread of its own; they have their turns in the order of the calls.

    Args:
        epochs: what the changes share.
    """

    __slots__ = ("_closed", "_closing", "_epochs", "_numbers", "_pid", "_running", "_serial")

    def __init__(self, epochs: EpochStore) -> None:
        self._epochs: Final = epochs
        self._serial: Final = next(_runtimes)
        self._numbers: Final = itertools.count(1)
        self._pid: Final = os.getpid()
        self._running: Final[WeakRegistry[Future[None]]] = WeakRegistry()
        self._closing: Final = threading.Lock()
        self._closed = False

    def begin(self, spec: ChangeSpec) -> RunningChange:
        """Begin a change.

        Raises:
            HostError: the runtime is closed, of another process, or the caller is code that one of
                its changes runs.
        """
        with self._closing:
            self.check_open()
            # In the queue before the runtime can close: closing waits for this change.
            return self._start(spec)

    def begin_last(self, spec: ChangeSpec) -> RunningChange | None:
        """Begin a change after which no other can begin; None if one was begun before."""
        with self._closing:
            if self._closed:
                return None
            # First queued, then closed: if it is refused, the runtime stays open.
            running = self._start(spec)
            self._closed = True
            return running

    def wait(self, timeout_s: float | None) -> None:
        """Wait for all changes that run or drain, for so many seconds at most."""
        wait(self._running.live(), timeout_s)

    def check_open(self) -> None:
        """Raise `RuntimeClosedError` if the last change was begun."""
        if self._closed:
            raise RuntimeClosedError("the runtime was closed; make a new one")

    def _start(self, spec: ChangeSpec) -> RunningChange:
        if is_changing(self._serial):
            raise NestedChangeError(
                "a change was asked for by code that a change is running (a plugin's link, init or "
                "shutdown); ask for it afterwards, or record it in the same change"
            )
        self._check_process()
        number = next(self._numbers)
        context = copy_context()
        context.run(leave_all)  # the plugins' code belongs to no operation of the caller
        executor = Executor(number, self._epochs, spec, StepRunner(self._serial, context))
        self._running.add(executor.ended)
        _start_thread(executor.run, f"epochal change {number}")
        return RunningChange(executor)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRuntimeError(
                f"this runtime was made in process {self._pid}; this is its fork {os.getpid()}, "
                "where the threads that use its plugins do not exist; make a new Runtime in it"
            )


class RunningChange:
    """A change that runs on its thread, and the two ways to wait for its answer."""

    __slots__ = ("_executor",)

    def __init__(self, executor: Executor) -> None:
        self._executor: Final = executor

    def wait(self) -> Cutover:
        """Block until the change answers; Ctrl-C gives it up."""
        executor, answer = self._executor, self._executor.answer
        try:
            return answer.result()
        except BaseException:
            if not answer.done():
                # Ctrl-C came while the change ran: give it up, and leave only when it is undone (or
                # was published already, which a rollback could not undo).
                executor.cancel()
                answer.exception()
            raise
        finally:
            # An error in the answer, with this frame in its traceback, would be a cycle:
            # it would keep the caller's variables, epochs among them, until the collector runs.
            del self, executor, answer

    async def wait_async(self) -> Cutover:
        """`wait` for event loops; cancelling the task gives the change up."""
        executor, answer = self._executor, self._executor.answer
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            executor.cancel()
            ended = asyncio.wrap_future(answer)
            await asyncio.wait([ended])
            ended.exception()  # the task was cancelled: that is its answer
            raise
        finally:
            del self, executor, answer  # as above


def _start_thread(run: Callable[[], None], name: str) -> None:
    threading.Thread(target=run, name=name, daemon=True).start()
