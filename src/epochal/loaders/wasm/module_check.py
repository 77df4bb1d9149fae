"""What a module must be, before anything of it runs: no imports, one memory, this interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import wasmtime

from epochal.errors import CapabilityError, LinkError
from epochal.loaders.wasm.interface import EXPORT_STATE, IMPORT_STATE, INTERFACE, MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from epochal._core.plugin.declared_exports import DeclaredExport

_SHOWN: Final = 10


def check_module(plugin: str, module: wasmtime.Module, *, stateful: bool) -> frozenset[str]:
    """Check a module's imports and exports; returns the names of its functions.

    Raises:
        CapabilityError: it imports something; the message names it.
        LinkError: it is made for another version of the interface, or exports no memory.
    """
    imports = [f"{one.module}.{one.name}" for one in module.imports]
    if imports:
        raise CapabilityError(
            f"the module of plugin {plugin!r} imports {', '.join(imports[:_SHOWN])}, which the "
            "host does not give: build it freestanding, without WASI or a runtime's imports",
            plugin=plugin,
            capability=f"wasm:{imports[0]}",
        )
    exports = module.exports
    names = frozenset(str(one.name) for one in exports if isinstance(one.type, wasmtime.FuncType))
    fault = _interface_fault(names)
    if not any(
        one.name == "memory" and isinstance(one.type, wasmtime.MemoryType) for one in exports
    ):
        fault = fault or "exports no memory: export it under the name 'memory'"
    if not stateful and names & {EXPORT_STATE, IMPORT_STATE}:
        fault = fault or (
            f"exports {EXPORT_STATE} or {IMPORT_STATE}: its manifest must say `stateful = true`, "
            "since otherwise there are several instances, each with a memory of its own"
        )
    if fault:
        raise LinkError(f"the module of plugin {plugin!r} {fault}", plugin=plugin)
    return names


def _interface_fault(names: frozenset[str]) -> str:
    marks = sorted(name for name in names if name.startswith(MARK))
    if f"{MARK}{INTERFACE}" in marks:
        return ""
    if marks:
        version = marks[-1].removeprefix(MARK)
        return f"is made for version {version:.20} of the interface; this host has {INTERFACE}"
    return (
        f"does not say for which version of the interface it is made: export a function "
        f"{MARK}{INTERFACE} (which is never called)"
    )


def required_functions(exports: Iterable[DeclaredExport]) -> Iterator[tuple[str, DeclaredExport]]:
    """The functions that declared exports call, each with its export."""
    for export in exports:
        if export.kind == "aggregate":
            yield from ((f"{export.name}_{part}", export) for part in _AGGREGATE)
        else:
            yield export.name, export


_AGGREGATE: Final = ("update", "merge", "evaluate")


def function_fault(name: str, export: DeclaredExport, fault: str, names: Iterable[str]) -> str:
    """The message for a declared export whose function is not there, or is another."""
    there = ", ".join(sorted(names)[:_SHOWN]) or "none"
    return (
        f"declares the {export.kind} {export.name!r}, whose function {name!r} {fault}; the "
        f"functions that the module exports: {there}"
    )
