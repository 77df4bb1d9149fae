"""One instance of a component, and calls into it.

An instance is used by one thread at a time; the pool sees to that. A component cannot be entered
again once a call of it trapped or was stopped, so its caller throws it away.

Threads: `_here` has the call that runs in a thread, for the functions of the host that it calls.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import wasmtime
from wasmtime.component import Variant

from epochal.loaders.wasm.calls import RunningCall
from epochal.loaders.wasm.component_world import LIFE_FUNCTIONS, wit_name
from epochal.loaders.wasm.guest_store import GuestStore, stopped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wasmtime.component import Component, Func, Linker

    from epochal.loaders.wasm.limits import GuestLimits

_MAX_INSTANCES: Final = 256
_MAX_MESSAGE: Final = 1_000

_here: Final = threading.local()


class GuestRefusedError(Exception):
    """A function returned an error; the message is the component's."""


class ComponentInstance(GuestStore):
    """An instance of a component; runs its start functions.

    Args:
        component: the compiled code.
        linker: has all that it imports.
        scalars: the declared functions.
        limits: what it may use.

    Raises:
        CallStoppedError: it exceeds the limits, or a start function trapped or did not return in
            time.

    Attributes:
        is_broken: whether it cannot be entered any more.
    """

    def __init__(
        self, component: Component, linker: Linker, scalars: Iterable[str], limits: GuestLimits
    ) -> None:
        super().__init__(limits, instances=_MAX_INSTANCES)
        # Of the WASI that was granted: no files, no network, no environment, no arguments.
        self._store.set_wasi(wasmtime.WasiConfig())
        with self._running(limits.call_timeout):
            instance = linker.instantiate(self._store, component)
        self._functions: Final[dict[str, Func]] = {}
        for name in scalars:
            function = instance.get_func(self._store, wit_name(name))
            assert function is not None  # checked with the component
            self._functions[name] = function
        for interface, names in LIFE_FUNCTIONS.items():
            at = instance.get_export_index(self._store, interface)
            for name in names if at is not None else ():
                index = instance.get_export_index(self._store, name, at)
                assert index is not None  # checked with the component
                function = instance.get_func(self._store, index)
                assert function is not None  # checked with the component
                self._functions[f"{interface}.{name}"] = function

    def close(self) -> None:
        """Give all of it back. Not while it is called."""
        self._functions.clear()
        super().close()

    def has(self, function: str) -> bool:
        """Whether it exports a function of the plugin's life."""
        return function in self._functions

    def call(self, name: str, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """Call a function with each row; returns the results.

        The interpreter's lock is released while the component runs.

        Raises:
            CallStoppedError: it trapped, or had not returned in time for all of the rows.
            GuestRefusedError: it returned an error.
        """
        function, store = self._functions[name], self._store
        result = function.type(store).result
        may_fail = type(result).__name__ == "ResultType"
        results = []
        with self._running(self._limits.call_timeout):
            for row in rows:
                value = function(store, *row)
                function.post_return(store)
                results.append(_ok(value) if may_fail else value)
        return results

    @contextmanager
    def _running(self, timeout: float) -> Iterator[None]:
        before = getattr(_here, "call", None)
        try:
            with RunningCall(self.key, timeout) as call:
                _here.call = call
                self._stop_late(call)
                try:
                    yield
                except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                    raise stopped(error, call) from None
        except GuestRefusedError:
            raise
        except BaseException:
            self.is_broken = True  # somewhere within a call
            raise
        finally:
            _here.call = before


def time_left() -> float:
    """The seconds that are left of the call that runs in this thread."""
    call: RunningCall | None = getattr(_here, "call", None)
    return 0.0 if call is None else call.deadline - monotonic()


def _ok(value: Any) -> Any:
    """The value of a `result<…, string>`, of which the binding tags the ambiguous ones."""
    if isinstance(value, Variant):
        if value.tag == "ok":
            return value.payload
        value = value.payload
    if isinstance(value, str):
        raise GuestRefusedError(value[:_MAX_MESSAGE])
    return value
