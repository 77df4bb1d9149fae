"""The world `epochal:plugin`: what a component may import, and what it exports (wit/plugin.wit)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from wasmtime.component import (
    F32,
    F64,
    S8,
    S16,
    S32,
    S64,
    U8,
    U16,
    U32,
    U64,
    Bool,
    FuncType,
    ListType,
    OptionType,
    ResultType,
    String,
    TupleType,
)

from epochal.loaders.wasm.interface import EXPORT_STATE, IMPORT_STATE, INIT, SHUTDOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmtime.component import ValType

    from epochal._core.plugin.declared_exports import DeclaredColumn, DeclaredExport

PACKAGE: Final = "epochal:plugin/"
VERSION: Final = "0.1.0"
LIFECYCLE: Final = f"{PACKAGE}lifecycle@{VERSION}"
HANDOVER: Final = f"{PACKAGE}handover@{VERSION}"
HTTP: Final = "http"
STATE: Final = "state"
IMPORTS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "log": dict.fromkeys(("debug", "info", "warning", "error"), "(string)"),
        "clock": {"now": "() -> u64", "monotonic": "() -> u64"},
        "random": {"bytes": "(u32) -> list<u8>"},
        "config": {"get": "(string) -> option<string>"},
        STATE: {
            "get": "(string) -> option<list<u8>>",
            "set": "(string, list<u8>) -> result<_, string>",
            "delete": "(string)",
            "keys": "() -> list<string>",
        },
        HTTP: {
            "request": "(string, string, list<tuple<string, string>>, list<u8>) "
            "-> result<list<u8>, string>"
        },
    }
)
"""The interfaces that the host can give: their functions, with their types."""

REGISTER: Final = "register"
LIFE_FUNCTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        LIFECYCLE: {
            REGISTER: "() -> result<_, string>",
            "init": "(string) -> result<_, string>",
            "shutdown": "()",
        },
        HANDOVER: {
            "export-state": "() -> result<list<u8>, string>",
            "import-state": "(list<u8>, string) -> result<_, string>",
        },
    }
)
"""The functions of each exported interface, with their types as `type_text` writes them."""

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        INIT: "init",
        SHUTDOWN: "shutdown",
        EXPORT_STATE: "export-state",
        IMPORT_STATE: "import-state",
    }
)
"""By the names that core modules give the same functions, what the world calls them."""

_TEXTS: Final[Mapping[type, str]] = MappingProxyType(
    {
        Bool: "bool",
        S8: "s8",
        S16: "s16",
        S32: "s32",
        S64: "s64",
        U8: "u8",
        U16: "u16",
        U32: "u32",
        U64: "u64",
        F32: "f32",
        F64: "f64",
        String: "string",
    }
)
_DECLARED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{f"int{bits}": f"s{bits}" for bits in (8, 16, 32, 64)},
        **{f"uint{bits}": f"u{bits}" for bits in (8, 16, 32, 64)},
        "float32": "f32",
        "float64": "f64",
        "bool": "bool",
        "utf8": "string",
        "binary": "list<u8>",
    }
)


def wit_name(name: str) -> str:
    """An export's name as WIT writes it: `half_of` is `half-of`."""
    return name.replace("_", "-")


def expected_type(export: DeclaredExport) -> str:
    """The type that a scalar's function must have, if it never fails.

    Raises:
        LookupError: a column has a type that WIT does not have; its argument is the column.
    """
    parameters = ", ".join(map(_wit_type, export.parameters))
    return f"({parameters}) -> {_wit_type(export.results[0])}"


def fallible(text: str) -> str:
    """The same type, of a function that may fail."""
    parameters, _, result = text.partition(" -> ")
    return f"{parameters} -> result<{result}, string>"


def type_text(function: FuncType) -> str:
    """A function's type in short: `(f64, option<string>) -> f64`."""
    parameters = ", ".join(_type_text(kind) for _, kind in function.params)
    result = function.result
    return f"({parameters})" if result is None else f"({parameters}) -> {_type_text(result)}"


def _wit_type(column: DeclaredColumn) -> str:
    try:
        plain = _DECLARED[column.type]
    except KeyError:
        raise LookupError(column) from None
    return f"option<{plain}>" if column.nullable else plain


def _type_text(kind: ValType | None) -> str:
    match kind:
        case None:
            return "_"
        case ListType():
            return f"list<{_type_text(kind.element)}>"
        case TupleType():
            return f"tuple<{', '.join(map(_type_text, kind.elements))}>"
        case OptionType():
            return f"option<{_type_text(kind.payload)}>"
        case ResultType():
            return f"result<{_type_text(kind.ok)}, {_type_text(kind.err)}>"
    return _TEXTS.get(type(kind), type(kind).__name__.removesuffix("Type").lower())
