"""The suspended work of every scheduler in the process: tasks and greenlets, of all threads.

Work that is switched out is on no thread's stack. Three libraries keep it, each in its own way:

- asyncio registers its tasks in sets of the process, and callbacks that are due in their loop
  (its modules are looked up by name: a process without asyncio has no tasks, and need not pay for
  its import, a fifth of what a runtime would import; another thread may be half through one);
- trio has a runner for each thread, which has its tasks;
- greenlets (gevent, SQLAlchemy's asyncio bridge, …) are in no table: the collector's list of all
  objects has them. It is read only where `greenlet` was imported.

Other schedulers' tasks are not seen (curio, loops whose tasks are not asyncio's), nor callbacks
that are due in an event loop written in C (uvloop).
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from concurrent.futures.thread import ThreadPoolExecutor, _WorkItem
from contextvars import Context
from functools import partial
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from epochal._core.introspect import heap
from epochal._core.introspect.await_chain import place_inside
from epochal._core.introspect.frames import calls_of, calls_running, innermost_calls
from epochal._core.introspect.object_names import class_of_library
from epochal._core.introspect.origins import executor_of, plain_function
from epochal._core.introspect.places import place_in, place_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from types import CodeType


class SoughtCode(NamedTuple):
    """The code of one generation, which a look searches for.

    Attributes:
        globals_ids: the `id` of each module dictionary of the generation.
        elsewhere: code that was seen to be other code, by its `id`: see `place_inside`.
    """

    globals_ids: frozenset[int]
    elsewhere: dict[int, CodeType]


class Scheduler(Protocol):
    """How one library's suspended work is found and read."""

    @property
    def kind(self) -> str:
        """`Holder.kind` of its work."""
        ...

    def items(self) -> list[Any]:
        """Everything that is suspended now; an object's identity is that of the work.

        Nothing is left out that ends while the list is made.
        """
        ...

    def place(self, item: Any, code: SoughtCode) -> str | None:
        """The place at which the work is inside the code; None if it is elsewhere."""
        ...

    def may_hide(self, item: Any) -> bool:
        """Whether an item that is elsewhere may have begun, from the code, one that is not listed.

        A call that waits has one place for ever: it has not.
        """
        ...

    def name(self, item: Any) -> str:
        """Its name."""
        ...

    def context(self, item: Any) -> Context | None:
        """Its context variables; None if it has none."""
        ...

    def ident(self, item: Any) -> int | None:
        """The ident of the thread that runs its scheduler; None if that is not known."""
        ...


class _Gone:
    """Stands for a task that ended while the tasks were listed; each is a new one."""


class _AsyncioTasks:
    kind = "task"

    def items(self) -> list[asyncio.Task[Any] | _Gone]:
        # A task that ended while the list was made may have begun another, which is not in it.
        return [_Gone() if task is None else task for task in _registered_tasks()]

    def place(self, item: asyncio.Task[Any] | _Gone, code: SoughtCode) -> str | None:
        return None if isinstance(item, _Gone) else place_inside(item.get_coro(), *code)

    def may_hide(self, item: object) -> bool:
        return True

    def name(self, item: asyncio.Task[Any]) -> str:
        return item.get_name()

    def context(self, item: asyncio.Task[Any]) -> Context | None:
        if sys.version_info >= (3, 12):
            return item.get_context()
        return next((o for o in gc.get_referents(item) if isinstance(o, Context)), None)

    def ident(self, item: asyncio.Task[Any]) -> int | None:
        return _thread_of_loop(item.get_loop())


