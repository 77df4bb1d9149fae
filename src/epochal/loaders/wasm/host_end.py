"""The host's end of a WebAssembly plugin: a Python module, written from its manifest.

Each export becomes a Python function or class with the SQL types in its annotations, marked with
its kind, whose body calls the guest. So everything that holds for a Python plugin's exports holds
for these without another line: a frame of such a function holds the lease, kinds check and compare
them, holders and stragglers are found and named, and the module's memory is taken apart at REMOVED.
It is shown in tracebacks under the module's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epochal._core.plugin.declared_exports import DECIMAL
from epochal.loaders.wasm.interface import EXPORT_STATE, IMPORT_STATE, INIT, SHUTDOWN

if TYPE_CHECKING:
    from collections.abc import Collection

    from epochal._core.plugin.declared_exports import DeclaredColumn, DeclaredExport
    from epochal._core.plugin.manifest import Manifest

GUEST: Final = "_guest"
"""The name under which the module finds its `Guest`. No export and no parameter begins with `_`."""

_HEAD: Final = '''\
"""The host's end of a WebAssembly plugin, written by Epochal from its manifest."""
from typing import Annotated as _Annotated

import pyarrow as _pa

from epochal.kinds import aggregate as _aggregate
from epochal.kinds import scalar as _scalar
from epochal.kinds import table_function as _table_function
'''

_SCALAR: Final = """
@_scalar(vectorized=True, volatility={volatility!r})
def {name}({parameters}) -> {result}:
    {description!r}
    return _guest.call({name!r}, ({arguments}))
"""

_AGGREGATE: Final = """
@_aggregate(vectorized=True)
class {name}:
    {description!r}
    __slots__ = ("_state", "__weakref__")

    def __init__(self) -> None:
        self._state = _guest.initial_state({name!r})

    def update(self, {parameters}) -> None:
        self._state = _guest.update({name!r}, self._state, ({arguments}))

    def merge(self, other) -> None:
        self._state = _guest.merge({name!r}, self._state, other._state)

    def evaluate(self) -> {result}:
        return _guest.evaluate({name!r}, self._state)

    def state(self) -> bytes:
        return self._state

    def restore(self, state: bytes) -> None:
        self._state = _guest.checked_state({name!r}, state)
"""

_TABLE: Final = """
@_table_function
def {name}({parameters}) -> _pa.Table:
    {description!r}
    return _guest.table({name!r}, ({arguments}))
"""

_LIFE: Final = {
    INIT: """
def init(ctx):
    _guest.init(ctx)
""",
    SHUTDOWN: """
def shutdown():
    _guest.shutdown()
""",
    EXPORT_STATE: """
def export_state():
    return _guest.export_state()
""",
    IMPORT_STATE: """
def import_state(state, from_version):
    _guest.import_state(state, from_version)
""",
}


def write_host_end(manifest: Manifest, functions: Collection[str]) -> bytes:
    """The source of the module.

    Args:
        manifest: the plugin's.
        functions: the functions that its module exports.
    """
    parts = [_HEAD, *map(_export, manifest.exports)]
    parts.extend(text for name, text in _LIFE.items() if name in functions)
    return "\n".join(parts).encode()


def _export(export: DeclaredExport) -> str:
    columns = export.parameters
    # A vectorized function sees nulls; a table function's value may be None where it says so.
    write = _value if export.kind == "table_function" else _array
    result = export.results[0]
    template = {"scalar": _SCALAR, "aggregate": _AGGREGATE, "table_function": _TABLE}[export.kind]
    return template.format(
        name=export.name,
        parameters=", ".join(f"{one.name}: {write(one)}" for one in columns),
        arguments="".join(f"{one.name}, " for one in columns),
        result=_value(result) if export.kind == "aggregate" else _array(result),
        volatility=export.volatility,
        description=export.description,
    )


def _array(column: DeclaredColumn) -> str:
    decimal = DECIMAL.fullmatch(column.type)
    if decimal is not None:
        return f"_pa.decimal128({decimal[1]}, {decimal[2]})"
    special = {"bool": "bool_()", "timestamp": "timestamp('us')"}
    return f"_pa.{special.get(column.type, f'{column.type}()')}"


def _value(column: DeclaredColumn) -> str:
    exact = _array(column)
    return f"_Annotated[object, {exact}] | None" if column.nullable else exact
