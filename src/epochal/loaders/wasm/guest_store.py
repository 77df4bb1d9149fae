"""The store of one instance, of a module's or a component's: its limits, and how its calls end.

An instance is used by one thread at a time; the pool sees to that. Any thread stops it.

Threads: `stop` writes the reason, then looks for the call that runs; a call enters itself, then
reads the reason. Whichever comes second stops the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import wasmtime

from epochal.loaders.wasm.binding import frames_of
from epochal.loaders.wasm.calls import running, watch_store
from epochal.loaders.wasm.engine import engine
from epochal.loaders.wasm.limits import MAX_TABLE_ELEMENTS

if TYPE_CHECKING:
    from wasmtime._trap import Frame

    from epochal.loaders.wasm.calls import RunningCall
    from epochal.loaders.wasm.limits import GuestLimits

_MAX_FRAMES: Final = 12
_MAX_TABLES: Final = 16


class CallStoppedError(Exception):
    """A call trapped, or was stopped.

    Attributes:
        reason: what happened, in a sentence.
        backtrace: the functions of the guest, innermost first; a line for each.
        was_stopped: whether the host stopped it.
    """

    def __init__(self, reason: str, backtrace: tuple[str, ...], *, was_stopped: bool) -> None:
        self.reason: Final = reason
        self.backtrace: Final = backtrace
        self.was_stopped: Final = was_stopped
        super().__init__(reason)


class GuestStore:
    """The store of one instance.

    Args:
        limits: what the instance may use.
        instances: how many core modules there may be in it.

    Attributes:
        key: of the store.
        is_broken: whether the instance cannot be used any more.
    """

    __slots__ = ("_limits", "_reason", "_store", "is_broken", "key")

    def __init__(self, limits: GuestLimits, *, instances: int) -> None:
        self._limits: Final = limits
        self._store: Final = wasmtime.Store(engine())
        self._store.set_limits(
            memory_size=limits.max_memory,
            table_elements=MAX_TABLE_ELEMENTS,
            instances=instances,
            tables=_MAX_TABLES,
            memories=1,
        )
        self.key: Final = watch_store(self._store)
        self.is_broken: bool = False
        self._reason = ""

    def close(self) -> None:
        """Give all of it back. Not while it is called."""
        self._store.close()

    def stop(self, reason: str) -> None:
        """Stop the call that runs in it, and every later one. Any thread."""
        self._reason = reason
        # After the line above: see `_stop_late`.
        call = running(self.key)
        if call is not None:
            call.stop(reason)

    def _stop_late(self, call: RunningCall) -> None:
        """Stop a call that has just entered itself, if `stop` came before."""
        if self._reason:
            call.stop(self._reason)


def stopped(error: wasmtime.Trap | wasmtime.WasmtimeError, call: RunningCall) -> CallStoppedError:
    """What the engine reports of a call, in short: its text is a backtrace with a cause below."""
    text = str(error)
    cause = text.partition("Caused by:")[2].strip() or text
    reason = cause.removeprefix("wasm trap: ").partition("\n")[0].strip()
    lines = tuple(_line(frame) for frame in frames_of(error)[:_MAX_FRAMES])
    return CallStoppedError(call.reason or reason, lines, was_stopped=bool(call.reason))


def _line(frame: Frame) -> str:
    return f"{frame.func_name or f'function {frame.func_index}'} at {frame.module_offset:#x}"