class _AsyncioCallbacks:
    """Callbacks that their loop runs next, such as those of `run_coroutine_threadsafe`."""

    kind = "callback"

    def items(self) -> list[asyncio.Handle]:
        loops: dict[int, Any] = {id(loop): loop for loop in _set_loops()}
        loops |= {id(loop): loop for loop in (task.get_loop() for task in all_tasks())}
        # A deque of asyncio's own loops, without a public name; its copy is one step.
        due = [getattr(loop, "_ready", None) for loop in loops.values()]
        ready = [handle for table in due if type(table) is deque for handle in table.copy()]
        return [*ready, *_handles_in_call()]

    def place(self, item: asyncio.Handle, code: SoughtCode) -> str | None:
        callback = getattr(item, "_callback", None)
        future = class_of_library("asyncio.futures", "Future")
        if issubclass(type(getattr(callback, "__self__", None)), future):
            return None  # the step of a task
        return _place_of_call(callback, getattr(item, "_args", None) or (), code)

    def may_hide(self, item: object) -> bool:
        return False

    def name(self, item: asyncio.Handle) -> str:
        return "an event loop"

    def context(self, item: asyncio.Handle) -> Context | None:
        return getattr(item, "_context", None)

    def ident(self, item: asyncio.Handle) -> int | None:
        return _thread_of_loop(getattr(item, "_loop", None))


class _QueuedCall(NamedTuple):
    """A call in an executor's queue, and the ident of a worker that may take it."""

    work: Any
    ident: int | None


class _ExecutorQueues:
    """Calls that wait in the queue of a `ThreadPoolExecutor`."""

    kind = "executor"

    def items(self) -> list[_QueuedCall]:
        found: dict[int, _QueuedCall] = {}
        for thread in threading.enumerate():
            executor = executor_of(thread)
            if isinstance(executor, ThreadPoolExecutor):
                # A queue has no public way to look into it.
                for held in gc.get_referents(getattr(executor, "_work_queue", None)):
                    for work in held if type(held) is list else [held]:
                        if type(work) is _WorkItem:
                            found[id(work)] = _QueuedCall(work, thread.ident)
        return list(found.values())

    def place(self, item: _QueuedCall, code: SoughtCode) -> str | None:
        return _place_of_call(item.work.fn, item.work.args, code)

    def may_hide(self, item: object) -> bool:
        return False

    def name(self, item: object) -> str:
        return "an executor's queue"

    def context(self, item: object) -> Context | None:
        return None

    def ident(self, item: _QueuedCall) -> int | None:
        return item.ident


class _TrioTasks:
    kind = "task"

    def items(self) -> list[Any]:
        run = sys.modules.get("trio._core._run")
        local = getattr(run, "GLOBAL_RUN_CONTEXT", None)
        found: list[Any] = []
        for variables in _of_every_thread(local):
            found += list(getattr(variables.get("runner"), "tasks", ()))
        return found

    def place(self, item: Any, code: SoughtCode) -> str | None:
        return place_inside(item.coro, *code)

    def may_hide(self, item: object) -> bool:
        return True

    def name(self, item: Any) -> str:
        return str(item.name)

    def context(self, item: Any) -> Context | None:
        context = item.context
        return context if isinstance(context, Context) else None

    def ident(self, item: Any) -> int | None:
        runner = getattr(item, "_runner", None)
        thread = getattr(getattr(runner, "entry_queue", None), "thread", None)
        return getattr(thread, "ident", None)


class _Greenlets:
    kind = "greenlet"

    def items(self) -> list[Any]:
        module = sys.modules.get("greenlet")
        cls = getattr(module, "greenlet", None)
        if not isinstance(cls, type):
            return []
        # Each greenlet descends from the main one of the thread that made it, and such a one is
        # made at a thread's first use of greenlets. Most programs have the library imported only,
        # by SQLAlchemy say, and are spared the look at all objects.
        count = getattr(getattr(module, "_greenlet", None), "get_total_main_greenlets", None)
        if count is not None and not count():
            return []
        return heap.all_instances(cls)

    def place(self, item: Any, code: SoughtCode) -> str | None:
        # None where it runs: its frames are on a thread's stack.
        inside = [f for f in calls_of(item.gr_frame) if id(f.f_globals) in code.globals_ids]
        return place_of(inside[-1]) if inside else self._first_call(item, code)

    def may_hide(self, item: Any) -> bool:
        # To list them again takes longer than the greenlets of a busy server live.
        return bool(item.dead)

    def name(self, item: Any) -> str:
        return type(item).__name__

    def context(self, item: Any) -> Context | None:
        try:
            context = item.gr_context
        except ValueError:  # it runs, in another thread
            return None
        return context if isinstance(context, Context) else None

    def ident(self, item: Any) -> int | None:
        return None

    def _first_call(self, item: Any, code: SoughtCode) -> str | None:
        """The code with which a greenlet will begin, that was never switched to."""
        if item.dead:
            return None
        # gevent has the function in `_run`.
        return _place_of_call(getattr(item, "run", None), (getattr(item, "_run", None),), code)


