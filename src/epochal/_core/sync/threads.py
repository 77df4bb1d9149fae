"""Work on other threads: one call on a thread of its own, and an elastic pool.

All of them are daemon threads. They run foreign code (a plugin's `init()`, a native query engine)
that may block for ever, and a stuck thread must not hold up the end of the process.

Which one to use
----------------

* `call_on_thread` for work that may block for as long as a drain lasts. In a shared pool a few such
  calls would hold up the work that is to end them.
* `ThreadPool` for short work in numbers, with a bound on threads and on the queue before them.
* `LoopThread` (`loop_thread`) for coroutines that must run in no event loop of the host's.

Every one of them is started by `start_thread`. The system may start no thread for a while: then the
call that needs one fails, it alone, and nothing counts a thread that is not there.

Reads and writes of the pool
----------------------------

Submitting threads and the pool's own threads change ``_workers``, ``_idle`` and ``_jobs`` under
``_lock``. They are sets, not counters: a thread that was interrupted may put things right by adding
or discarding once more. ``_queue`` is a `SimpleQueue`: `post` puts into it from anywhere, the
collector included, and therefore takes no lock and starts no thread.

A worker takes itself out of ``_idle`` *before* it runs a job, and if no worker is left waiting it
starts one *before* it runs the job: so a job that hangs delays no other. A worker ends only under
the lock and with the queue empty, and a submitter puts under the lock: so no job is left behind.
"""

from __future__ import annotations

import math
import sys
import threading
import weakref
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from epochal._core.sync.completion import Completion
from epochal._core.sync.forks import in_forked_child
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import NoThreadError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_GIVE_WAY_S: Final = 20e-6
_STRETCH_S: Final = 100e-6
# The interpreter takes its lock from a thread only after its switch interval, 5 ms, and a change
# computes for less: a thread that waits for the lock would wait for all of it. So a change pauses
# between its steps, and within those that compute for longer than `_STRETCH_S`, for long enough
# that a waiting thread wakes up and takes the lock.
_turn: Final = threading.local()

_IDLE_S: Final = 10.0
"""A worker ends when it has had no work for this long; the next one costs 0.1 ms to start."""


def begin_giving_way() -> None:
    """Let waiting threads run now, and have this thread's `give_way` do so from now on."""
    sleep(_GIVE_WAY_S)
    _turn.since = perf_counter()


def give_way() -> None:
    """Let waiting threads run, in a thread that gives way and has not for a while.

    Not while a lock is held, nor between two steps that another thread must not come between.
    """
    since: float | None = getattr(_turn, "since", None)
    if since is not None and perf_counter() - since > _STRETCH_S:
        begin_giving_way()


def start_thread(work: Callable[[], object], *, name: str) -> threading.Thread:
    """Start a daemon thread.

    An exception that is raised in here at any other time (Ctrl-C, no memory) leaves open whether
    `work` runs: a caller that must know has `work` claim something first, and claims it otherwise.

    Args:
        work: the thread's work.
        name: the thread's name, as a stack dump shows it.

    Raises:
        NoThreadError: the system starts no more threads, or the interpreter ends.
    """
    if sys.is_finalizing():
        # CPython 3.11 would wait for ever for a thread that never begins.
        raise NoThreadError(name, "the interpreter ends")
    thread = _Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise NoThreadError(name, error) from error
    return thread


class _Thread(threading.Thread):
    """A thread whose start can be interrupted, by an exception of a signal handler.

    `Thread.start` waits until the thread has begun, in an `Event`, which is written in Python. An
    exception within it may leave its lock acquired, and the new thread waits for that for ever. And
    a thread that dies before it has begun, for want of memory, would be waited for for ever.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._started = _Begun()

    @property
    def _bootstrap(self) -> Callable[[], None]:
        bootstrap: Callable[[], None] = partial(super()._bootstrap)  # type: ignore[misc]
        self._started.watch(bootstrap)
        return bootstrap


class _Begun:
    """The part of an `Event` that `Thread` uses, in steps that are whole or not done."""

    __slots__ = ("_come", "_death", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._at_fork_reinit()

    def watch(self, bootstrap: Callable[[], None]) -> None:
        """Note the thread's own reference to what it runs, which dies with it."""
        self._death = weakref.ref(bootstrap, self._come.put)

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        # First the step that counts: an exception between the two changes nothing.
        self._come.put(None)
        self._is_set = True

    def wait(self) -> None:
        if self._come.get() is not None:  # by one thread, once
            raise RuntimeError("it ended before it began")
        self._is_set = True

    def _at_fork_reinit(self) -> None:
        self._come: SimpleQueue[weakref.ref[Callable[[], None]] | None] = SimpleQueue()


