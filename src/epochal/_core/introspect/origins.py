"""The code that began a thread, an executor or a task.

A generation ends what its own code began, so the runtime must know what that is; the time at which
a thread began says nothing, since other threads start threads at the same time. CPython records no
starter of a thread: so `Thread.start` and the constructor of executors are observed (a wrapper that
notes and goes on), from the first generation on. What begins a thread is

1. plugin code that a change runs in the same thread (``init``, …), or
2. a thread that such code began, or
3. a line of the plugin's own code, in whatever thread it runs.

A module that is imported for the first time begins its threads for the process: they are nobody's.
A native thread that calls `Thread.start` itself has no Python caller: what it begins is nobody's.

A worker of an executor serves every caller of it: so it belongs to the code that made the executor,
not to the call that needed one more worker. The same goes for a library's thread that a task on the
host's event loop starts; only a line of the plugin's own code begins a thread there (3).

A task inherits its origin: `asyncio`, trio and gevent copy the context variables of the code that
begins a task, so ``begun_by`` goes from `init` to its tasks and to theirs.

Identity is that of `threading.Thread` objects. The system uses an ident again for the next thread.

Which thread reads, which writes: each thread notes what it starts, before it starts it. ``_begun``,
``_made`` and ``_origins`` change by single dict steps, also in weak-reference callbacks; any thread
reads. ``Origin._inside`` is written by the threads of changes.
"""

from __future__ import annotations

import _thread
import builtins
import threading
import weakref
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from itertools import chain
from sys import _getframe
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from epochal._core.introspect.frames import caller_of
from epochal._core.introspect.places import place_of
from epochal._core.sync.weak_registry import WeakRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

V = TypeVar("V")


class Origin:
    """One generation's code, as that which begins threads and tasks.

    Contexts of tasks refer to it for as long as they live, so it refers to nothing of the plugin.

    Args:
        owner: `plugin#generation`.
        globals_ids: a method that returns the `id` of each module dictionary of the code; held
            weakly.
    """

    __slots__ = ("__weakref__", "_globals_ids", "_inside", "owner")

    def __init__(self, owner: str, globals_ids: Callable[[], frozenset[int]]) -> None:
        self.owner: Final = owner
        self._globals_ids: Final = weakref.WeakMethod(globals_ids)
        # By `id`; a thread that never leaves (it was abandoned in the code) stays, and its object
        # with it, so that no other thread is taken for it.
        self._inside: Final[dict[int, threading.Thread]] = {}
        _origins.add(self)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a call into the code: what begins within the block, in this thread, is its own."""
        _observe()
        thread = threading.current_thread()
        token = begun_by.set(self)
        self._inside[id(thread)] = thread
        try:
            yield
        finally:
            self._inside.pop(id(thread), None)
            begun_by.reset(token)

    def adopt(self, thread: threading.Thread) -> None:
        """Take a thread for one that `init` began: it ends with the generation."""
        _begun.add(thread, Beginning(self, INIT, ""))

    def is_inside(self, thread: threading.Thread | None) -> bool:
        """Whether a change runs the code in this thread, or has abandoned it there."""
        return thread is not None and id(thread) in self._inside

    def is_own(self, thread: threading.Thread | None) -> bool:
        """Whether the generation ends this thread itself, or a change ends it."""
        if thread is None:
            return False
        return self.is_inside(thread) or self._has_begun(_begun.get(thread))

    def is_own_bare(self, bare: BareThread | None) -> bool:
        """The same for a thread that has no object (`_thread.start_new_thread`)."""
        return bare is not None and self._has_begun(bare.beginning)

    def _has_begun(self, beginning: Beginning | None) -> bool:
        return beginning is not None and beginning.origin is self and beginning.by != A_CALL

    def take_threads(self) -> dict[threading.Thread, Beginning]:
        """The running threads that the code began, once: a second call does not have them."""
        return {
            thread: beginning
            for thread in threading.enumerate()
            if (beginning := _begun.get(thread)) is not None
            and beginning.origin is self
            and not self.is_inside(thread)
            and _begun.drop(thread)
        }

    def made(self, executor: Executor) -> bool:
        """Whether the code made an executor."""
        return _made.get(executor) is self

    def has_globals(self, frame: FrameType) -> bool:
        """Whether a frame runs the generation's own code."""
        globals_ids = self._globals_ids()
        return globals_ids is not None and id(frame.f_globals) in globals_ids()


