"""Begins the changes of one runtime, until it is closed, and waits for their answers.

A change is made first, which acquires nothing, and then begins: it queues up for its turn, in the
caller's thread, and its own thread is started. From before it begins until its answer is there, its
caller is inside one `try`, which withdraws the change or gives it up if anything is raised there,
at any instant: Ctrl-C, no thread, no memory. After that the epoch does not change any more, unless
the change commits already; then the exception has a note that says so.

Threads
-------

``_closings`` has the end of the last change from before that is queued, and no more than its end,
since it stays; should that change fail, it leaves again. Any
other change queues up first, and looks whether there is a last one afterwards: so a change is in
the queue before the last one, or it is refused. ``_numbers`` is a counter whose `next` is one step.
``_running`` holds its members weakly, so that a change leaves by itself when it ends.
"""

from __future__ import annotations

import itertools
import os
import sys
from contextlib import suppress
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.change.executor import ChangeThread, Executor
from epochal._core.change.plugin_calls import StepRunner, is_changing
from epochal._core.generation.ambient import leave_all
from epochal._core.sync.threads import start_thread
from epochal._core.sync.watchdog import watchdog
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import ForkedRuntimeError, NestedChangeError, RuntimeClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.change.sequence import ChangeSpec
    from epochal._core.generation.epoch import EpochStore
    from epochal._core.sync.completion import Completion
    from epochal.report import Cutover

_runtimes: Final = itertools.count(1)


class ChangeQueue:
    """Runs changes, each on a thread of its own; they have their turns in the order of the calls.

    Args:
        epochs: what the changes share.
    """

    __slots__ = ("_closings", "_epochs", "_numbers", "_pid", "_running", "_serial")

    def __init__(self, epochs: EpochStore) -> None:
        self._epochs: Final = epochs
        self._serial: Final = next(_runtimes)
        self._numbers: Final = itertools.count(1)
        self._pid: Final = os.getpid()
        self._running: Final[WeakRegistry[Completion[None]]] = WeakRegistry()
        self._closings: Final[list[Completion[None]]] = []

    def prepare(self, spec: ChangeSpec) -> QueuedChange:
        """Make a change, which is to begin.

        Raises:
            HostError: the runtime is of another process, or the caller is code that one of its
                changes runs.
        """
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
        return QueuedChange(self, executor, f"epochal change {number}")

    def run_last(self, spec: ChangeSpec) -> Cutover | None:
        """Run a change after which no other can begin; None if one was begun before.

        If it is refused, or given up, the runtime stays open.
        """
        if self._closings:
            return None
        last = self.prepare(spec)
        closing = last.executor.ended
        try:
            # Closed, then queued: see above.
            self._closings.append(closing)
            return last.wait() if self._closings[0] is closing else None
        finally:
            if not last.executor.commits:
                with suppress(ValueError):
                    self._closings.remove(closing)

    def begin(self, executor: Executor, name: str) -> None:
        """Begin a change. If anything is raised here, the caller is to take it back."""
        self._check_open(executor.ended)
        watchdog.start()  # before all else: without it there would be no time limits
        self._running.add(executor.ended)
        # Before it acquires anything: it takes the change back as it dies, if there is no thread.
        thread = ChangeThread(executor, name)
        try:
            executor.queue()
            self._check_open(executor.ended)  # again: see above
            start_thread(thread.run, name=name)
        finally:
            del thread  # a traceback has this frame

    def wait(self, timeout_s: float | None) -> None:
        """Wait for all changes that run or drain, for so many seconds at most."""
        if sys.is_finalizing():  # their threads have stopped for good
            return
        deadline = None if timeout_s is None else monotonic() + timeout_s
        for ended in self._running.live():
            ended.wait(None if deadline is None else max(0.0, deadline - monotonic()))

    def check_open(self) -> None:
        """Raise `RuntimeClosedError` if the last change was begun."""
        if self._closings:
            self._check_open(None)

    def _check_open(self, closing: Completion[None] | None) -> None:
        closings = self._closings.copy()
        if closings and closings[0] is not closing:
            raise RuntimeClosedError("the runtime was closed; make a new one")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRuntimeError(
                f"this runtime was made in process {self._pid}; this is its fork {os.getpid()}, "
                "where the threads that use its plugins do not exist; make a new Runtime in it"
            )


class QueuedChange:
    """A change that is to begin, and the two ways to wait for its answer.

    Args:
        queue: begins it.
        executor: the change.
        name: of its thread.
    """

    __slots__ = ("_has_begun", "_name", "_queue", "executor")

    def __init__(self, queue: ChangeQueue, executor: Executor, name: str) -> None:
        self._queue: Final = queue
        self._name: Final = name
        self._has_begun = False
        self.executor: Final = executor

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_exiting() and self.executor.is_withdrawn and not self.executor.ended.done():
            self.executor.withdraw()  # again: it was interrupted

    def begin(self) -> None:
        """Begin it, if it has not begun; `wait` does so."""
        if not self._has_begun:
            self._has_begun = True
            self._queue.begin(self.executor, self._name)

    def wait(self) -> Cutover:
        """Block until the change answers; Ctrl-C gives it up."""
        executor, answer = self.executor, self.executor.answer
        forbid_commit = executor.forbid_commit
        try:
            self.begin()
            return answer.result()
        except BaseException as error:
            forbid_commit()  # first of all: whatever is raised below, it is decided
            if not (answer.done() and answer.exception() is error):
                self._give_up(error)
            raise
        finally:
            # An error in the answer, with this frame in its traceback, would be a cycle:
            # it would keep the caller's variables, epochs among them, until the collector runs.
            del self, executor, answer

    def _give_up(self, error: BaseException) -> None:
        """Leave only when it is undone, or was published already, which cannot be undone."""
        executor, answer = self.executor, self.executor.answer
        try:
            if not (executor.withdraw() or answer.done()):
                executor.cancel()
                answer.exception()
        except BaseException as again:
            _note_commit(executor, again)  # at once: it is decided whether the change commits
            raise
        else:
            _note_commit(executor, error)
        finally:
            del self, executor, answer, error  # as above

    async def wait_async(self) -> Cutover:
        """`wait` for event loops; cancelling the task gives the change up."""
        executor, answer = self.executor, self.executor.answer
        forbid_commit = executor.forbid_commit
        try:
            self.begin()
            await answer.wait_async()
            return answer.result()
        except BaseException as error:
            forbid_commit()  # as above
            if not (answer.done() and answer.exception() is error):
                await self._give_up_async(error)
            raise
        finally:
            del self, executor, answer  # as above

    async def _give_up_async(self, error: BaseException) -> None:
        executor, answer = self.executor, self.executor.answer
        try:
            if not (executor.withdraw() or answer.done()):
                executor.cancel()
                if not isinstance(error, GeneratorExit):  # a coroutine that is closed cannot wait
                    await answer.wait_async()
        except BaseException as again:
            _note_commit(executor, again)
            raise
        else:
            _note_commit(executor, error)
        finally:
            del self, executor, answer, error  # as above


def _note_commit(executor: Executor, error: BaseException) -> None:
    """Note on an exception that the change it interrupted is committed all the same."""
    if (epoch := executor.published) is not None:
        error.add_note(f"the change is committed: epoch {epoch} is current")
    elif executor.commits and not executor.answer.done():
        error.add_note("it was too late to give the change up: it commits")
