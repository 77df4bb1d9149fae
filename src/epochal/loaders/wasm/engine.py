"""The one engine of the process, and the code that it has compiled.

Compiling takes tens of milliseconds, so compiled code is kept: in this process while a generation
has it, and in the store's folder (`_kept_code`: it is machine code, so nothing that somebody else
wrote there is run).

Memory accesses are checked by instructions, not by page faults: those would need signal handlers,
and `faulthandler.enable()`, or a library that sets handlers after the engine did, would then make a
plugin's wild pointer end the process (seen with wasmtime 50). It costs nothing that can be
measured.

Threads: `_modules` is written by any thread, one dictionary step at a time; of two threads that
compile the same module at once, one's work is lost. No lock is held while compiling.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import wasmtime
from wasmtime.component import Component

from epochal._core.plugin.wasm_sections import is_component
from epochal.loaders.wasm.limits import MAX_STACK

if TYPE_CHECKING:
    from epochal.loaders._kept_code import KeptCode

Code = wasmtime.Module | Component
"""Compiled code: a core module's, or a component's."""

_SETTINGS: Final = {
    "epoch_interruption": True,
    "signals_based_traps": False,
    "max_wasm_stack": MAX_STACK,
    # Its threads would be missing in a forked child, which then would compile nothing.
    "parallel_compilation": False,
    "memory_reservation": 0,
    "memory_reservation_for_growth": 1 << 20,
    "memory_guard_size": 0,
    "wasm_threads": False,
    "wasm_memory64": False,
}

_modules: Final[WeakValueDictionary[str, Code]] = WeakValueDictionary()


@cache
def engine() -> wasmtime.Engine:
    """The engine; made with the first WebAssembly plugin."""
    config = wasmtime.Config()
    for name, value in _SETTINGS.items():
        setattr(config, name, value)
    return wasmtime.Engine(config)


@cache
def _identity() -> str:
    """All that compiled code depends on, but for the module."""
    built = (version("wasmtime"), sys.platform, platform.machine(), platform.processor())
    return repr((*built, sorted(_SETTINGS.items())))


def compiled(content: bytes, kept: KeptCode | None = None) -> Code:
    """The compiled code of a module, from where it is kept, or compiled now.

    Args:
        content: a core module, or a component.
        kept: where the store keeps compiled code; None for no store.

    Raises:
        wasmtime.WasmtimeError: it is not a valid module.
    """
    digest = hashlib.sha256(content).hexdigest()
    module = _modules.get(digest)
    if module is None:
        kind = Component if is_component(content) else wasmtime.Module
        module = _from_file(digest, kept, kind) if kept is not None else None
        if module is None:
            module = kind(engine(), content)
            if kept is not None:
                # A store that cannot be written to refuses the change where it stores the epoch.
                with suppress(OSError):
                    kept.write(digest, _identity(), bytes(module.serialize()))
                    kept.trim()
        _modules[digest] = module
    return module


def _from_file(digest: str, kept: KeptCode, kind: type[Code]) -> Code | None:
    code = kept.read(digest, _identity())
    if code is not None:
        with suppress(wasmtime.WasmtimeError):  # another processor than it was compiled for
            return kind.deserialize(engine(), code)
    return None
