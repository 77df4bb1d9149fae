"""One instance of a module: its memory, and calls into it.

An instance is used by one thread at a time; `pool` sees to that. A function's type is checked once,
when it is looked up.

The host's room in the guest's memory is memory that the host itself adds to it (`memory.grow`), so
a guest needs no allocator, and nothing of its own lies there. It is kept from call to call.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import wasmtime

from epochal.loaders.wasm.binding import GuestFunction, MemoryPlace, export_of
from epochal.loaders.wasm.calls import RunningCall
from epochal.loaders.wasm.guest_store import GuestStore, stopped

if TYPE_CHECKING:
    from epochal.loaders.wasm.limits import GuestLimits

_PAGE: Final = 65536
_PARAMETERS: Final = 2
_I32: Final = "i32"
_FUNCTION: Final = "(i32, i32) -> (i32)"


class Instance(GuestStore):
    """An instance of a module; runs the module's start function.

    Args:
        module: the compiled code, which has no imports.
        limits: what it may use.

    Raises:
        CallStoppedError: its start function trapped, or did not return in time.
        wasmtime.WasmtimeError: it cannot be instantiated within the limits.

    Attributes:
        memory: returns where the guest's memory is in this process now, and its size.
        is_broken: whether nothing is known of its memory any more; its caller sets it.
    """

    __slots__ = ("_arena", "_functions", "_instance", "_memory", "_room", "memory")

    def __init__(self, module: wasmtime.Module, limits: GuestLimits) -> None:
        super().__init__(limits, instances=1)
        self._functions: Final[dict[str, GuestFunction]] = {}
        self._arena = self._room = 0
        with RunningCall(self.key, limits.call_timeout) as call:
            try:
                self._instance: Final = wasmtime.Instance(self._store, module, [])
            except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                if isinstance(error, wasmtime.Trap) or call.reason:
                    raise stopped(error, call) from None
                raise
        memory = export_of(self._store, self._instance, "memory")
        assert isinstance(memory, wasmtime.Memory)  # checked with the module
        self._memory: Final = memory
        self.memory: Final = MemoryPlace(self._store, memory)

    # --- functions -----------------------------------------------------------------------------

    def look_up(self, name: str) -> str:
        """Look a function up, to be called by its name; returns what is wrong with it, or nothing.

        It takes two addresses and returns a number.
        """
        found = export_of(self._store, self._instance, name)
        if found is None:
            return "is missing"
        if not isinstance(found, wasmtime.Func):
            return f"is a {type(found).__name__.lower()}, not a function"
        kind = found.type(self._store)
        parameters, results = [*map(str, kind.params)], [*map(str, kind.results)]
        if parameters != [_I32] * _PARAMETERS or results != [_I32]:
            shown = f"({', '.join(parameters)}) -> ({', '.join(results)})"
            return f"has the type {shown}; expected {_FUNCTION}"
        self._functions[name] = GuestFunction(self._store, found)
        return ""

    def call(self, name: str, arguments_at: int, results_at: int, timeout: float) -> int:
        """Call a function that was looked up; returns its number.

        The interpreter's lock is released meanwhile.

        Raises:
            CallStoppedError: it trapped, or did not return in time.
        """
        function = self._functions[name]
        with RunningCall(self.key, timeout) as call:
            self._stop_late(call)
            try:
                return function.call(arguments_at, results_at)
            except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                raise stopped(error, call) from None

    # --- memory --------------------------------------------------------------------------------

    def read(self, at: int, size: int) -> bytes:
        """Bytes at an address that is known to be inside of the memory."""
        return ctypes.string_at(self.memory()[0] + at, size)

    def reserve(self, size: int) -> int:
        """The address of the host's room, which has at least so many bytes from now on.

        Raises:
            MemoryError: the memory does not grow so far.
        """
        if size > self._room:
            # Half as much again, so that batches that grow do not each leave a room behind.
            pages = -(-max(size, self._room + self._room // 2) // _PAGE)
            try:
                start = self._memory.grow(self._store, pages) * _PAGE
            except wasmtime.WasmtimeError:
                raise MemoryError(size) from None
            # Next to the old room, if the guest has not grown since: then that is part of it.
            is_next = self._arena + self._room == start and self._room > 0
            self._arena = self._arena if is_next else start
            self._room = pages * _PAGE + (self._room if is_next else 0)
        return self._arena