ASYNCIO_TASKS: Final = _AsyncioTasks()
SCHEDULERS: Final[tuple[Scheduler, ...]] = (
    ASYNCIO_TASKS,
    _AsyncioCallbacks(),
    _ExecutorQueues(),
    _TrioTasks(),
    _Greenlets(),
)


def all_tasks() -> list[asyncio.Task[Any]]:
    """The unfinished asyncio tasks of every event loop of the process."""
    return [task for task in _registered_tasks() if task is not None and not task.done()]


def _registered_tasks() -> list[asyncio.Task[Any] | None]:
    """The tasks that asyncio registered; some may have ended, and None stands for one that is gone.

    `asyncio.all_tasks` knows one loop's; the sets behind it have no public name.
    """
    found: list[asyncio.Task[Any] | None] = []
    for name in ("_scheduled_tasks", "_eager_tasks", "_all_tasks"):  # 3.12, 3.12, 3.11
        tasks = getattr(sys.modules.get("asyncio.tasks"), name, None)
        # The set within a `WeakSet`: its copy is one step, while iterating the `WeakSet` fails
        # whenever another thread adds to it, and skips what dies meanwhile.
        refs = getattr(tasks, "data", None)
        if refs is not None:
            found += [ref() for ref in list(refs)]
        elif tasks is not None:
            found += list(tasks)
    return found


def _set_loops() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loops that threads have set; one may have a callback and no task."""
    policy = getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
    for variables in _of_every_thread(getattr(policy, "_local", None)):
        loop: Any = variables.get("_loop")
        if isinstance(loop, class_of_library("asyncio.events", "AbstractEventLoop")):
            yield loop


def _handles_in_call() -> list[asyncio.Handle]:
    """The handle that each event loop has taken out of its table, and calls or is about to."""
    cls = getattr(sys.modules.get("asyncio.base_events"), "BaseEventLoop", None)
    run_once = getattr(cls, "_run_once", None)  # without a public name
    return _variables_of(run_once.__code__, "handle") if run_once is not None else []


def _variables_of(code: CodeType, name: str) -> list[Any]:
    """A variable of every call that runs such code now, in any thread; None is left out.

    Before Python 3.13 reading it makes a dictionary that lives until the call returns: so the call
    must be a short one, or hold the value anyway.
    """
    calls = innermost_calls()
    found = [
        frame.f_locals.get(name)
        for ident in tuple(calls)
        for frame in calls_running(calls.pop(ident), code)
    ]
    return [value for value in found if value is not None]


def _of_every_thread(local: Any) -> list[dict[str, Any]]:
    """The variables that each thread has in a `threading.local`."""
    if not isinstance(local, threading.local):
        return []
    tables = [table for table in gc.get_referents(local) if type(table) is dict]
    return [v for table in tables for v in table.copy().values() if type(v) is dict]


def _thread_of_loop(loop: Any) -> int | None:
    ident = getattr(loop, "_thread_id", None)  # its only name; None for loops that do not run
    return ident if isinstance(ident, int) else None


def _place_of_call(function: Any, args: tuple[Any, ...], code: SoughtCode) -> str | None:
    """The generation's code that a call will run: its function's, or a coroutine's that it has."""
    values = [function, *args, *_parts_of(function)]
    for value in values:
        for plain in plain_function(value):
            if id(plain.__globals__) in code.globals_ids:
                return place_in(plain.__code__, None)
        if type(value) is CoroutineType and (place := place_inside(value, *code)) is not None:
            return place
    return None


def _parts_of(function: Any) -> Iterator[Any]:
    """The arguments of a partial, and the variables of a nested function."""
    if isinstance(function, partial):
        yield from function.args
    if isinstance(function, FunctionType):
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # empty
                continue
