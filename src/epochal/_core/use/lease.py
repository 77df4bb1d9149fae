"""Leases: in-flight use of a generation, known exactly and at no cost to a call.

The problem: an old version may be shut down only when no call is inside it and no code can call it
any more. Counting calls costs every call, and misses the code that kept a function.

The idea: CPython counts already. A `Lease` is a token whose life *is* the use. The exports that the
host calls *carry* it: an export is a new function object with the same code, whose `__dict__` holds
the lease. CPython's frames, generators and coroutines hold the function they run, so the lease
lives exactly as long as any code can call the function or is inside it, and the call costs what a
bare call costs. The runtime keeps only a weak reference. When the last strong reference goes, a
callback runs in the releasing thread and wakes the waiting drain: no counter on the hot path, no
lock, no poll.

The exports of a generation carry its lease: `carry` makes the copies. The plugin's own function is
not touched and carries nothing: the module refers to it, so a lease there would never end. A
callable that is not a Python function is held in a `LeasedCallable`; an instance of an exported
class, and an object that a kind opens (an index, a storage backend), is tied to the lease for its
own lifetime (`epochal._core.use.ties`). So is a generator or coroutine that a decorated function
returns: its code is that of a function inside the decorator, which carries nothing.

Leases miss one case: an object that an export returned and that calls back into the plugin later,
such as a nested function. The look at every thread and task before shutdown (`find_stragglers`)
finds it while it runs.

`drain_wakeup` has the ledger of the leases that are alive, and the wait for their end.
"""

from __future__ import annotations

import functools
import inspect
import sys
from contextlib import suppress
from types import CellType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.callables import NOT_RUN, callables_inside, callables_linked
from epochal._core.introspect.origins import unwrapped
from epochal._core.use.ties import can_tie, tie

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.use.drain_wakeup import Ledger

if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "epochal needs CPython with its global interpreter lock: it finds the uses of a plugin by "
        "exact reference counts, which this interpreter "
        f"({sys.implementation.name} {sys.version.split()[0]}) does not keep"
    )

LEASE: Final = "__epochal_lease__"
"""The key of the lease in a carrying function's `__dict__`."""


class Lease:
    """A token of the in-flight use of one generation: its life is the use.

    It ends when `release` is called or when nothing refers to it any more, whichever is first.
    Made by `PluginLifecycle.lease`; also a context manager.

    Attributes:
        key: its entry in the ledger that counts it.
        label: its purpose, for reports.
        life: dies with it; only it refers to that.
    """

    # Set by `Ledger.issue`, which alone makes leases: there is no constructor to call.
    _ledger: Ledger
    key: int
    label: str
    life: CodeType
    __slots__ = ("__weakref__", "_ledger", "key", "label", "life")

    def release(self) -> None:
        """End the use now. Idempotent."""
        self._ledger.discard(self)

    def note_instance(self) -> None:
        """Note that a host is given an instance of an exported class."""
        self._ledger.has_instances = True

    @property
    def released(self) -> bool:
        """Whether it has ended."""
        return not self._ledger.is_alive(self)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def __reduce__(self) -> Any:
        raise TypeError("a lease is in-flight use in this process; it cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<lease {self.label}{' (released)' if self.released else ''}>"


class RevocableLease:
    """A lease that the runtime can take back: a dependent's lease of a plugin that it requires.

    An export that the dependent handed on, to the host for example, still counts when the dependent
    is gone. But a leaking dependent must never keep the plugin that it requires from draining. So
    the exports that it was given carry a revocable lease, which the runtime empties if the
    dependent's memory did not come back.

    Attributes:
        lease: the lease, until it is taken back. The runtime writes it once; only the collector and
            diagnostics read it.
        dependent: the generation that was given it, `plugin#generation`.
        is_returned: whether the dependent was removed: then only exports that it handed on have it.
            Written and read like `lease`.
    """

    __slots__ = ("__weakref__", "dependent", "is_returned", "lease")

    def __init__(self, lease: Lease, dependent: str) -> None:
        self.lease: Lease | None = lease
        self.dependent: Final = dependent
        self.is_returned = False

    def release(self) -> None:
        """Take the lease back, even if this object is still referred to."""
        self.lease = None

    def note_instance(self) -> None:
        """`Lease.note_instance`."""
        if (lease := self.lease) is not None:
            lease.note_instance()

    def __reduce__(self) -> Any:
        raise TypeError("a borrowed export is in-flight use in this process; it cannot be pickled")


class LeasedCallable(functools.partial[Any]):
    """A callable that is not a Python function, together with the lease that it carries.

    The caller's stack holds the object that it calls, and with it the lease, until the call
    returns. A copy is the object itself, as a copy of a function is.
    """

    __slots__ = ("lease",)
    lease: Lease | RevocableLease

    def __copy__(self) -> LeasedCallable:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> LeasedCallable:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{getattr(self, '__qualname__', self.func)!r} is an export in use in this process; it "
            "cannot be pickled: pass its name, and look it up in the other process's epoch"
        )


