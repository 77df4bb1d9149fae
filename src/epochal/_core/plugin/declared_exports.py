"""The exports that a manifest declares: those of a plugin whose code has no annotations.

A WebAssembly function has no SQL types, so the manifest states them, in the order of a Python
function::

    [exports.scalar]
    distance = "(lat1: float64, lon1: float64, lat2: float64, lon2: float64) -> float64"
    shout = { signature = "(text: utf8) -> utf8", volatility = "immutable" }

    [exports.aggregate]
    mean = { signature = "(value: float64) -> float64?", state = 16 }
    distinct = { signature = "(value: utf8) -> int64", state = "variable" }

    [exports.table_function]
    series = { signature = "(start: int64, stop: int64) -> (n: int64)", state = 8 }

`?` after a type: its values may be null. A parameter without it never gets a null.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    AddFault = Callable[[str, str], object]

TYPES: Final = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "bool", "utf8", "binary", "date32", "timestamp"),
)
"""The types of columns, by Arrow's names, but for `decimal128(precision, scale)`. A timestamp has
microseconds and no time zone."""

_ALSO_CALLED: Final = {
    "int": "int64",
    "float": "float64",
    "double": "float64",
    "str": "utf8",
    "string": "utf8",
    "bytes": "binary",
    "date": "date32",
    "datetime": "timestamp",
    "boolean": "bool",
    "decimal": "decimal128(38, 10)",
    "f64": "float64",
    "i64": "int64",
    "i32": "int32",
}

DECIMAL: Final = re.compile(r"decimal128\((\d{1,2}),\s*(\d{1,2})\)")
MAX_STATE: Final = 1 << 20
"""Bytes of a state at most: it travels with each group of rows."""
_VARIABLE: Final = "variable"
_MAX_COLUMNS: Final = 64
_MAX_EXPORTS: Final = 1_000
_MAX_DECIMAL: Final = 38

_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "scalar": ("signature", "description", "volatility"),
    "aggregate": ("signature", "description", "state"),
    "table_function": ("signature", "description", "state"),
}
_VOLATILITIES: Final = ("immutable", "stable", "volatile")
_RESERVED: Final = frozenset({"register", "init", "shutdown", "export_state", "import_state"})
_SIGNATURE: Final = re.compile(r"\s*\((?P<parameters>.*?)\)\s*->\s*(?P<result>.+?)\s*", re.DOTALL)
_SEPARATOR: Final = re.compile(r",(?![^(]*\))")
_EXAMPLE: Final = {
    "scalar": '"(a: float64, b: float64) -> float64"',
    "aggregate": '"(value: float64) -> float64?"',
    "table_function": '"(stop: int64) -> (n: int64, square: float64)"',
}


@dataclass(frozen=True, slots=True)
class DeclaredColumn:
    """A parameter, a result, or a column of a table.

    Attributes:
        name: its name; `result` for the result of a function.
        type: one of `TYPES`, or a decimal.
        nullable: whether its values may be null.
    """

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class DeclaredExport:
    """One export of a manifest.

    Attributes:
        kind: `scalar`, `aggregate` or `table_function`.
        name: its name, and that of the code's function.
        parameters: what SQL passes.
        results: the columns of a table; otherwise one.
        description: one line for people.
        volatility: as `@scalar` has it.
        state: the bytes of an aggregate's state, or of the position within a table; None for a
            state of any length.
    """

    kind: str
    name: str
    parameters: tuple[DeclaredColumn, ...]
    results: tuple[DeclaredColumn, ...]
    description: str = ""
    volatility: str = "volatile"
    state: int | None = 0


def read_declared(tables: object, fault: AddFault) -> Iterator[DeclaredExport]:
    """Read the manifest's `exports`.

    Args:
        tables: the value of the key.
        fault: called with the key at fault and what is wrong with it.
    """
    if not isinstance(tables, dict):
        fault("exports", f"is a {type(tables).__name__}; expected tables such as [exports.scalar]")
        return
    seen: dict[str, str] = {}
    for kind, exports in tables.items():
        if kind not in _OPTIONS or not isinstance(exports, dict):
            close = get_close_matches(kind, _OPTIONS, 1)
            expected = f"did you mean {close[0]}?" if close else f"expected {', '.join(_OPTIONS)}"
            fault("exports", f"has no kind {kind!r}; {expected}")
            continue
        for name, entry in exports.items():
            read = _ExportReader(kind, name, fault).read(entry)
            if name in seen:
                fault(name, f"is exported twice, as {seen[name]} and as {kind}")
            elif read is not None:
                seen[name] = kind
                yield read
    if not seen:
        fault("exports", "names no export")
    if len(seen) > _MAX_EXPORTS:
        fault("exports", f"names more than {_MAX_EXPORTS:,} exports")


class _ExportReader:
    """Reads one export; faults are named by the export's name."""

    def __init__(self, kind: str, name: str, fault: AddFault) -> None:
        self._kind: Final = kind
        self._name: Final = name
        self._add: Final = fault
        self._is_good = True

    def read(self, entry: object) -> DeclaredExport | None:
        if not _is_name(self._name) or self._name in _RESERVED:
            self._fault("cannot be the name of an export; expected a plain identifier")
        given: dict[str, Any] = {"signature": entry} if isinstance(entry, str) else {}
        if isinstance(entry, dict):
            given = entry
        for key in given.keys() - set(_OPTIONS[self._kind]):
            self._fault(f"has an unknown key {key!r}; it takes {', '.join(_OPTIONS[self._kind])}")
        parameters, results = self._signature(given.get("signature"))
        description = given.get("description", "")
        if not isinstance(description, str):
            self._fault("has a description that is no text")
        export = DeclaredExport(
            self._kind,
            self._name,
            parameters,
            results,
            str(description),
            self._volatility(given.get("volatility", "volatile")),
            self._state(given.get("state", 0)),
        )
        return export if self._is_good else None

    def _fault(self, problem: str) -> None:
        self._is_good = False
        self._add(self._name, problem)

    def _volatility(self, value: object) -> str:
        if value not in _VOLATILITIES:
            self._fault(f"has the volatility {value!r}; expected {', '.join(_VOLATILITIES)}")
        return str(value)

    def _state(self, value: object) -> int | None:
        is_aggregate = self._kind == "aggregate"
        if is_aggregate and value == _VARIABLE:
            return None
        if type(value) is not int or not 0 <= value <= MAX_STATE:
            either = f', or "{_VARIABLE}"' if is_aggregate else ""
            expected = f"expected 0 to {MAX_STATE:,} (bytes){either}"
            self._fault(f"has the state {value!r:.40}; {expected}")
            return 0
        if value == 0 and is_aggregate:
            self._fault(
                f'has no state: give its size in bytes, such as state = 16, or "{_VARIABLE}"'
            )
        return value

    def _signature(
        self, text: object
    ) -> tuple[tuple[DeclaredColumn, ...], tuple[DeclaredColumn, ...]]:
        match = _SIGNATURE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            self._fault(f"has no signature such as {_EXAMPLE[self._kind]}")
            return (), ()
        parameters = tuple(self._columns(match["parameters"]))
        result = match["result"]
        if self._kind != "table_function":
            return parameters, tuple(self._type("result", result))
        if not (result.startswith("(") and result.endswith(")")):
            self._fault(f"names no columns: expected a result such as {_EXAMPLE[self._kind]}")
            return parameters, ()
        columns = tuple(self._columns(result[1:-1]))
        if not columns:
            self._fault("has a table without columns")
        return parameters, columns

    def _columns(self, text: str) -> Iterator[DeclaredColumn]:
        parts = _SEPARATOR.split(text) if text.strip() else []
        if len(parts) > _MAX_COLUMNS:
            self._fault(f"has more than {_MAX_COLUMNS} columns")
            return
        names: set[str] = set()
        for part in parts:
            name, colon, kind = (one.strip() for one in part.partition(":"))
            if not colon or not _is_name(name):
                self._fault(f"has {part.strip()!r:.60}, expected `name: type`")
            elif name in names:
                self._fault(f"names {name!r} twice")
            else:
                names.add(name)
                yield from self._type(name, kind)

    def _type(self, name: str, text: str) -> Iterator[DeclaredColumn]:
        kind = text.removesuffix("?").strip()
        if kind in TYPES or _is_decimal(kind):
            yield DeclaredColumn(name, kind.replace(" ", ""), text.endswith("?"))
            return
        close = [_ALSO_CALLED[kind]] if kind in _ALSO_CALLED else get_close_matches(kind, TYPES, 1)
        hint = f"did you mean {close[0]}?" if close else f"expected {', '.join(TYPES)}"
        self._fault(f"has {name!r} of the unknown type {kind!r:.60}; {hint}")


def _is_name(text: str) -> bool:
    plain = text.isascii() and text.isidentifier() and not text.startswith("_")
    return plain and not keyword.iskeyword(text)


def _is_decimal(text: str) -> bool:
    match = DECIMAL.fullmatch(text)
    if match is None:
        return False
    precision, scale = int(match[1]), int(match[2])
    return 0 < precision <= _MAX_DECIMAL and scale <= precision
