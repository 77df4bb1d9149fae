"""What Epochal needs of wasmtime and its Python package has no public way to: all of it is here.

The package's public call of a function takes 60 µs, converts each value, and reads all exports of
an instance; the engine's C interface, which the package binds whole, takes 3 µs. These are names of
the package's inside, so the extra `epochal[wasm]` has an upper bound.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

import wasmtime
from wasmtime import _bindings as native
from wasmtime._extern import wrap_extern
from wasmtime._trap import Frame, FrameList

if TYPE_CHECKING:
    from collections.abc import Callable

    Continue = Callable[[int], str]

_dll: Final[Any] = vars(native)["dll"]
_context_of: Final[Any] = wasmtime.Store._context
_CONTINUE: Final = 0  # WASMTIME_UPDATE_DEADLINE_CONTINUE

# Without the release of the interpreter's lock, which takes longer than they do.
_quick: Final = ctypes.PyDLL(None, handle=_dll._handle)
_memory_data: Final = _quick["wasmtime_memory_data"]
_memory_data.restype = ctypes.c_void_p
_memory_data.argtypes = native._wasmtime_memory_data.argtypes
_memory_size: Final = _quick["wasmtime_memory_data_size"]
_memory_size.restype = ctypes.c_size_t
_memory_size.argtypes = native._wasmtime_memory_data.argtypes


def ask_when_epoch_moves(store: wasmtime.Store, key: int) -> None:
    """Have the code of a store ask `epoch_question` whether to go on, when the epoch moves."""
    native.wasmtime_store_epoch_deadline_callback(store.ptr(), _callback, key, _no_finalizer)
    store.set_epoch_deadline(1)


def answer_with(question: Continue) -> None:
    """Set the question for all stores: takes a store's key, returns why to stop, or nothing."""
    global _question
    _question = question


_question: Continue = lambda _: ""  # noqa: E731  replaced at once


def _ask(_: Any, key: int, delta: Any, kind: Any) -> int:
    """Runs in the thread of the call, with the interpreter's lock; returns an error, or 0."""
    reason = _question(key)
    if not reason:
        delta[0] = 1
        kind[0] = _CONTINUE
        return 0
    error = native.wasmtime_error_new(reason.encode())
    return ctypes.cast(error, ctypes.c_void_p).value or 0


# One for the process: none can go while it is called. Its type is the binding's own.
_callback: Final = native._wasmtime_store_epoch_deadline_callback.argtypes[1](_ask)
_no_finalizer: Final = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))


class GuestFunction:
    """An exported function of two addresses, called without another check of its type.

    Args:
        store: of its instance.
        function: its type is `(i32, i32) -> (i32)`; the caller has checked that.
    """

    __slots__ = ("_context", "_function", "_values")

    def __init__(self, store: wasmtime.Store, function: wasmtime.Func) -> None:
        self._context: Final = _context_of(store)
        self._function: Final = function._func
        self._values: Final = (native.wasmtime_val_raw_t * 2)()

    def call(self, first: int, second: int) -> int:
        """Call it, without the interpreter's lock. One thread at a time.

        Raises:
            wasmtime.Trap, wasmtime.WasmtimeError: it trapped, or was stopped.
        """
        values = self._values
        values[0].i32, values[1].i32 = first, second
        trap = ctypes.POINTER(native.wasm_trap_t)()
        error = native._wasmtime_func_call_unchecked(
            self._context, ctypes.byref(self._function), values, 2, ctypes.byref(trap)
        )
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        if trap:
            raise wasmtime.Trap._from_ptr(trap)
        return int(values[0].i32)


class MemoryPlace:
    """Where a guest's memory is in this process.

    Args:
        store: of its instance.
        memory: the guest's.
    """

    __slots__ = ("_context", "_memory", "_reference")

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._context: Final = _context_of(store)
        self._memory: Final = memory._memory
        self._reference: Final = ctypes.byref(self._memory)

    def __call__(self) -> tuple[int, int]:
        """Its address now, and its size: both change whenever it grows."""
        address = _memory_data(self._context, self._reference) or 0
        return address, _memory_size(self._context, self._reference)


def export_of(store: wasmtime.Store, instance: wasmtime.Instance, name: str) -> object:
    """One export of an instance; None if there is none. Does not read the others."""
    label, item = name.encode(), native.wasmtime_extern_t()
    is_there = native.wasmtime_instance_export_get(
        _context_of(store),
        ctypes.byref(instance._instance),
        ctypes.create_string_buffer(label),
        len(label),
        ctypes.byref(item),
    )
    return wrap_extern(item) if is_there else None


def frames_of(error: wasmtime.Trap | wasmtime.WasmtimeError) -> list[Frame]:
    """The functions of the guest that an error passed, innermost first."""
    # Not the engine's text: it takes names for mangled ones, and makes `unsigned short` of `t`.
    frames = FrameList(error)
    read: Any = native.wasmtime_error_wasm_trace
    if isinstance(error, wasmtime.Trap):
        read = native.wasm_trap_trace
    read(error.ptr(), ctypes.byref(frames.vec))
    return [Frame._from_ptr(frames.vec.data[at], frames) for at in range(frames.vec.size)]