def carry(target: Any, lease: Lease | RevocableLease) -> Any:
    """Return a callable for the host in place of `target`: the same, carrying the lease.

    * A Python function (generator, coroutine and asynchronous generator functions too) becomes a
      new function with the same code, globals, defaults, closure and metadata.
    * A bound method becomes a method over such a function, on the same object.
    * A class becomes a callable that ties each instance it makes to the lease.
    * Any other callable is held in a `functools.partial`; where its `__call__`, or the function
      inside a partial, is a Python function, that one carries too, since it may return a generator
      or coroutine that outlives the call.

    Args:
        target: the plugin's own callable; it is not changed.
        lease: the lease to carry.

    Raises:
        TypeError: `target` is not callable.
    """
    if isinstance(target, staticmethod):
        return carry(target.__func__, lease)
    if not callable(target):
        raise TypeError(f"{target!r} cannot carry a lease: it cannot be called")
    if _returns_what_carries_nothing(target):
        held = LeasedCallable(_call_and_tie, _carry(target, lease), lease)
    else:
        carried = _carry(target, lease)
        if not isinstance(carried, LeasedCallable):
            return carried
        held = carried
    held.lease = lease
    if isinstance(target, type) or held.func is _call_and_tie:
        held.__signature__ = _signature(target)  # type: ignore[attr-defined]
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        if (value := getattr(target, name, None)) is not None:
            setattr(held, name, value)
    return held


def _carry(target: Any, lease: Lease | RevocableLease) -> Any:
    if isinstance(target, FunctionType):
        return _carry_function(target, lease)
    if isinstance(target, MethodType) and isinstance(target.__func__, FunctionType):
        return MethodType(_carry_function(target.__func__, lease), target.__self__)
    return _hold(target, lease)


def _returns_what_carries_nothing(target: Any) -> bool:
    """Whether a generator or coroutine function is inside that does not become a carrier.

    It is inside a decorator that is an object, or does not set `__wrapped__`. Other callables are
    not slowed down by a look at their results.
    """
    current = unwrapped(target)
    if isinstance(current, type) or _suspends(current):
        return False
    if not isinstance(current, FunctionType):
        return any(map(_suspends, callables_inside(current)))
    wrapped = current.__dict__.get("__wrapped__")
    inside = callables_linked(current)
    if isinstance(wrapped, FunctionType) and _calls(current, wrapped):
        # Its calls go to the carrier of the wrapped function.
        if _returns_what_carries_nothing(wrapped):
            return True
        inside = (one for one in inside if one is not wrapped)
    return any(_suspends(one) for link in inside for one in callables_inside(link))


def _calls(function: FunctionType, wrapped: FunctionType) -> bool:
    return any(_cell_holds(cell, wrapped) for cell in function.__closure__ or ())


def _suspends(target: Any) -> bool:
    return isinstance(target, FunctionType) and bool(target.__code__.co_flags & _SUSPENDS)


_SUSPENDS: Final = (
    inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
)


def _call_and_tie(carried: Any, lease: Lease | RevocableLease, /, *args: Any, **kw: Any) -> Any:
    result = carried(*args, **kw)
    if isinstance(result, NOT_RUN):
        tie(result, lease)
    return result


def _hold(target: Any, lease: Lease | RevocableLease) -> LeasedCallable:
    if isinstance(target, type):
        return LeasedCallable(_open_instance, target, lease)
    if type(target) is functools.partial:
        inner = _carry_inner(target.func, lease)
        return LeasedCallable(inner, *target.args, **target.keywords)
    call = type(target).__call__
    if isinstance(call, FunctionType):
        return LeasedCallable(MethodType(_carry_function(call, lease), target))
    return LeasedCallable(target)


def _carry_inner(function: Any, lease: Lease | RevocableLease) -> Any:
    """The function of a partial, carrying; a library's class (`int`) as it is."""
    return (
        function if isinstance(function, type) and not can_tie(function) else carry(function, lease)
    )


def _signature(cls: type) -> inspect.Signature | None:
    """The signature of a class, for `inspect.signature` of its carrier; None if it has none."""
    for evaluated in (True, False):
        with suppress(Exception):  # annotations are foreign code
            return inspect.signature(cls, eval_str=evaluated)
    return None


def _carry_function(function: FunctionType, lease: Lease | RevocableLease) -> FunctionType:
    wrapped = function.__dict__.get("__wrapped__")
    carried = _carry_function(wrapped, lease) if isinstance(wrapped, FunctionType) else None
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        _closure(function, wrapped, carried),
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__
    copy.__module__ = function.__module__
    copy.__doc__ = function.__doc__
    copy.__annotations__ = function.__annotations__
    if sys.version_info >= (3, 12):
        copy.__type_params__ = function.__type_params__
    copy.__dict__.update(function.__dict__)
    if carried is not None:
        copy.__dict__["__wrapped__"] = carried
    copy.__dict__[LEASE] = lease
    return copy


def _closure(
    function: FunctionType, wrapped: object, carried: FunctionType | None
) -> tuple[CellType, ...] | None:
    """The function's closure, with the function that it wraps replaced by its carrier.

    A wrapper may return the wrapped function's generator or coroutine, or keep it in an object
    (`contextlib.contextmanager` does) and end: the inner function must carry the lease too. Other
    cells are shared, since two functions may write to one.
    """
    cells = function.__closure__
    if cells is None or carried is None:
        return cells
    return tuple(
        # A new cell: the old one may be shared with a function that must not carry.
        CellType(carried) if _cell_holds(cell, wrapped) else cell
        for cell in cells
    )


def _cell_holds(cell: CellType, value: object) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # an empty cell: its name is not bound yet
        return False


def _open_instance(
    cls: Callable[..., Any], lease: Lease | RevocableLease, /, *args: Any, **kw: Any
) -> Any:
    instance = cls(*args, **kw)
    # Not a member of an enumeration, which its class keeps, nor a library's object: a class whose
    # own instances cannot be tied is refused when it is exported.
    with suppress(TypeError):
        tie(instance, lease)
    lease.note_instance()
    return instance