def call_on_thread(work: Callable[[], T], *, name: str) -> Future[T]:
    """Start `work` on a new daemon thread.

    Args:
        work: the call.
        name: the thread's name, as a stack dump shows it.

    Returns:
        A future that is already running and cannot be cancelled. Its exception may be any
        `BaseException`; `asyncio.wrap_future` makes it awaitable.

    Raises:
        NoThreadError: the system starts no more threads.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    start_thread(partial(_run, work, future), name=name)
    return future


def _run(work: Callable[[], Any], future: Future[Any]) -> None:
    outcome = attempt(work)
    del work
    _settle(future, outcome)
    del future, outcome  # see `attempt`


Outcome: TypeAlias = "tuple[Any, BaseException | None]"


def attempt(work: Callable[[], Any]) -> Outcome:
    """What some work returned, and the error that it raised; one of them is None."""
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001  raised where the future is read
        return None, error
    finally:
        # The error's traceback holds this frame, and the frame its caller's. None of them may hold
        # the error or its future: a cycle would keep the plugin's frames until the collector runs.
        del work


def _settle(future: Future[Any] | Completion[Any], outcome: Outcome) -> None:
    result, error = outcome
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
    del result, error, outcome, future  # see `attempt`


_Job: TypeAlias = "tuple[list[Callable[[], Any]], Completion[Any] | None]"
"""The work in a list of its own, which drops it as the work begins, and its completion."""


class ThreadPool:
    """An elastic pool of daemon threads.

    A thread is started when a job finds none idle, and ends when it has been idle for 10 seconds.
    In a forked child the pool is empty and works again.

    Args:
        name: of its threads.
        max_threads: None for no limit.
        max_waiting: how many jobs may wait while all `max_threads` are busy; None for any number.
        spare: how many threads wait even when there is no work, from `prepare` on. `post` needs
            one, since it cannot start any.
    """

    def __init__(
        self,
        name: str,
        *,
        max_threads: int | None = None,
        max_waiting: int | None = None,
        spare: int = 0,
    ) -> None:
        self._name: Final = name
        self._max_threads: Final = math.inf if max_threads is None else max_threads
        self._capacity: Final = self._max_threads + (
            math.inf if max_waiting is None else max_waiting
        )
        self._spare: Final = spare
        self.reset()
        _pools.add(self)

    def reset(self) -> None:
        """Forget all threads and jobs: for a forked child, which has none of the threads."""
        # Reentrant: an allocation under it may run a finalizer that submits to this pool.
        self._lock = threading.RLock()
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        self._workers: set[object] = set()
        self._idle: set[object] = set()
        self._jobs: set[Completion[Any]] = set()  # submitted jobs that wait or run

    def try_submit(self, work: Callable[[], T]) -> Completion[T] | None:
        """Run `work` on a thread of the pool.

        Returns:
            Its completion; None if the pool and its queue are full.

        Raises:
            NoThreadError: the system starts no more threads.
        """
        ended: Completion[T] = Completion()
        cell: list[Callable[[], Any]] = [work]
        del work
        try:
            with self._lock:
                if len(self._jobs) >= self._capacity:
                    return None
                if not self._idle and len(self._workers) < self._max_threads:
                    self._start()
                self._jobs.add(ended)
                self._queue.put((cell, ended))
        except BaseException:
            self._jobs.discard(ended)
            cell.clear()
            raise
        return ended

    def prepare(self) -> None:
        """Make sure that a thread waits for what is posted from now on.

        Raises:
            NoThreadError: the system starts no more threads.
        """
        if not self._idle:
            with self._lock:
                if not self._idle:
                    self._start()

    def post(self, work: Callable[[], object]) -> None:
        """Run `work` soon; may be called anywhere, by the collector and by weak references too.

        Args:
            work: the call. It must not raise: nothing reports its error.
        """
        self._queue.put(([work], None))

    def _start(self) -> None:
        worker = object()
        # Before the start: the new thread takes itself out when it takes its first job.
        self._enter(worker)
        try:
            start_thread(partial(self._serve, worker, self._queue), name=self._name)
        except BaseException:
            self._leave(worker)
            raise

    def _enter(self, worker: object) -> None:
        self._workers.add(worker)
        self._idle.add(worker)

    def _leave(self, worker: object) -> None:
        self._workers.discard(worker)
        self._idle.discard(worker)

    def _serve(self, worker: object, queue: SimpleQueue[_Job]) -> None:
        with self._lock:
            self._enter(worker)  # again, if the start was interrupted
        try:
            while (job := self._next(worker, queue)) is not None:
                self._do(worker, job)
                del job  # a waiting thread holds nothing of its last job
        finally:
            self._leave(worker)

    def _do(self, worker: object, job: _Job) -> None:
        cell, ended = job
        try:
            self._take(worker)
            outcome = attempt(cell.pop())  # none is left of a submission that was interrupted
        except BaseException as error:  # noqa: BLE001  such as no memory: the job's own failure
            outcome = (None, error)
        with self._lock:
            # Before the result: a caller that has it finds this thread idle and a place free.
            self._idle.add(worker)
            if ended is not None:
                self._jobs.discard(ended)
        if ended is not None:
            _settle(ended, outcome)
        del self, job, cell, ended, outcome  # see `attempt`

    def _take(self, worker: object) -> None:
        with self._lock:
            self._idle.discard(worker)
            is_needed = self._spare or not self._queue.empty()
            if is_needed and not self._idle and len(self._workers) < self._max_threads:
                with suppress(NoThreadError, MemoryError):  # then the next idle thread takes it
                    self._start()

    def _next(self, worker: object, queue: SimpleQueue[_Job]) -> _Job | None:
        timeout: float | None = _IDLE_S
        while True:
            try:
                return queue.get(timeout=timeout)
            except Empty:
                with self._lock:
                    if not queue.empty():
                        continue
                    if len(self._idle) > self._spare:
                        self._leave(worker)
                        return None
                timeout = None  # this one is the spare


_pools: Final[WeakRegistry[ThreadPool]] = WeakRegistry()


def _after_fork() -> None:
    for pool in _pools.live():
        pool.reset()


in_forked_child(_after_fork)
