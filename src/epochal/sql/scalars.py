"""Scalar functions in the engine: one call for each row, or one for each batch of columns.

The adapter that the engine calls takes the columns of a batch and returns one column. For a
function of plain values it makes lists of the columns, maps the function over them and makes a
column of the results. A row with a null in a parameter that is not optional is removed before the
call and put back, as null, after it. A batch without such nulls pays 0.1 µs per column for the
test.

Measured (flights of 2013, 336,776 rows, 2 cores, a function of four floats): as fast as the same
loop to_array by hand in plain DataFusion; `benchmarks/` has the figures.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa
from datafusion import SessionContext
from datafusion.user_defined import ScalarUDF

from epochal.kinds.scalar import scalar
from epochal.sql.codec_adapters import wrap_scalar
from epochal.sql.conversion import ResultColumn
from epochal.sql.function import Function, encode_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from epochal import Export, Generation
    from epochal.sql.call_slot import CallSlot
    from epochal.sql.execution import Execution


class RowCalls(Protocol):
    """Calls a function for each row of some columns."""

    def call_rows(self, function: Callable[..., Any], columns: Sequence[pa.Array], /) -> list[Any]:
        """The results, in order."""


class ScalarFunction(Function):
    """One scalar function of an epoch."""

    outlives_query = True
    deregister = SessionContext.deregister_udf

    def __init__(self, export: Export, generation: Generation) -> None:
        signature = scalar.signature(export)
        vectorized = export.options["vectorized"]
        # Without codecs if vectorized: arrays stay as they are stored.
        has_codec = signature.has_codec and not vectorized
        super().__init__(export, generation, signature.parameters, has_codec=has_codec)
        assert signature.returns is not None
        self._result: Final = ResultColumn(signature.returns, export.plugin)
        self._kind: Final = self._result.kind
        self._converts: Final = self.parameters.converts
        self._volatility: Final[str] = export.options["volatility"]
        self._vectorized: Final[bool] = vectorized
        self.runs_in_planning = self._volatility != "volatile"

    def _wrapped(self, function: Any, export: Export) -> Any:
        return wrap_scalar(function, scalar.signature(export))

    def install(self, context: SessionContext, execution: Execution, slot: CallSlot) -> None:
        """Register it in a planning context, for one plan."""
        # A `partial`, not a function: in a traceback, a function's frame would keep its arguments.
        work = self._apply_arrays if self._vectorized else partial(self._apply_rows, slot)
        adapter = execution.track(partial(slot.call, self, self.key, work))
        *fields, result = self._fields()
        context.register_udf(ScalarUDF(self.name, adapter, fields, result, self._volatility))

    @property
    def returns(self) -> pa.DataType:
        """The type of its results."""
        return self._kind

    def column(
        self, function: Callable[..., Any], columns: Sequence[pa.Array], rows: RowCalls
    ) -> pa.Array:
        """Call a function of `callable_of` with columns of its parameters' types.

        Args:
            function: the callable.
            columns: of one length.
            rows: calls it for each row.
        """
        if self._vectorized:
            return self._apply_arrays(function, *columns)
        return self._apply_rows(rows, function, *columns)

    def stub(self) -> dict[str, Any]:
        """Its name and types."""
        fields = encode_schema(self._fields())
        return {
            "kind": "scalar",
            "name": self.name,
            "fields": fields,
            "volatility": self._volatility,
        }

    def _fields(self) -> list[pa.Field]:
        """The fields of its parameters and of its result."""
        kinds = enumerate(self.parameters.kinds)
        return [
            *(pa.field(f"p{index}", kind) for index, kind in kinds),
            self._result.field("result"),
        ]

    def _apply_rows(
        self, slot: RowCalls, function: Callable[..., Any], *given: pa.Array
    ) -> pa.Array:
        columns = self.parameters.received(given)
        call_rows = partial(self._call_rows, slot, function)
        return self.parameters.on_complete_rows(columns, call_rows)

    def _call_rows(
        self, slot: RowCalls, function: Callable[..., Any], columns: Sequence[pa.Array]
    ) -> pa.Array:
        if not columns:  # stable, and called once for the whole query
            return self._result.column([function()])
        return self._result.column(slot.call_rows(function, columns))

    def _apply_arrays(self, function: Callable[..., Any], *given: pa.Array) -> pa.Array:
        # Unnecessary calls are left out here: where threads contend for the interpreter, one more
        # frame costs a query of 50 µs a batch a percent.
        columns = self.parameters.received(given) if self._converts else given
        result, rows = function(*columns), len(columns[0]) if columns else 1
        if isinstance(result, pa.Array) and len(result) == rows and result.type == self._kind:
            return result
        return self._result.array(result, rows)
