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
reload moves its state, calls of it wait at a *gate*: those that are inside end first, so that the
state has all that they did; those that come are let in once the new epoch is published, or once the
change went back. Only this service's callers wait, and only as long as the two methods take.

**Where calls go.** A state is in one place. So a call goes to the newest instance that the state
was moved to, also through an epoch that was captured before: an operation that counts on the old
instance after its counts have moved would count into nothing. This is the one thing that an
operation shares with others, as it would share a database; each call runs on one generation from
its beginning to its end. Once the plugin is removed, operations that began before go on with their
own generation's instance, and what they change goes with it.

A service without the two methods keeps nothing that matters: each generation has its own.

Who reads, who writes
---------------------

A `Gate` belongs to all the generations of one service. ``_inside``, ``_closing`` and ``_waiting``
are read and written under ``_lock`` (`is_closed` reads one reference), and no foreign code is
called under it. ``current`` is written by the change that has the turn, while the gate is closed or
before anybody knows the handle, and read by calls that are inside: so it does not change under a
call. It is weak, since whoever it names refers to the gate.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from epochal._core.carry import carry
from epochal._core.kind import Export, Handover, Kind, Opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.lease import Borrow, Lease

_STATE: Final = ("export_state", "import_state")


class _Visit:
    """One call that is inside a gate; `open` is cleared as it leaves."""

    __slots__ = ("gate", "open", "outer")

    def __init__(self, gate: Gate, outer: _Visit | None) -> None:
        self.gate = gate
        self.open = True
        self.outer = outer


_visit: Final[ContextVar[_Visit | None]] = ContextVar("epochal_service_call", default=None)
"""The innermost service call that the current code is in."""


class Gate:
    """Lets the calls of one service in, or makes them wait.

    A call that comes from inside another call of the same service is let in at once: the gate's
    closing waits for the outer one, which waits for it.
    """

    __slots__ = ("_closing", "_inside", "_lock", "_quiet", "_waiting", "current")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._inside = 0
        self._closing: object | None = None  # what `close` returned, while it is closed
        self._quiet: Final = threading.Event()
        self._waiting: list[Callable[[], object]] = []
        self.current: weakref.ref[_Side] | None = None

    def enter(self) -> _Visit:
        """Go in, in a thread; waits while the gate is closed."""
        opened = None
        while True:
            visit = self._try_enter(opened.set if opened is not None else None)
            if visit is not None:
                return visit
            if opened is None:
                opened = threading.Event()
            else:
                opened.wait()
                opened.clear()

    async def aenter(self) -> _Visit:
        """Go in, in an event loop; waits while the gate is closed."""
        while True:
            loop = asyncio.get_running_loop()
            opened = loop.create_future()
            visit = self._try_enter(functools.partial(_wake, loop, opened))
            if visit is not None:
                return visit
            await opened

    def leave(self, visit: _Visit) -> None:
        """Go out."""
        _visit.set(visit.outer)
        with self._lock:
            visit.open = False
            self._inside -= 1
            quiet = self._closing is not None and not self._inside
        if quiet:
            self._quiet.set()

    def close(self) -> object:
        """Let nobody in any more, and wait until those inside have left, or somebody opens it.

        Returns:
            What to ask `is_closed` with.
        """
        closing = object()
        with self._lock:
            self._closing = closing
            self._quiet.clear()
            quiet = not self._inside
        if not quiet:
            self._quiet.wait()
        return closing

    def is_closed(self, closing: object) -> bool:
        """Whether it is still closed by that very call of `close`."""
        return self._closing is closing

    def open(self) -> None:
        """Let everybody in."""
        with self._lock:
            self._closing = None
            waiting, self._waiting = self._waiting, []
        self._quiet.set()  # whoever closed it is not waited for any more
        for wake in waiting:
            wake()

    def _try_enter(self, wake: Callable[[], object] | None) -> _Visit | None:
        outer = _visit.get()
        with self._lock:
            if self._closing is not None and not self._is_inside(outer):
                if wake is not None:
                    self._waiting.append(wake)
                return None
            self._inside += 1
        visit = _Visit(self, outer)
        _visit.set(visit)
        return visit

    def _is_inside(self, visit: _Visit | None) -> bool:
        while visit is not None:
            if visit.gate is self and visit.open:
                return True
            visit = visit.outer
        return False


