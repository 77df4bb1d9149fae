"""Threads that plan queries, for event loops and for threads that have a time limit.

The problem: a query text of a few kilobytes can take minutes of planning, in native code that
nothing interrupts. An event loop must not wait for it, nor may a handful of such texts hold up all
others. But each thread more that plans beside the loop hands the interpreter's lock around: with
sixteen of them, 64 connections got half of the answers that they got with two.

The idea: a few threads serve one queue, for as long as they make progress. A query that waits looks
now and then: if no planning has ended for a while, it has another thread started, up to a bound.
When the threads make progress again, the spare ones leave. The queue is bounded as well: clients
cannot fill the memory.

Where the engine is done with a query in a moment (`kept_plans`), the thread that plans it reads it
too, so that the loop is woken once for the whole query. Should that take longer than a moment all
the same, since a function waits for something, the loop gets the planned result meanwhile.

A thread that plans with a time limit of its own waits for that planning alone, and needs no bound.

Which thread reads and writes what
----------------------------------

``_serving`` has the threads' tokens, and when each took its present job: None while it waits. It
gains and loses tokens under ``_lock``; a thread sets its own entry without it. A job is put into
the queue under the lock, and a thread leaves under it: so no job is left behind. ``_ended_at`` is
written by the threads and read by loops. A job's ``_work`` is taken by the thread that runs it, or
dropped by the loop that no longer waits for it, one step each. A forked process, which has none of
the threads, begins anew.

A thread gives a job that is done to its loop's `_Inbox`, and wakes the loop unless it wakes for
another one: a wake-up is a write to a socket, which hands the interpreter's lock over. The thread
adds a job to the batch *before* it reads ``_batch`` again, and the loop clears that *before* it
takes the jobs: one of the two sees the other. The thread sets a job's ``_outcome`` *before* it
reads ``_is_dropped``, and the loop sets that *before* it drops the outcome: none is left behind.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar, cast

from epochal._core.sync.threads import ThreadPool, attempt
from epochal.errors import BusyError, EpochalError, NoThreadError
from epochal.sql.coarse_timers import TICK_S, call_later
from epochal.sql.contexts import engine_threads
from epochal.sql.execution import EndReason
from epochal.sql.loop_local import LoopLocal

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.sql.coarse_timers import CoarseTimer
    from epochal.sql.execution import Execution
    from epochal.sql.query import Query
    from epochal.sql.result import Result

T = TypeVar("T")

_THREADS: Final = 16
_FEW: Final = max(2, min(4, os.cpu_count() or 1))
_WAITING: Final = 256
"""So many queries of event loops are planned at once, at most (or more, where the engine has more
threads) and normally, and so many wait."""

_AHEAD_S: Final = 0.005
"""An event loop waits so long for rows that come with the plan."""

_LOOK_S: Final = 0.05
"""A query that waits looks so often."""

_HANG_S: Final = 0.2
"""Threads that end no planning for so long hang; on a busy machine 0.05 s may pass without one."""

_IDLE_S: Final = 10.0


class PlanningThreads:
    """Plans queries on threads.

    Args:
        few: how many plan for event loops at once, while they make progress.
        threads: how many do at most; None for as many as the engine has, since a function that
            hangs may keep one of these instead of one of those.
        waiting: how many more may wait for one of them.
    """

    __slots__ = (
        "_ended_at",
        "_few",
        "_lock",
        "_pool",
        "_process",
        "_queue",
        "_serving",
        "_threads",
        "_unbounded",
        "_waiting",
    )

    def __init__(
        self, few: int = _FEW, threads: int | None = None, waiting: int = _WAITING
    ) -> None:
        self._few: Final = few
        self._threads: Final = max(_THREADS, engine_threads()) if threads is None else threads
        self._waiting: Final = waiting
        self._pool: Final = ThreadPool("epochal-planner", max_threads=self._threads)
        self._unbounded: Final = ThreadPool("epochal-planner")
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._queue: SimpleQueue[_Planning] = SimpleQueue()
        self._serving: dict[object, float | None] = {}
        self._ended_at = monotonic()

    # --- for event loops ---------------------------------------------------------------------

    async def arun(self, query: Query, then: Callable[[Result], object] | None) -> Result:
        """Plan a query on a thread, in this context; cancelling drops it if it has not begun.

        Args:
            query: the query.
            then: is called with the result, on the thread that planned it; None to read a small
                result ahead there.

        Raises:
            BusyError: too many are waiting already.
            NoThreadError: the system starts no thread.
            QueryError: the query ended first: its time ran out, or another thread ended it.
            Exception: as raised by the planning, or by `then`.
        """
        planning = _Planning(query, then)
        self._submit(planning)
        waiter, execution = planning.waiter, query.execution
        del query, then  # a cancelled task leaves this frame behind, which must not keep a query
        wait = _AHEAD_S if planning.reads_ahead else _LOOK_S
        remaining = execution.remaining
        planning.look_in(wait if remaining is None else min(wait, remaining), self._look, execution)
        del execution
        assert waiter is not None
        try:
            return await waiter
        finally:
            planning.drop()
            del planning, waiter  # no cycle through this frame, which an error's traceback holds

    def _submit(self, planning: _Planning) -> None:
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            if self._queue.qsize() >= self._waiting:
                raise BusyError
            is_idle = None in self._serving.values()
            if not is_idle and len(self._serving) < self._few:
                self._start()
            self._queue.put(planning)

    def _start(self) -> None:
        """Start a thread; only the first one has to start."""
        token = object()
        self._serving[token] = None
        try:
            if self._pool.try_submit(partial(self._serve, token, self._queue)) is None:
                self._serving.pop(token)  # one that leaves has not gone yet
        except NoThreadError:
            self._serving.pop(token)
            if not self._serving:
                raise
        except BaseException:
            self._serving.pop(token)
            raise

    def _serve(self, token: object, queue: SimpleQueue[_Planning]) -> None:
        serving = self._serving
        try:
            while True:
                try:
                    planning = queue.get(timeout=_IDLE_S)
                except Empty:
                    if self._leave(token, queue, always=True):
                        return
                    continue
                serving[token] = monotonic()
                planning.run()
                del planning  # a waiting thread holds nothing of its last job
                self._ended_at = monotonic()
                serving[token] = None
                if len(serving) > self._few and self._leave(token, queue, always=False):
                    return
        finally:
            serving.pop(token, None)

    def _leave(self, token: object, queue: SimpleQueue[_Planning], *, always: bool) -> bool:
        """Whether a thread may end: it has had nothing to do, or others make progress."""
        with self._lock:
            late = monotonic() - _HANG_S
            others = [since for other, since in self._serving.items() if other is not token]
            lively = [since for since in others if since is None or since > late]
            may_leave = queue.empty() if always else len(lively) >= self._few
            if may_leave:
                self._serving.pop(token, None)
            return may_leave

    def _look(self, planning: _Planning, execution: Execution) -> None:
        """See what became of a query that a loop still waits for; called by that loop."""
        if planning.deliver_planned() or planning.is_over:
            return
        if execution.end_reason is not EndReason.FAILED:  # then its error is on its way
            try:
                execution.check()
            except EpochalError as ended:
                planning.fail(ended)
                return
        if not planning.has_begun and monotonic() - self._ended_at > _HANG_S:
            with self._lock, suppress(NoThreadError):
                if len(self._serving) < self._threads and self._process == os.getpid():
                    self._start()
        remaining = execution.remaining
        wait = _LOOK_S if remaining is None else min(_LOOK_S, remaining)
        planning.look_in(wait, self._look, execution)

    # --- for threads -------------------------------------------------------------------------

    def run(self, work: Callable[[], T], execution: Execution) -> T:
        """Run `work` on another thread until it is done or the query ends.

        Raises:
            QueryError: the query ended first: its time ran out, or another thread ended it.
            BaseException: as raised by `work`.
        """
        planning = self._unbounded.try_submit(work)
        assert planning is not None, "the pool has no bound"
        # True when the planning is done, False when the query ends. Not the future itself: one that
        # its own callback keeps would wait for the collector, and the query with it.
        news: SimpleQueue[bool] = SimpleQueue()
        planning.add_done_callback(lambda _: news.put(True))
        try:
            with execution.waking(lambda: news.put(False)):
                is_done = _next(news, execution)
            # A query that failed did so in its own planning, which returns the error in a moment.
            while not is_done and execution.end_reason is EndReason.FAILED:
                is_done = news.get()
            if not is_done:
                execution.check()
                raise AssertionError("woken without an end")  # pragma: no cover
            return planning.result()
        finally:
            del planning  # no cycle through this frame, which an error's traceback holds


def _next(news: SimpleQueue[bool], execution: Execution) -> bool:
    try:
        return news.get(timeout=execution.remaining)
    except Empty:
        execution.stop(EndReason.EXPIRED)
        return False


class _Planning:
    """One query that an event loop waits for.

    Attributes:
        waiter: gets the result, in the loop; None once the loop no longer waits.
        has_begun: whether a thread has taken it.
        reads_ahead: whether the thread reads a small result.
    """

    __slots__ = (
        "_inbox",
        "_is_dropped",
        "_outcome",
        "_planned",
        "_timer",
        "_work",
        "has_begun",
        "reads_ahead",
        "waiter",
    )

    def __init__(self, query: Query, then: Callable[[Result], object] | None) -> None:
        self._inbox: Final = _inboxes.get()
        loop = asyncio.get_running_loop()
        self.waiter: asyncio.Future[Result] | None = loop.create_future()
        self.has_begun = False
        self._is_dropped = False
        self._outcome: tuple[Result | None, BaseException | None] | None = None
        self.reads_ahead: Final = then is None
        self._planned: Result | None = None  # set by the thread while it reads ahead
        self._timer: asyncio.TimerHandle | CoarseTimer | None = None
        context = copy_context()
        self._work: Callable[[], Result | None] | None = partial(
            context.run, self._plan, query, then
        )

    def _plan(self, query: Query, then: Callable[[Result], object] | None) -> Result | None:
        result = query.start()
        if then is not None:
            then(result)
        elif (ahead := result.begin_ahead()) is not None:
            # From here on the loop may take the result; its reader waits for what is read ahead.
            self._planned = result
            # An error that is read ahead keeps this frame and its job, and so may an exception that
            # a plugin keeps; neither must keep the result, which ends when it is dropped unread.
            del result
            ahead()
            return self._planned  # None if the loop no longer waits
        return result

    def run(self) -> None:
        """Plan, on this thread, and tell the loop."""
        work, self._work = self._work, None
        if work is None:  # the loop no longer waits
            return
        self.has_begun = True
        self._outcome = attempt(work)
        del work
        if self._is_dropped:  # read after the outcome is set: see the top
            self._outcome = self._planned = None
        else:
            self._inbox.add(self)

    # --- in the loop -------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the loop has its answer."""
        return self.waiter is None or self.waiter.done()

    def look_in(
        self, seconds: float, look: Callable[[_Planning, Execution], None], execution: Execution
    ) -> None:
        """Call `look` after a while, unless it is over by then."""
        call = partial(look, self, execution)
        if seconds < TICK_S:
            self._timer = asyncio.get_running_loop().call_later(seconds, call)
        else:
            self._timer = call_later(seconds, call)

    def deliver_planned(self) -> bool:
        """Give the loop a result whose rows are still read; whether there was one."""
        if self._planned is None or self.waiter is None or self.waiter.done():
            return False
        self.waiter.set_result(self._planned)
        return True

    def settle(self) -> None:
        """Give the loop what became of the planning, unless it has it or no longer waits."""
        outcome, self._outcome = self._outcome, None
        if outcome is None or self.waiter is None or self.waiter.done():
            return
        result, error = outcome
        del outcome
        if error is None:
            self.waiter.set_result(cast("Result", result))
        else:
            self.waiter.set_exception(error)
        del result, error  # no cycle through this frame

    def fail(self, error: BaseException) -> None:
        """Give the loop an error."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)

    def drop(self) -> None:
        """The loop no longer waits: refer to nothing."""
        self._is_dropped = True
        if self._timer is not None:
            self._timer.cancel()
        self._work = self._planned = self._timer = self._outcome = self.waiter = None


class _Inbox:
    """Takes the jobs that are done to their loop, as many with one wake-up as there are.

    Args:
        loop: the loop.
    """

    __slots__ = ("__weakref__", "_batch", "_loop")

    # The loop's queue has the batch, and this refers to it weakly: a loop that is closed lets go of
    # the jobs, and so of the plugins that their results use.

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = weakref.ref(loop)
        self._batch: weakref.ref[deque[_Planning]] | None = None

    def add(self, planning: _Planning) -> None:
        """Give the loop a job that is done; called by the thread that did it."""
        known = self._batch
        batch = known() if known is not None else None
        if batch is not None:
            batch.append(planning)
            if self._batch is known:
                return
            # The loop has begun to take the batch: given twice, a job is taken once.
        batch = deque((planning,))
        self._batch = weakref.ref(batch)
        loop = self._loop()
        with suppress(RuntimeError):  # the loop is closed
            if loop is not None:
                loop.call_soon_threadsafe(self._take, batch)

    def _take(self, batch: deque[_Planning]) -> None:
        self._batch = None
        while batch:
            batch.popleft().settle()


_inboxes: Final = LoopLocal(_Inbox)
