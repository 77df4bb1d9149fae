"""Services: objects that keep something, and hand it over when their plugin is reloaded.

::

    @service
    class limiter:
        def __init__(self): self.counts = Counter()
        def hit(self, key: str) -> int: ...
        def export_state(self): return self.counts
        def import_state(self, state, from_version): self.counts = state

    epoch[service]["quota.limiter"].hit("alice")

The class is made once for each generation, without arguments, after the plugin's `init`. While a
reload moves its state, calls of it wait at a *gate* (`epochal.kinds.toolkit.gated_state`): those
that are inside end first, so that the state has all that they did; those that come are let in once
the new epoch is published, or once the change went back. Only this service's callers wait, and only
as long as the two methods take.

**Where calls go.** A state is in one place. So a call goes to the newest instance that the state
was moved to, also through an epoch that was captured before: an operation that counts on the old
instance after its counts have moved would count into nothing. This is the one thing that an
operation shares with others, as it would share a database; each call runs on one generation from
its beginning to its end. Once the plugin is removed, operations that began before go on with their
own generation's instance, and what they change goes with it.

A service without the two methods keeps nothing that matters: each generation has its own.
"""

from __future__ import annotations

import functools
import inspect
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Handover, Kind, Opened
from epochal.kinds.toolkit.class_checks import check_class, close_object
from epochal.kinds.toolkit.gated_state import Admission, GatedState, GatedTransfer, StateRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal._core.use.lease import Lease, RevocableLease

_STATE: Final = {"export_state": (), "import_state": ("state", "from_version")}


class ServiceHandle:
    """What an epoch offers of a service: its public methods, each of which waits at the gate.

    An `async def` method waits without blocking its event loop. Other attributes are not offered:
    reading one would pass the gate.
    """

    def __init__(self, side: StateRef) -> None:
        self._ref: Final = side

    def __getattr__(self, name: str) -> Any:
        # Only for what is not in `__dict__`, where methods that were made before are found.
        service = type(self._ref.state.target)
        methods = _methods(service)
        if name not in methods:
            raise AttributeError(
                f"service {service.__name__!r} has no method {name!r}; it has: "
                f"{', '.join(sorted(methods)) or 'none'}"
            )
        function = getattr(service, name)
        gated = _gated_async if inspect.iscoroutinefunction(function) else _gated
        # It refers to the side, not to the handle that it is kept in: a cycle would hold the lease.
        method = self.__dict__[name] = functools.update_wrapper(gated(self._ref, name), function)
        return method

    def __repr__(self) -> str:
        return f"<service {type(self._ref.state.target).__name__}>"


def _gated(side: StateRef, name: str) -> Callable[..., Any]:
    def call(*args: Any, **kw: Any) -> Any:
        gate = side.state.gate
        visit = gate.enter()
        goes_on = False
        try:
            result = side.current().method(name)(*args, **kw)
            goes_on = isinstance(result, _GOING_ON)
            return _going_on(name, result, visit) if goes_on else result
        finally:
            if not goes_on:
                gate.leave(visit)

    return call


_GOING_ON: Final = (CoroutineType, GeneratorType, AsyncGeneratorType)
"""What a method that is wrapped by another may return, although its own code has not run yet."""


def _going_on(name: str, result: Any, visit: Admission) -> Any:
    """What a plain method returned that goes on after it: inside of the gate until its end."""
    if isinstance(result, CoroutineType):
        return _finished(result, visit)
    visit.gate.leave(visit)
    raise TypeError(
        f"{name}() returned {result!r}, which would go on after its call has left the gate; "
        "return a list, or export a function that asks for a part at a time"
    )


async def _finished(result: CoroutineType[Any, Any, Any], visit: Admission) -> Any:
    try:
        return await result
    finally:
        visit.gate.leave(visit)


def _gated_async(side: StateRef, name: str) -> Callable[..., Any]:
    async def call(*args: Any, **kw: Any) -> Any:
        gate = side.state.gate
        visit = await gate.aenter()
        try:
            return await side.current().method(name)(*args, **kw)
        finally:
            gate.leave(visit)

    return call