begun_by: Final[ContextVar[Origin | None]] = ContextVar("epochal_begun_by", default=None)
"""The generation whose code runs in a change, or began the current task."""

INIT: Final = "init()"
"""All code that a change runs, and what that began."""
A_CALL: Final = "a call"


class Beginning(NamedTuple):
    """How a thread began.

    Attributes:
        origin: the generation whose code began it.
        by: `INIT` or `A_CALL`.
        place: the line that began it; empty if that is not known.
    """

    origin: Origin
    by: str
    place: str

    def __str__(self) -> str:
        return f"begun by {self.by}" + (f" at {self.place}" if self.place else "")


class BareThread:
    """A thread without an object (`_thread.start_new_thread`).

    Attributes:
        beginning: how it began.
        function: the function that it runs.
        ident: its ident, from its first line on.
    """

    __slots__ = ("beginning", "function", "ident")

    def __init__(self, beginning: Beginning, function: Callable[..., object]) -> None:
        self.beginning: Final = beginning
        self.function: Final = function
        self.ident: int | None = None


class _Notes(Generic[V]):
    """A value for each of many objects that are held weakly, by identity.

    `WeakKeyDictionary` would call the foreign `__eq__` and `__hash__` of its keys.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: Final[dict[int, tuple[weakref.ref[Any], V]]] = {}

    def add(self, key: object, value: V) -> None:
        number, entries = id(key), self._entries

        def forget(ref: weakref.ref[Any]) -> None:
            # The `id` may be another object's by now.
            if (entry := entries.get(number)) is not None and entry[0] is ref:
                del entries[number]

        entries[number] = weakref.ref(key, forget), value

    def drop(self, key: object) -> bool:
        """Forget a value; returns whether there was one."""
        return self.get(key) is not None and self._entries.pop(id(key), None) is not None

    def get(self, key: object) -> V | None:
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None and entry[0]() is key else None


_origins: Final[WeakRegistry[Origin]] = WeakRegistry()
_begun: Final[_Notes[Beginning]] = _Notes()
_made: Final[_Notes[Origin]] = _Notes()
_bare: Final[dict[int, BareThread]] = {}
"""By `id`. The starter adds the entry before the start, the thread takes it out at its end."""
_observed: Final = threading.Lock()  # acquired by the first generation, never released


# --- observing -----------------------------------------------------------------------------------


def _observe() -> None:
    """Note from now on which code starts a thread or makes an executor. Idempotent."""
    if not _observed.acquire(blocking=False):
        return
    start = threading.Thread.start
    new: Any = Executor.__new__

    @wraps(start)
    def noted_start(self: threading.Thread) -> None:
        _note_thread(self, _getframe().f_back)
        start(self)

    @wraps(new)
    def noted_new(cls: type[Executor], /, *_args: object, **_kw: object) -> Executor:
        made: Executor = new(cls)
        if (beginning := _beginning(_getframe().f_back)) is not None:
            _made.add(made, beginning.origin)
        return made

    start_bare = _thread.start_new_thread

    @wraps(start_bare)
    def noted_start_bare(function: Any, /, *args: Any) -> int:
        if callable(function) and (beginning := _beginning(_getframe().f_back)) is not None:
            bare = BareThread(beginning, function)
            _bare[id(bare)] = bare
            try:
                return start_bare(wraps(function)(partial(_run_bare, bare)), *args)
            except BaseException:
                del _bare[id(bare)]
                raise
        return start_bare(function, *args)

    _thread.start_new_thread = noted_start_bare
    threading.Thread.start = noted_start  # type: ignore[method-assign]
    Executor.__new__ = noted_new  # type: ignore[method-assign,assignment]


def _run_bare(bare: BareThread, *args: Any, **kw: Any) -> None:
    """A bare thread from its first line to its last."""
    bare.ident = threading.get_ident()
    try:
        bare.function(*args, **kw)
    finally:
        del _bare[id(bare)]


def bare_threads() -> list[BareThread]:
    """The threads without an object that plugin code began and that have not ended."""
    return list(_bare.copy().values())


def _bare_here() -> Beginning | None:
    """How the current thread began, if plugin code began it without an object."""
    ident = threading.get_ident()
    return next((bare.beginning for bare in bare_threads() if bare.ident == ident), None)


def _note_thread(thread: threading.Thread, caller: FrameType | None) -> None:
    """Note how a thread begins, if plugin code begins it."""
    if (
        _begun.get(thread) is not None
        or _is_ours(thread)
        or (beginning := _beginning(caller)) is None
    ):
        return
    executor = executor_of(thread)
    if executor is None or beginning.origin.made(executor):
        _begun.add(thread, beginning)


def _beginning(caller: FrameType | None) -> Beginning | None:
    """The generation that begins what a call in this thread begins."""
    thread, marked = threading.current_thread(), begun_by.get()
    if marked is not None and marked.is_inside(thread):
        return _begun_beneath(marked, INIT, caller)
    own = _begun.get(thread) or _bare_here()
    if own is not None:
        return _begun_beneath(own.origin, own.by, caller)
    # Every module of a generation has builtins of its own: nearly all threads end the look here.
    if caller is None or caller.f_builtins is vars(builtins):
        return None
    for origin in _origins.live():
        if origin.has_globals(caller):
            return Beginning(origin, INIT if marked is origin else A_CALL, place_of(caller))
    return None


def _begun_beneath(origin: Origin, by: str, caller: FrameType | None) -> Beginning | None:
    """A beginning with the innermost line of the generation's code, or else the one that called.

    None while another module is imported beneath that line: its threads are that module's.
    """
    frame = caller
    while frame is not None:
        if frame.f_builtins is not vars(builtins) and origin.has_globals(frame):
            return Beginning(origin, by, place_of(frame))
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return None
        frame = caller_of(frame)
    return Beginning(origin, by, place_of(caller) if caller is not None else "")


def first_functions(thread: threading.Thread) -> Iterator[FunctionType]:
    """The functions that a thread calls first, free of methods and partials; none at its end."""
    # `_target` has no public name; a thread deletes it when its target has returned.
    for function in (type(thread).run, getattr(thread, "_target", None)):
        yield from plain_function(function)


def unwrapped(target: Any) -> Any:
    """The callable within methods and partials."""
    while isinstance(target, (partial, MethodType)):
        target = target.func if isinstance(target, partial) else target.__func__
    return target


def plain_function(function: object) -> Iterator[FunctionType]:
    """The Python function within methods and partials; none if there is none."""
    if isinstance(plain := unwrapped(function), FunctionType):
        yield plain


def executor_of(thread: threading.Thread) -> Executor | None:
    """The executor that a thread works for; None if it is no executor's."""
    for value in chain(getattr(thread, "_args", ()), list(vars(thread).values())):
        executor = value() if issubclass(type(value), weakref.ref) else value
        if issubclass(type(executor), Executor):  # a proxy's `__class__` may raise
            found: Executor = executor
            return found
    return None


def _is_ours(thread: threading.Thread) -> bool:
    """Whether a thread is one of this library's helpers, which serve every generation."""
    return any(
        str(function.__globals__.get("__name__")).startswith("epochal.")
        for function in first_functions(thread)
    )