def _wake(loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
    def wake() -> None:
        if not opened.done():
            opened.set_result(None)

    try:
        loop.call_soon_threadsafe(wake)
    except RuntimeError:
        return  # the loop was closed, and the task that waited is gone with it


class Served:
    """What is opened for one generation: the plugin's object, and the gate of its service."""

    __slots__ = ("gate", "target")

    def __init__(self, target: Any) -> None:
        self.target: Final = target
        # Replaced once, by a hand-over, before the new epoch is published.
        self.gate = Gate()


class _Side:
    """One generation's end of a service: its object, and the lease that calls of it carry."""

    __slots__ = ("__weakref__", "_methods", "lease", "served")

    def __init__(self, served: Served, lease: Lease | Borrow) -> None:
        self.served: Final = served
        self.lease: Final = lease
        self._methods: Final[dict[str, Any]] = {}

    def method(self, name: str) -> Any:
        """A method of this very generation's object, carrying its lease, past the gate."""
        try:
            return self._methods[name]
        except KeyError:
            method = carry(getattr(self.served.target, name), self.lease)
            return self._methods.setdefault(name, method)

    def newest(self) -> _Side:
        """Where a call goes that is inside the gate."""
        current = self.served.gate.current
        side = current() if current is not None else None
        return side if side is not None else self


class ServiceHandle:
    """What an epoch offers of a service: its public methods, each of which waits at the gate.

    An `async def` method waits without blocking its event loop. Other attributes are not offered:
    reading one would pass the gate.
    """

    def __init__(self, side: _Side) -> None:
        self._side: Final = side

    def __getattr__(self, name: str) -> Any:
        # Only for what is not in `__dict__`, where methods that were made before are found.
        service = type(self._side.served.target)
        methods = _methods(service)
        if name not in methods:
            raise AttributeError(
                f"service {service.__name__!r} has no method {name!r}; it has: "
                f"{', '.join(sorted(methods)) or 'none'}"
            )
        function = getattr(service, name)
        gated = _gated_async if inspect.iscoroutinefunction(function) else _gated
        # It refers to the side, not to the handle that it is kept in: a cycle would hold the lease.
        method = self.__dict__[name] = functools.update_wrapper(gated(self._side, name), function)
        return method

    def __repr__(self) -> str:
        return f"<service {type(self._side.served.target).__name__}>"


def _gated(side: _Side, name: str) -> Callable[..., Any]:
    def call(*args: Any, **kw: Any) -> Any:
        gate = side.served.gate
        visit = gate.enter()
        try:
            return side.newest().method(name)(*args, **kw)
        finally:
            gate.leave(visit)

    return call


def _gated_async(side: _Side, name: str) -> Callable[..., Any]:
    async def call(*args: Any, **kw: Any) -> Any:
        gate = side.served.gate
        visit = await gate.aenter()
        try:
            return await side.newest().method(name)(*args, **kw)
        finally:
            gate.leave(visit)

    return call


class _StateMove:
    """Moves a service's state while its gate is closed."""

    __slots__ = ("_from_version", "_gate", "_new", "_old")

    def __init__(self, old: Opened, new: Opened) -> None:
        self._old: Final[Served] = old.instance
        self._new: Final[Served] = new.instance
        self._from_version: Final = old.version
        self._gate: Final = self._old.gate

    def run(self) -> None:
        """Close the gate, export, import. Ends early if it was given up meanwhile."""
        closing = self._gate.close()
        if not self._gate.is_closed(closing):
            return
        self._new.gate = self._gate
        state = self._old.target.export_state()
        if self._gate.is_closed(closing):
            self._new.target.import_state(state, self._from_version)

    def commit(self, offered: Any) -> None:
        """Calls go to the new object from now on."""
        self._gate.current = weakref.ref(offered._side)  # noqa: SLF001  this kind's own handle
        self._gate.open()

    def roll_back(self) -> None:
        """Calls go on with the old one."""
        self._gate.open()


class Service(Kind[Any]):
    """The kind of a stateful object; see the module."""

    __slots__ = ()

    def validate(self, export: Export) -> None:
        """Ask for a class that is made without arguments, and both or none of the two methods."""
        target = export.target
        if not isinstance(target, type):
            raise TypeError(f"expected a class, not {target!r}")
        try:
            inspect.signature(target).bind()
        except TypeError as error:
            raise TypeError(f"it is made without arguments, and {error}") from None
        has = [name for name in _STATE if callable(getattr(target, name, None))]
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
            was, is_now = (
                inspect.iscoroutinefunction(getattr(export.target, name)) for export in (old, new)
            )
            if was != is_now:
                words = ("a plain method", "async def")
                raise ValueError(f"{name}() was {words[was]} and became {words[is_now]}")

    def open(self, export: Export) -> Served:
        """Make the object."""
        return Served(export.target())

    def close(self, instance: Served) -> None:
        """Call its `close()`, if it has one."""
        close = getattr(instance.target, "close", None)
        if callable(close):
            close()

    def offer(self, instance: Served, lease: Lease | Borrow) -> ServiceHandle:
        """A handle whose methods wait at the gate."""
        side = _Side(instance, lease)
        if instance.gate.current is None:
            instance.gate.current = weakref.ref(side)
        return ServiceHandle(side)

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """Move the state, if there is any."""
        return _StateMove(old, new) if _keeps_state(old.export.target) else None


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


service: Final = Service("service", "a stateful object, whose state is handed over on reload")
