"""Table functions in the engine: they run while the query is planned, which keeps their rows."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa
from datafusion import SessionContext
from datafusion.catalog import Table
from datafusion.user_defined import TableFunction

from epochal.kinds.arrow import arrow_type
from epochal.sql.codec_adapters import wrap_table
from epochal.sql.conversion import ResultColumn, ReturnTypeError
from epochal.sql.execution import BadCallError
from epochal.sql.function import Function
from epochal.sql.types import sql_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from datafusion.expr import Expr

    from epochal import Epoch, Export, Generation
    from epochal.kinds.index import IndexKind
    from epochal.kinds.signature import Parameter
    from epochal.kinds.table_function import TableFunctionKind, TableShape
    from epochal.sql.call_slot import CallSlot
    from epochal.sql.execution import Execution

BATCH_ROWS: Final = 8192
"""Rows in a batch, as the engine makes them and as functions get them."""

_LOOK_ROWS: Final = 16
"""Between so many rows of a table function, its query may have ended."""

_table_context: Final = SessionContext()
"""Makes tables of batches: the planning context is busy while a table function runs."""


class TableProducer(Function):
    """One table function of an epoch."""

    deregister = SessionContext.deregister_udtf

    def __init__(self, export: Export, generation: Generation) -> None:
        shape = _shape(export)
        super().__init__(export, generation, has_codec=shape.has_codec)
        self._arguments: Final = shape.signature.parameters
        self._columns: Final = {
            name: ResultColumn(kind, export.plugin) for name, kind in (shape.columns or {}).items()
        }
        has_mappings = shape.has_mapping_rows or shape.has_codec
        self._read: Final[Callable[[Any, str], Any]] = dict.__getitem__ if has_mappings else getattr

    def _wrapped(self, function: Any, export: Export) -> Any:
        return wrap_table(function, _shape(export))

    def install(self, context: SessionContext, execution: Execution, _: CallSlot) -> None:
        """Register it in a planning context, for one query."""
        context.register_udtf(TableFunction(self.engine_name, self.adapter(execution)))

    def stub(self) -> dict[str, Any]:
        """Its name; the columns of its rows are known when it was called."""
        return {"kind": "table", "name": self.engine_name}

    def adapter(self, execution: Execution) -> Callable[..., Table]:
        """The callable for one planning of a query."""
        mentions = itertools.count()

        def adapter(*args: Expr) -> Table:
            # The query may be planned twice, but each mention of the function calls it once.
            return execution.once((self.key, next(mentions)), lambda: self._table(execution, args))

        return adapter

    @property
    def engine_name(self) -> str:
        """Its name in quotes.

        The engine looks a table function up by its name as written, including quotes, and takes
        only the first part of a name with dots: so the name is quoted in every query.
        """
        return f'"{self.name}"'

    def _table(self, execution: Execution, args: tuple[Expr, ...]) -> Table:
        batches = execution.call(self, self.key, self._run, execution, args)
        return Table(_table_context.read_batches(batches))

    def _run(
        self, function: Callable[..., Any], execution: Execution, args: tuple[Expr, ...]
    ) -> list[pa.RecordBatch]:
        result = function(*self._values(args, execution))
        table = self._gather(result, execution) if self._columns else _arrow(result)
        batches = table.to_batches(max_chunksize=BATCH_ROWS)
        return batches or [pa.RecordBatch.from_pylist([], table.schema)]

    def _values(self, args: tuple[Expr, ...], execution: Execution) -> list[Any]:
        required = sum(parameter.required for parameter in self._arguments)
        if not required <= len(args) <= len(self._arguments):
            names = ", ".join(parameter.name for parameter in self._arguments) or "none"
            raise BadCallError(f"{self.name} was given {len(args)} arguments; it takes {names}")
        return [
            self._value(parameter, arg, execution)
            for parameter, arg in zip(self._arguments, args, strict=False)
        ]

    def _value(self, parameter: Parameter, arg: Expr, execution: Execution) -> Any:
        given = _constant(arg, execution)
        if given is None:
            raise BadCallError(
                f"{self.name}: argument {parameter.name!r} must be a constant or a query parameter"
            )
        kind = arrow_type(parameter.type)
        try:
            value = given.cast(kind).as_py()
        except pa.ArrowException:
            raise BadCallError(
                f"{self.name}: argument {parameter.name!r} is {given.as_py()!r}; "
                f"expected {sql_name(kind)}"
            ) from None
        if value is None and not parameter.type.optional:
            raise BadCallError(f"{self.name}: argument {parameter.name!r} may not be null")
        return value

    def _gather(self, rows: Iterable[Any], execution: Execution) -> pa.Table:
        columns: list[list[Any]] = [[] for _ in self._columns]
        names = list(self._columns)
        for number, row in enumerate(rows):
            if number % _LOOK_ROWS == 0:
                execution.raise_if_ended()
            for name, column in zip(names, columns, strict=True):
                column.append(self._read(row, name))
        arrays = [
            result.column(column, f"returned in column {name!r}")
            for (name, result), column in zip(self._columns.items(), columns, strict=True)
        ]
        fields = [result.field(name) for name, result in self._columns.items()]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


class IndexSearch(TableProducer):
    """The search of one index of an epoch, as a table function."""

    def _function_of(self, epoch: Epoch) -> Any:
        """The search of the current build: one query sees one state of the index."""
        return super()._function_of(epoch).search


def _shape(export: Export) -> TableShape:
    return cast("TableFunctionKind | IndexKind", export.kind).shape(export)


def _constant(arg: Expr, execution: Execution) -> pa.Scalar | None:
    if arg.variant_name() == "Literal":
        return arg.python_value()
    if arg.variant_name() == "Placeholder":  # planned before its value is bound
        name = arg.to_variant().id().lstrip("$:")
        return execution.parameters.get(name)
    return None


def _arrow(result: Any) -> pa.Table:
    if isinstance(result, pa.RecordBatchReader):
        return result.read_all()
    if isinstance(result, pa.RecordBatch):
        return pa.Table.from_batches([result])
    if isinstance(result, pa.Table):
        return result
    raise ReturnTypeError(
        f"returned a {type(result).__qualname__}; "
        "expected a pyarrow Table, RecordBatch or RecordBatchReader"
    )
