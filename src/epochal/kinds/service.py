"""Services: stateful objects, which hand their state over when their plugin is reloaded.

::

    @service
    class limiter:
        def __init__(self): self.counts = Counter()
        def hit(self, key: str) -> int: ...
        def export_state(self): return self.counts
        def import_state(self, state, from_version): self.counts = state

    epoch[service]["quota.limiter"].hit("alice")

The class is made once for each generation, without arguments, after the plugin's `init`. While a
reload moves its state, calls of it wait at a *gate* (`epochal.kinds.toolkit.gated_state`): calls
that are inside end first, so that the state has all their effects; later calls are let in once the
new epoch is published, or the change is rolled back. Only callers of this service wait, and only as
long as the two methods take.

**Where calls go.** A state is in one place. So a call goes to the newest instance that the state
was moved to, also through an older epoch: if an operation went on counting on the old instance
after its counts have moved, those counts would be lost. Operations share this state as they would
share a database; each call runs on one generation from its beginning to its end. Once the plugin is
removed, operations that began before go on with their own generation's instance, and their changes
are lost with it.

A call that returns an awaitable or a future (a task, an object with `__await__`, a thread pool's
future) is inside until that is done; one that returns a generator, or a context manager made of
one, raises `TypeError`. A task that a method begins and does not return goes on outside the gate.

A service without the two methods has no state worth moving: each generation has its own.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Handover, Kind, Opened
from epochal._core.introspect.callables import NOT_RUN
from epochal.kinds.toolkit.call_checks import check_replacement, is_generator
from epochal.kinds.toolkit.class_checks import check_class, close_object
from epochal.kinds.toolkit.gated_state import Admission, GatedState, GatedTransfer, StateRef

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from epochal._core.use.lease import Lease, RevocableLease
    from epochal.kinds.marker_types import ClassMarker

_STATE: Final = {"export_state": (), "import_state": ("state", "from_version")}

_TOO_LONG: Final = (
    "would go on after its call has left the gate; "
    "return a list, or export a function that asks for a part at a time"
)


class ServiceHandle:
    """The handle that an epoch offers for a service: its public methods, behind the gate.

    An `async def` method waits without blocking its event loop. Other attributes are not offered,
    since reading one would bypass the gate.
    """

    def __init__(self, ref: StateRef) -> None:
        self._ref: Final = ref

    def __getattr__(self, name: str) -> Any:
        # Called only for a name that is not in `__dict__`, which caches the methods made here.
        service = type(self._ref.state.target)
        methods = _methods(service)
        if name not in methods:
            raise AttributeError(
                f"service {service.__name__!r} has no method {name!r}; it has: "
                f"{', '.join(sorted(methods)) or 'none'}"
            )
        function = getattr(service, name)
        gated = _gated_async if inspect.iscoroutinefunction(function) else _gated
        # The method refers to the `StateRef`, not to this handle: the handle refers to the method,
        # and a cycle would keep the lease alive until the collector runs.
        method = self.__dict__[name] = functools.update_wrapper(gated(self._ref, name), function)
        return method

    def __repr__(self) -> str:
        return f"<service {type(self._ref.state.target).__name__}>"


def _gated(ref: StateRef, name: str) -> Callable[..., Any]:
    enter_later: Callable[..., Any] | None = None

    def call(*args: Any, **kw: Any) -> Any:
        nonlocal enter_later
        gate = ref.state.gate
        if enter_later is not None and gate.is_closing and _running_loop() is not None:
            return enter_later(ref, name, args, kw)
        admission = gate.enter()
        goes_on = False
        try:
            result = ref.current().method(name)(*args, **kw)
            if _is_unfinished(result):
                enter_later = _later_way(result)
                result = _stay_inside(name, result, admission)
                goes_on = True
            return result
        finally:
            if not goes_on:
                gate.leave(admission)

    return call


def _gated_async(ref: StateRef, name: str) -> Callable[..., Any]:
    async def call(*args: Any, **kw: Any) -> Any:
        gate = ref.state.gate
        admission = await gate.aenter()
        goes_on = False
        try:
            result = await ref.current().method(name)(*args, **kw)
            if _is_unfinished(result):
                result = _stay_inside(name, result, admission)
                goes_on = True
            return result
        finally:
            if not goes_on:
                gate.leave(admission)

    return call


async def _enter_later(ref: StateRef, name: str, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """Call a plain method that is known to return an awaitable, and await it inside the gate.

    A plain call cannot wait at a closing gate without blocking its event loop, and so the calls
    inside. If it were let in instead, clients that call again and again would keep the gate open.
    """
    gate = ref.state.gate
    admission = await gate.aenter()
    try:
        result = ref.current().method(name)(*args, **kw)
        return await result if _is_awaitable(result) else result
    finally:
        gate.leave(admission)


def _later_way(result: object) -> Callable[..., Any] | None:
    """How a later call of the method waits at a closing gate: as a task or as a coroutine."""
    if asyncio.isfuture(result):
        return lambda *call: asyncio.ensure_future(_enter_later(*call))
    return _enter_later if _is_awaitable(result) else None


def _is_unfinished(result: object) -> bool:
    """Whether a call returned something that goes on, or has not begun."""
    return isinstance(result, _UNFINISHED) or _is_awaitable(result)


def _is_awaitable(result: object) -> bool:
    return hasattr(type(result), "__await__")  # an object's own attribute does not count


def _running_loop() -> asyncio.AbstractEventLoop | None:
    return asyncio._get_running_loop()  # noqa: SLF001  None in another library's loop


_UNFINISHED: Final = (Future, *NOT_RUN)


def _stay_inside(name: str, result: Any, admission: Admission) -> Any:
    """Keep a call inside the gate until its awaitable or future is done.

    Raises:
        TypeError: the result is a generator, whose end the gate cannot see.
    """
    admission.gate.step_out(admission)
    if isinstance(result, Future) or asyncio.isfuture(result):
        if asyncio.isfuture(result):
            # Before its loop goes on: a call that would block that loop must be let in.
            admission.loop = result.get_loop()
        # The future holds the admission until it is done, or is dropped.
        result.add_done_callback(lambda _: admission.gate.leave(admission))
        return result
    if _is_awaitable(result):
        admission.loop = _running_loop()
        return _finish_inside(result, admission)
    raise TypeError(f"{name}() returned {result!r}, which {_TOO_LONG}")


async def _finish_inside(result: Awaitable[Any], admission: Admission) -> Any:
    admission.gate.step_in(admission)
    try:
        return await result
    finally:
        admission.gate.leave(admission)


class ServiceKind(Kind[Any]):
    """The kind of services; its one instance is `epochal.kinds.service`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: ClassMarker  # type: ignore[assignment]  # overloads

    def validate(self, export: Export) -> None:
        """Require a class that is made without arguments, with both state methods or none.

        Raises:
            TypeError: the class does not meet this; the message names every fault.
        """
        target = export.target
        has = [name for name in _STATE if callable(getattr(target, name, None))]
        check_class(target, {name: _STATE[name] for name in has})
        if len(has) == 1:
            raise TypeError(f"it has {has[0]}() alone; state needs both {' and '.join(_STATE)}")
        for name in _methods(target):
            if is_generator(getattr(target, name)):
                raise TypeError(f"{name}() is a generator: it {_TOO_LONG}")

    def compare(self, old: Export, new: Export) -> None:
        """Refuse a version that would lose the state, or methods that callers may be using.

        Raises:
            ValueError: the difference, spelled out.
        """
        if _has_state(old.target) and not _has_state(new.target):
            raise ValueError("it has no import_state(), so the old one's state would be lost")
        before, after = _methods(old.target), _methods(new.target)
        if removed := sorted(before - after):
            raise ValueError(f"methods that callers may be using are gone: {', '.join(removed)}")
        for name in sorted(before):
            check_replacement(name, getattr(old.target, name), getattr(new.target, name))

    def check_removed(self, old: Export) -> str | None:
        """Accept a version without the service, and report that its state is dropped."""
        return "its state" if _has_state(old.target) else None

    def open(self, export: Export) -> GatedState:
        """Make the object."""
        return GatedState(export.target())

    def close(self, instance: GatedState) -> None:
        """Call the object's `close()`, if it has one."""
        close_object(instance.target)

    def wrap(self, instance: GatedState, lease: Lease | RevocableLease) -> ServiceHandle:
        """Return a handle with methods that wait at the gate."""
        return ServiceHandle(StateRef(instance, lease))

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """Return the move of the state; None for a service without state."""
        if not _has_state(old.export.target):
            return None
        before, after, version = old.instance, new.instance, old.version
        return GatedTransfer(
            before,
            after,
            before.target.export_state,
            lambda state: after.target.import_state(state, version),
        )


def _has_state(service: type) -> bool:
    return all(callable(getattr(service, name, None)) for name in _STATE)


def _methods(service: type) -> frozenset[str]:
    """Return the names of the methods that callers may use."""
    reserved = {*_STATE, "close"}
    return frozenset(
        name
        for name in dir(service)
        if not name.startswith("_") and name not in reserved and callable(getattr(service, name))
    )


service: Final = ServiceKind("service", "an object with state that is handed over on reload")
