"""What a component must be, before any of it runs: its imports are granted, its exports fit.

The component's binary says itself what it imports, so what it asks for is the meeting of that and
of its manifest; it gets what the host granted of it, and with anything missing it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmtime.component import ComponentInstanceType, FuncType

from epochal._core.plugin.capabilities import missing_grant
from epochal.errors import CapabilityError, LinkError
from epochal.loaders.wasm.component_world import (
    HANDOVER,
    HTTP,
    IMPORTS,
    LIFE_FUNCTIONS,
    LIFECYCLE,
    NAMES,
    PACKAGE,
    STATE,
    VERSION,
    expected_type,
    fallible,
    type_text,
    wit_name,
)
from epochal.loaders.wasm.engine import engine
from epochal.loaders.wasm.interface import EXPORT_STATE, IMPORT_STATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wasmtime.component import Component
    from wasmtime.component._types import ComponentExtern

    from epochal._core.plugin.candidate import Candidate
    from epochal._core.plugin.declared_exports import DeclaredExport

_WASI: Final = "wasi:"
_SHOWN: Final = 10


class ComponentCheck:
    """Checks a component against its manifest, its grants and the world.

    Args:
        candidate: the plugin.
        component: its compiled code.

    Raises:
        CapabilityError: it imports what it was not granted; the message names it.
        LinkError: it is made for another version of the world, or an export does not fit.

    Attributes:
        imports: the interfaces of the world that it imports.
        has_wasi: whether it imports anything of WASI.
        names: the functions of the plugin's life that it has, by the names of core modules.
    """

    def __init__(self, candidate: Candidate, component: Component) -> None:
        self._manifest: Final = candidate.manifest
        self._grants: Final = candidate.grants
        kind = component.type
        self.imports: Final = frozenset(self._granted(kind.imports(engine())))
        self.has_wasi: Final = any(name.startswith(_WASI) for name in kind.imports(engine()))
        exports = kind.exports(engine())
        self._check_life(exports)
        for export in self._manifest.exports:
            fault = _export_fault(export, exports)
            if fault:
                raise self._refused(fault)
        state = (EXPORT_STATE, IMPORT_STATE)
        has_state = HANDOVER in exports or STATE in self.imports
        self.names: Final = frozenset(name for name in NAMES if has_state or name not in state)

    def _granted(self, imports: Mapping[str, ComponentExtern]) -> Iterator[str]:
        for name, found in imports.items():
            if name.startswith(_WASI):
                self._demand(name, name.partition("/")[0])
                continue
            interface, _, version = name.removeprefix(PACKAGE).partition("@")
            if not name.startswith(PACKAGE) or interface not in IMPORTS:
                known = ", ".join(f"{PACKAGE}{one}" for one in IMPORTS)
                raise self._not_given(name, name, f"which this host does not have; it has {known}")
            if version != VERSION:
                raise self._refused(_other_version(name, version))
            if interface != HTTP:
                self._demand(name, f"host:{interface}")
            elif not any(map(self._may_reach, self._manifest.capabilities or ())):
                raise self._not_given(
                    name,
                    "net:HOST",
                    "for which its manifest must ask for a host that it reaches, "
                    "and the host grant it: a capability such as net:api.example.org",
                )
            inner = _functions(found)
            for function, kind in inner.items():
                expected = IMPORTS[interface].get(function)
                fault = "is none of it" if expected is None else _type_fault(kind, expected)
                if fault:
                    raise self._refused(f"imports {name}, whose function {function!r} {fault}")
            yield interface

    def _may_reach(self, capability: str) -> bool:
        asked = self._manifest.capabilities
        is_net = capability.startswith("net:")
        return is_net and not missing_grant(asked, self._grants, capability)

    def _demand(self, name: str, capability: str) -> None:
        todo = missing_grant(self._manifest.capabilities, self._grants, capability)
        if todo:
            raise self._not_given(name, capability, f"which it was not granted: {todo}")

    def _check_life(self, exports: Mapping[str, ComponentExtern]) -> None:
        others = [
            name for name in exports if name.startswith(PACKAGE) and name not in LIFE_FUNCTIONS
        ]
        if others:
            raise self._refused(_other_version(others[0], others[0].partition("@")[2]))
        if LIFECYCLE not in exports:
            raise self._refused(f"does not export {LIFECYCLE}")
        for interface, functions in LIFE_FUNCTIONS.items():
            if interface not in exports:
                continue
            inner = _functions(exports[interface])
            for name, expected in functions.items():
                fault = _type_fault(inner.get(name), expected)
                if fault:
                    raise self._refused(f"exports {interface}, whose function {name!r} {fault}")
        if HANDOVER in exports and not self._manifest.stateful:
            raise self._refused(
                f"exports {HANDOVER}: its manifest must say `stateful = true`, since otherwise "
                "there are several instances, each with a state of its own"
            )

    def _refused(self, fault: str) -> LinkError:
        plugin = self._manifest.id
        return LinkError(f"the component of plugin {plugin!r} {fault}", plugin=plugin)

    def _not_given(self, name: str, capability: str, why: str) -> CapabilityError:
        plugin = self._manifest.id
        return CapabilityError(
            f"the component of plugin {plugin!r} imports {name}, {why}",
            plugin=plugin,
            capability=capability,
        )


def _functions(interface: ComponentExtern) -> Mapping[str, ComponentExtern]:
    kind = interface.ty
    return kind.exports(engine()) if isinstance(kind, ComponentInstanceType) else {}


def _other_version(name: str, version: str) -> str:
    return (
        f"is made for {name:.100}, of version {version or 'none'} of the world; this host has "
        f"{VERSION}"
    )


def _export_fault(export: DeclaredExport, exports: Mapping[str, ComponentExtern]) -> str:
    declares = f"declares the {export.kind} {export.name!r}"
    if export.kind != "scalar":
        return f"{declares}; a component has scalars only, a core module the other kinds"
    try:
        expected = expected_type(export)
    except LookupError as error:
        column = error.args[0]
        return f"{declares} with {column.name} of type {column.type}, which WIT does not have"
    name = wit_name(export.name)
    fault = _type_fault(exports.get(name), expected, fallible(expected))
    there = ", ".join(sorted(exports)[:_SHOWN]) or "none"
    return f"{declares}, whose function {name!r} {fault}; its exports: {there}" if fault else ""


def _type_fault(found: ComponentExtern | None, *expected: str) -> str:
    if found is None:
        return "is missing"
    kind = found.ty
    if not isinstance(kind, FuncType):
        return "is not a function"
    text = type_text(kind)
    return "" if text in expected else f"has the type {text}; expected {' or '.join(expected)}"
