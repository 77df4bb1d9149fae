"""The resources that a generation acquired through its context, closed in reverse order.

Deferred calls, entered context managers, threads and tasks: each is one closer on one stack.
Closing takes them off one by one, so that a thread that continues an abandoned close (a closer did
not return) begins with the next one. A closer that raises is reported, and the others still run.

Threads and tasks are asked to end, not torn down: `stopping` is set before the plugin's
`shutdown()` runs, a task is cancelled; then each may take its own time limit to end. Tasks run in
an event loop of the generation's own, on a thread of its own. So they neither need nor disturb a
loop of the host, and their end needs no loop that may itself be waiting for the change.

Which thread reads, which writes: the plugin's code appends to `_closers` on any thread, and the one
thread that closes pops from it; both are one step.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.origins import begun_by
from epochal.errors import HostError, NoThreadError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from epochal._core.introspect.origins import Origin
    from epochal._core.sync.loop_thread import LoopThread

_LIMIT_S: Final = 5.0


class DidNotEndError(Exception):
    """A thread or task of a plugin did not end in time after it was asked to."""


class Resources:
    """The resources of one generation.

    Args:
        owner: `plugin#generation`, for the names of threads.
        origin: the generation's code: what it begins here is its own, also where a call begins it.

    Attributes:
        stopping: set when the generation begins to shut down.
    """

    __slots__ = ("_closed", "_closers", "_loop", "_origin", "_owner", "stopping")

    def __init__(self, owner: str, origin: Origin) -> None:
        self._owner: Final = owner
        self._origin: Final = origin
        self._closers: Final[list[Callable[[], object]]] = []
        self._loop: LoopThread | None = None
        self._closed = False
        self.stopping: Final = threading.Event()

    def defer(self, closer: Callable[[], object]) -> None:
        """Add a call for the end.

        Raises:
            HostError: the generation has been shut down.
        """
        if self._closed:
            raise HostError(f"{self._owner} has been shut down; it can acquire no more resources")
        self._closers.append(closer)

    def spawn(
        self, work: Callable[[], object], name: str | None, stop_timeout: float
    ) -> threading.Thread:
        """Run `work` on a thread that must end within `stop_timeout` seconds of `stopping`.

        Raises:
            HostError: the generation has been shut down.
            NoThreadError: the system starts no more threads.
        """
        context = Context()
        context.run(begun_by.set, self._origin)  # for the tasks of an event loop that it runs
        thread = threading.Thread(
            target=context.run, args=(work,), name=name or self._owner, daemon=True
        )

        def end() -> None:
            if thread.ident is None:
                return  # it could not be started
            thread.join(stop_timeout)
            if thread.is_alive():
                raise DidNotEndError(
                    f"thread {thread.name!r} did not end within {stop_timeout:g} s of ctx.stopping"
                )

        # Before it starts: a generation that is shut down refuses, and then no thread may run.
        self.defer(end)
        self._origin.adopt(thread)
        try:
            thread.start()
        except RuntimeError as error:
            raise NoThreadError(thread.name, error) from error
        return thread

    def create_task(
        self, work: Coroutine[Any, Any, Any], name: str | None, stop_timeout: float
    ) -> Future[Any]:
        """Run a coroutine in the generation's own event loop until it is cancelled at the end."""
        try:
            loop = self._running_loop()
        except BaseException:
            work.close()  # there is no thread for it: it never runs
            raise
        outcome: Future[Any] = Future()
        outcome.set_running_or_notify_cancel()  # so it cannot be cancelled: it ends with the task
        task: list[asyncio.Task[Any]] = []

        def start() -> None:
            task.append(loop.create_task(work, name=name or self._owner))
            task[0].add_done_callback(lambda done: _pass_on(done, outcome))

        def end() -> None:
            loop.call_soon_threadsafe(lambda: task[0].cancel())
            try:
                outcome.result(stop_timeout)
            except CancelledError:
                return
            except FutureTimeoutError:
                if outcome.done():
                    raise
                raise DidNotEndError(
                    f"task {task[0].get_name()!r} did not end within {stop_timeout:g} s of being "
                    "cancelled"
                ) from None

        self.defer(end)
        context = copy_context()
        context.run(begun_by.set, self._origin)
        loop.call_soon_threadsafe(start, context=context)
        return outcome

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to close."""
        return not self._closers

    def close(self, failures: list[BaseException]) -> None:
        """Close everything in reverse; called again, it continues where it was abandoned.

        Args:
            failures: collects the exceptions of the closers.
        """
        # First refuse new closers: one added during the loop's last pop would never run.
        self._closed = True
        self.stopping.set()
        while self._closers:
            try:
                # Off the stack before the call, so that a continued close does not repeat it.
                self._closers.pop()()
            except BaseException as error:  # noqa: BLE001  reported; the others still run
                failures.append(error)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            from epochal._core.sync.loop_thread import LoopThread  # asyncio, for those that use it

            loop = self._loop = LoopThread(f"{self._owner} loop")

            def end() -> None:
                if not loop.stop(_LIMIT_S):
                    raise DidNotEndError(f"the event loop of {self._owner} did not end")

            self.defer(end)
            self._origin.adopt(loop.thread)
        return self._loop.loop


def _pass_on(done: asyncio.Task[Any], outcome: Future[Any]) -> None:
    if done.cancelled():
        outcome.set_exception(CancelledError())
    elif (error := done.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(done.result())
