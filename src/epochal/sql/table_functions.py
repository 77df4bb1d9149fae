"""Table functions in the engine: run while the query is planned, their rows kept for it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa
from datafusion import SessionContext
from datafusion.catalog import Table
from datafusion.user_defined import TableFunction

from epochal.kinds.arrow import arrow_type
from epochal.sql.codec_adapters import CodedTable
from epochal.sql.conversion import ResultColumn, ReturnTypeError
from epochal.sql.execution import BadCallError
from epochal.sql.function import Function
from epochal.sql.types import sql_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from datafusion.expr import Expr

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Export
    from epochal.kinds.index import IndexKind
    from epochal.kinds.signature import Parameter, ValueType
    from epochal.kinds.table_function import TableFunctionKind, TableShape
    from epochal.sql.execution import Execution

BATCH_ROWS: Final = 8192
"""Rows in a batch: what the engine makes itself, and what functions are called with."""

_maker: Final = SessionContext()
"""Makes tables of batches; the planning context itself is busy while a table function runs."""


class TableMaker(Function):
    """One table function of an epoch."""

    __slots__ = ("_columns", "_has_codec", "_mappings", "_parameters")

    def __init__(self, export: Export, generation: Generation, shape: TableShape) -> None:
        super().__init__(export, generation)
        self._parameters: Final = shape.signature.parameters
        self._columns: Final = _slots(shape.columns, export.plugin)
        self._has_codec: Final = shape.has_codec
        self._mappings: Final = shape.has_mapping_rows or shape.has_codec

    def callable_of(self, epoch: Epoch) -> Any:
        """The function; where it has data types, between their codecs."""
        function = self._function_of(epoch)
        if not self._has_codec:
            return function
        kind = cast("TableFunctionKind | IndexKind", self.kind)
        return CodedTable(function, kind.shape(epoch.export(self.kind, self.exported)))

    def _function_of(self, epoch: Epoch) -> Any:
        return super().callable_of(epoch)

    def install(self, context: SessionContext, execution: Execution) -> None:
        """Put it into a planning context, for this one query."""
        mentions = itertools.count()

        def adapter(*args: Expr) -> Table:
            # A query may be planned twice; each mention is called once all the same.
            return execution.made((self.key, next(mentions)), lambda: self._table(execution, args))

        context.register_udtf(TableFunction(self.engine_name, adapter))

    def uninstall(self, context: SessionContext) -> None:
        """Take it out of a planning context again."""
        context.deregister_udtf(self.engine_name)

    @property
    def engine_name(self) -> str:
        """Its name in quotes.

        The engine looks a table function up by its name as it is written, quotes and all, and of a
        name with dots it takes the first part only: so queries are made to write it quoted.
        """
        return f'"{self.name}"'

    def _table(self, execution: Execution, args: tuple[Expr, ...]) -> Table:
        batches = execution.call(self, self.key, self._run, execution, args)
        return Table(_maker.read_batches(batches))

    def _run(
        self, function: Callable[..., Any], execution: Execution, args: tuple[Expr, ...]
    ) -> list[pa.RecordBatch]:
        result = function(*self._values(args, execution))
        table = self._gather(result, execution) if self._columns else _arrow(result)
        batches = table.to_batches(max_chunksize=BATCH_ROWS)
        return batches or [pa.RecordBatch.from_pylist([], table.schema)]

    def _values(self, args: tuple[Expr, ...], execution: Execution) -> list[Any]:
        required = sum(one.required for one in self._parameters)
        if not required <= len(args) <= len(self._parameters):
            names = ", ".join(one.name for one in self._parameters) or "none"
            raise BadCallError(f"{self.name} was given {len(args)} arguments; it takes {names}")
        return [
            self._value(one, arg, execution)
            for one, arg in zip(self._parameters, args, strict=False)
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
        assert self._columns is not None
        columns: list[list[Any]] = [[] for _ in self._columns]
        names = list(self._columns)
        read = dict.__getitem__ if self._mappings else getattr
        for number, row in enumerate(rows):
            if number % BATCH_ROWS == 0:
                execution.proceed()
            for name, column in zip(names, columns, strict=True):
                column.append(read(row, name))
        arrays = [
            slot.column(column, f"returned in column {name!r}")
            for (name, slot), column in zip(self._columns.items(), columns, strict=True)
        ]
        fields = [slot.field(name) for name, slot in self._columns.items()]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


class IndexSearch(TableMaker):
    """The search of one index of an epoch, as a table function."""

    __slots__ = ()

    def _function_of(self, epoch: Epoch) -> Any:
        """The search of what is built now: one query sees one state of the index."""
        return super()._function_of(epoch).search


def _slots(columns: Mapping[str, ValueType] | None, plugin: str) -> dict[str, ResultColumn] | None:
    if columns is None:
        return None
    return {name: ResultColumn(kind, plugin) for name, kind in columns.items()}


def _constant(arg: Expr, execution: Execution) -> pa.Scalar | None:
    if arg.variant_name() == "Literal":
        return arg.python_value()
    if arg.variant_name() == "Placeholder":  # planned before its value is put in: do it here
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
