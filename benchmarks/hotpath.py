"""The cost of a call in each of the usual ways, and in those of Epochal, measured by turns."""

from __future__ import annotations

import contextvars
import statistics
import threading
import timeit
from typing import TYPE_CHECKING, Any

import pluggy
from readerwriterlock.rwlock import RWLockFair
from stevedore.driver import DriverManager
from stevedore.extension import Extension

from benchmarks.figure import Figure, sized
from benchmarks.plugin import host
from epochal.kinds import scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOPS = sized(50_000, 5_000)
_REPEATS = sized(25, 5)


def measure() -> Iterator[Figure]:
    """Yield the nanoseconds a call for each way, the bare call first."""
    with host() as (rt, _):
        names = _others(rt.epoch.export(scalar, "geo.double").target)
        names |= {"rt": rt, "scalar": scalar, "captured": rt.epoch[scalar]["geo.double"]}
        timers = {name: timeit.Timer(code, globals=names) for name, code in _WAYS.items()}
        taken = _by_turns(timers)
        names.clear()
    for name, values in taken.items():
        spread = (min(values), max(values))
        yield Figure(f"call: {name}", statistics.median(values), "ns", None, spread)


_WAYS = {
    "bare function": "f(1.5)",
    "captured export (ours)": "captured(1.5)",
    "dictionary": 'd["geo.double"](1.5)',
    'epoch[kind]["name"] (ours)': 'rt.epoch[scalar]["geo.double"](1.5)',
    "context variable": "variable.get()(1.5)",
    "registry under an RLock": 'with rlock:\n    d["geo.double"](1.5)',
    "rt.operation() (ours)": 'with rt.operation("x") as e:\n    e[scalar]["geo.double"](1.5)',
    "smallest context manager": "with pin:\n    f(1.5)",
    "stevedore driver, called": "driver.driver(1.5)",
    "stevedore driver, invoke_on_load": "driver(call, 1.5)",
    "pluggy hook": "hook.double(x=1.5)",
    "readers-writer lock": 'with rwlock.gen_rlock():\n    d["geo.double"](1.5)',
}


def _others(function: Any) -> dict[str, Any]:
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("plugin")
    variable.set(function)
    extension = Extension("geo", None, function, function)
    driver = DriverManager.make_test_instance(extension)
    return {
        "f": function,
        "d": {f"plugin{n}.f": function for n in range(50)} | {"geo.double": function},
        "variable": variable,
        "rlock": threading.RLock(),
        "rwlock": RWLockFair(),
        "pin": _Pin(),
        "driver": driver,
        "call": lambda ext, x: ext.obj(x),
        "hook": _pluggy_hook(function),
    }


class _Pin:
    __slots__ = ()

    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


def _pluggy_hook(function: Any) -> Any:
    spec, impl = pluggy.HookspecMarker("bench"), pluggy.HookimplMarker("bench")

    class Specs:
        @spec(firstresult=True)
        def double(self, x: float) -> float: ...  # type: ignore[empty-body]

    class Plugin:
        @impl
        def double(self, x: float) -> float:
            return function(x)  # type: ignore[no-any-return]

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Specs)
    manager.register(Plugin())
    return manager.hook


def _by_turns(timers: dict[str, timeit.Timer]) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in timers}
    for turn in range(_REPEATS + 1):
        for name, timer in timers.items():
            ns = timer.timeit(_LOOPS) / _LOOPS * 1e9
            if turn:  # the first round warms up
                taken[name].append(ns)
    return taken
