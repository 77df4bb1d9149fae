"""SQL functions of an epoch over Arrow columns, for engines whose workers are other processes.

A `RemoteScalar` or `RemoteAggregate` is as small in a pickle as the export that it has. Called with
columns in whatever process, it finds the epoch there (`epochal.worker`), converts the columns to
the types of the function's annotations, and checks what comes back, as queries of `epochal.sql` do:
a null for a parameter that is not optional, data types, and wrong results mean the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar, cast

import pyarrow as pa

from epochal.errors import LocalExportError, QueryError
from epochal.kinds import aggregate, mergeable_state, scalar
from epochal.kinds.arrow import storage_array
from epochal.sql.aggregates import AggregateFunction
from epochal.sql.conversion import ReturnTypeError
from epochal.sql.execution import error_for_caller
from epochal.sql.function_registry import index_of
from epochal.sql.scalars import ScalarFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from epochal import Epoch, Kind
    from epochal.worker import RemoteExport

F = TypeVar("F", ScalarFunction, AggregateFunction)


class _Rows:
    """Calls a function for each row, to the end."""

    def call_rows(self, function: Callable[..., Any], columns: Sequence[pa.Array], /) -> list[Any]:
        results = list(map(function, *[column.to_pylist() for column in columns]))
        if len(results) != len(columns[0]):  # `map` takes a StopIteration for the end of its input
            raise ReturnTypeError(f"raised StopIteration in row {len(results)}")
        return results

    def raise_if_ended(self) -> None:
        """Nothing ends it but its engine, with the process."""


_ROWS: Final = _Rows()


@dataclass(frozen=True, slots=True)
class _RemoteFunction(Generic[F]):
    """A function over columns, in any process."""

    export: RemoteExport
    _cls: ClassVar[type[Any]]

    def function(self, epoch: Epoch | None = None) -> F:
        """Its types and names, in an epoch of this process; None for its own."""
        epoch = self.export.epoch_here() if epoch is None else epoch
        found = index_of(epoch).functions(self.export.name, epoch)
        return cast("F", next(each for each in found if type(each) is self._cls))

    def __call__(self, *columns: Any) -> Any:
        """The column of results, or the only result: of an aggregate's group.

        Raises:
            EpochUnavailableError: this process cannot have the epoch.
            FunctionError: the function failed, or gave a value of another type.
            QueryError: the columns are not of its parameters' types.
        """
        epoch = self.export.epoch_here()
        function = self.function(epoch)
        given = _received(function, columns)
        try:
            return self._result(function, function.callable_of(epoch), given)
        except Exception as error:
            raise error_for_caller(function, error) from error

    def _result(self, function: F, export: Any, columns: Sequence[pa.Array], /) -> Any:
        raise NotImplementedError


class RemoteScalar(_RemoteFunction[ScalarFunction]):
    """A scalar function over columns, in any process. Without parameters, it has one result.

    Attributes:
        export: the export.
    """

    __slots__ = ()
    _cls = ScalarFunction

    def _result(self, function: ScalarFunction, export: Any, columns: Sequence[pa.Array]) -> Any:
        return storage_array(function.column(export, columns, _ROWS))


class RemoteAggregate(_RemoteFunction[AggregateFunction]):
    """An aggregate over the columns of one group, in any process.

    Attributes:
        export: the export.
    """

    __slots__ = ()
    _cls = AggregateFunction

    def _result(self, function: AggregateFunction, export: Any, columns: Sequence[pa.Array]) -> Any:
        instance = export()
        function.update(instance, _ROWS, columns)
        value = function.evaluate(instance)
        return value.value if isinstance(value, pa.ExtensionScalar) else value


def remote_functions(epoch: Epoch) -> Iterator[RemoteScalar | RemoteAggregate]:
    """The scalars and aggregates of an epoch that may run in other processes.

    Raises:
        NoShareError: the epoch's runtime has no share.
    """
    kinds: tuple[Kind[Any], ...] = (scalar, aggregate, mergeable_state)
    for kind in kinds:
        make = RemoteScalar if kind is scalar else RemoteAggregate
        exports: Mapping[str, RemoteExport] = epoch.remote[kind]
        for name in exports:
            try:
                yield make(exports[name])
            except LocalExportError:
                continue  # its plugin belongs to one process


def _received(function: ScalarFunction | AggregateFunction, columns: Sequence[Any]) -> list[Any]:
    """The columns as Arrow arrays of the parameters' types.

    Raises:
        QueryError: they are others.
    """
    kinds = function.parameters.kinds
    if len(columns) != len(kinds):
        raise QueryError(f"cannot call {function.usage} with {len(columns)} arguments")
    found = []
    for column, kind in zip(columns, kinds, strict=True):
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        array = storage_array(array)
        try:
            found.append(array if array.type == kind else array.cast(kind))
        except pa.ArrowException as error:
            raise QueryError(f"cannot call {function.usage} with {array.type}: {error}") from error
    return found