class ServiceKind(Kind[Any]):
    """The kind of a stateful object; see the module."""

    __slots__ = ()

    def validate(self, export: Export) -> None:
        """Ask for a class that is made without arguments, and both or none of the two methods."""
        target = export.target
        has = [name for name in _STATE if callable(getattr(target, name, None))]
        check_class(target, {name: _STATE[name] for name in has})
        if len(has) == 1:
            raise TypeError(f"it has {has[0]}() alone; state needs both {' and '.join(_STATE)}")
        for name in _methods(target):
            _check_method(target, name)

    def compare(self, old: Export, new: Export) -> None:
        """Refuse a version that would lose the state, or methods that callers may be using."""
        if _keeps_state(old.target) and not _keeps_state(new.target):
            raise ValueError("it has no import_state(), so what the old one keeps would be lost")
        before, after = _methods(old.target), _methods(new.target)
        if gone := sorted(before - after):
            raise ValueError(f"methods that callers may be using are gone: {', '.join(gone)}")
        for name in sorted(before):
            _compare_method(name, getattr(old.target, name), getattr(new.target, name))

    def check_removed(self, old: Export) -> str | None:
        """Have it told that nobody takes the state over, if there is any."""
        return "what it keeps" if _keeps_state(old.target) else None

    def open(self, export: Export) -> GatedState:
        """Make the object."""
        return GatedState(export.target())

    def close(self, instance: GatedState) -> None:
        """Call its `close()`, if it has one."""
        close_object(instance.target)

    def wrap(self, instance: GatedState, lease: Lease | RevocableLease) -> ServiceHandle:
        """A handle whose methods wait at the gate."""
        return ServiceHandle(StateRef(instance, lease))

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """Move the state, if there is any."""
        if not _keeps_state(old.export.target):
            return None
        before, after, version = old.instance, new.instance, old.version
        return GatedTransfer(
            before,
            after,
            before.target.export_state,
            lambda state: after.target.import_state(state, version),
        )


def _keeps_state(service: type) -> bool:
    return all(callable(getattr(service, name, None)) for name in _STATE)


def _methods(service: type) -> frozenset[str]:
    """The names of the methods that callers may use."""
    kept = {*_STATE, "close"}
    return frozenset(
        name
        for name in dir(service)
        if not name.startswith("_") and name not in kept and callable(getattr(service, name))
    )


def _check_method(service: type, name: str) -> None:
    method = getattr(service, name)
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(
            f"{name}() is a generator: it would go on after its call has left the gate; "
            "return a list, or export a function that asks for a part at a time"
        )


def _compare_method(name: str, old: Any, new: Any) -> None:
    """Refuse a method that callers of the old one could not call: they go where the state is."""
    was, is_now = inspect.iscoroutinefunction(old), inspect.iscoroutinefunction(new)
    if was != is_now:
        words = ("a plain method", "async def")
        raise ValueError(f"{name}() was {words[was]} and became {words[is_now]}")
    before, after = inspect.signature(old), inspect.signature(new)
    for args, kw in _ways_to_call(before):
        try:
            after.bind(*args, **kw)
        except TypeError as error:
            raise ValueError(
                f"{name}{before} became {name}{after}, which callers may not be ready for: {error}"
            ) from None


def _ways_to_call(signature: inspect.Signature) -> Iterator[tuple[list[None], dict[str, None]]]:
    """Arguments that a function takes: the least and all of them, by position and by name."""
    for every in (False, True):
        wanted = [one for one in signature.parameters.values() if every or one.default is one.empty]
        placed = [one for one in wanted if one.kind in (one.POSITIONAL_ONLY, _EITHER)]
        named = {one.name: None for one in wanted if one.kind is one.KEYWORD_ONLY}
        yield [None for _ in placed], named
        only = [None for one in placed if one.kind is one.POSITIONAL_ONLY]
        yield only, named | {one.name: None for one in placed if one.kind is _EITHER}


_EITHER: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD

service: Final = ServiceKind("service", "a stateful object, whose state is handed over on reload")
