"""SQL over Daft, which joins and shuffles on one machine or on a Ray cluster, one epoch a query.

::

    from epochal.daft import DaftDatabase

    db = DaftDatabase(rt)                              # a runtime with a share
    db.register("flights", daft.read_parquet("s3://…"))
    result = db.query("SELECT origin, geo.distance(a, b) AS d FROM flights JOIN …")
    result.rows(), result.epoch, result.provenance

Each query has a session of Daft's own, with the scalars of its epoch that it calls, each with the
Arrow types of its annotations. A function is sent to Daft's workers as its name and its epoch's id,
so a query that a change overtakes, and a part of it that is run again, stay with their epoch. Daft
calls no aggregates of plugins from SQL, and no function within an aggregate: select it in a
subquery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal.errors import HostError, QueryError
from epochal.kinds import scalar
from epochal.sql.function_registry import index_of
from epochal.sql.provenance import EpochRef, Provenance
from epochal.sql.remote_functions import RemoteScalar
from epochal.sql.scalars import ScalarFunction
from epochal.sql.sql_scan import scan

try:
    import daft
except ImportError as error:
    raise ImportError(
        f"epochal.daft needs the extra 'daft': pip install 'epochal[daft]' ({error})"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal import Epoch, Runtime


@dataclass(frozen=True, slots=True)
class DaftResult:
    """The answer of a query.

    Attributes:
        frame: its rows, computed: Daft's data frame.
        epoch: the epoch that computed all of them.
        provenance: the origin of each function that the query calls.
    """

    frame: daft.DataFrame
    epoch: EpochRef
    provenance: tuple[Provenance, ...]

    def to_table(self) -> pa.Table:
        """The rows as an Arrow table, in this process."""
        return self.frame.to_arrow()

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as tuples of Python values."""
        columns = [column.to_pylist() for column in self.to_table().columns]
        return list(zip(*columns, strict=True))


class DaftDatabase:
    """Runs SQL over Daft, with the scalars of a runtime's epochs. Thread-safe.

    Args:
        rt: a runtime with a share that Daft's workers reach.
    """

    __slots__ = ("_rt", "_tables")

    def __init__(self, rt: Runtime) -> None:
        self._rt: Final = rt
        self._tables: dict[str, daft.DataFrame] = {}  # replaced by `register`, whole

    def register(self, name: str, source: daft.DataFrame | pa.Table) -> None:
        """Add a table, or replace the one of that name, for the queries from now on.

        Args:
            name: its name in SQL.
            source: a data frame of Daft's, such as `daft.read_parquet(…)`, or an Arrow table.

        Raises:
            HostError: it is neither.
        """
        if isinstance(source, pa.Table):
            source = daft.from_arrow(source)
        if not isinstance(source, daft.DataFrame):
            raise HostError(
                f"the table {name} is a {type(source).__name__}; expected a data frame of Daft's, "
                "such as daft.read_parquet(path), or an Arrow table"
            )
        self._tables = {**self._tables, name: source}

    def query(self, sql: str, *, epoch: Epoch | None = None) -> DaftResult:
        """Run a query to its end, in one epoch, which a lease of the cluster names meanwhile.

        Args:
            sql: a query in Daft's SQL, with functions of plugins by their names, `geo.distance(…)`.
            epoch: the epoch to run it in; None for the caller's.

        Raises:
            NoShareError: the runtime has no share.
            QueryError: the SQL is invalid, calls what Daft's SQL cannot, or failed.
        """
        with self._rt.lease("query over Daft", epoch=epoch) as lease:
            session = daft.Session()
            text, functions = _prepared(sql, lease.epoch, session)
            for name, frame in self._tables.items():
                session.attach_view(frame, name)
            frame = _run(session, text, sql)
            origins = tuple(function.origin for function in functions)
            return DaftResult(frame, EpochRef(lease.epoch.number, lease.id), origins)


def _run(session: daft.Session, text: str, sql: str) -> daft.DataFrame:
    try:
        planned = session.sql(text)
        done = planned.collect() if planned is not None else None
    except QueryError:
        raise  # a function's own
    except Exception as error:
        raise QueryError(f"Daft: {error}") from error
    if done is None:
        raise QueryError(f"this statement gives no rows: {sql}")
    return done


def _prepared(
    sql: str, epoch: Epoch, session: daft.Session
) -> tuple[str, tuple[ScalarFunction, ...]]:
    """Put the functions that a text calls into a session; returns the text with their names there.

    Raises:
        QueryError: it calls a name that is no scalar.
    """
    index = index_of(epoch)
    functions: dict[str, ScalarFunction] = {}
    pieces: list[str] = []
    copied = 0
    for call in scan(sql).calls:
        name = index.resolve(call)
        if name is None:
            advice = index.advice(call.name)
            raise QueryError(f"no function {call.name!r}{f'; {advice}' if advice else ''}")
        alias = f"f{[*functions, name].index(name)}_{name.replace('.', '_').lower()}"
        if name not in functions:
            functions[name] = function = _scalar(name, index, epoch)
            session.attach_function(_udf(function, epoch), alias)
        pieces += [sql[copied : call.start], alias]
        copied = call.end
    return "".join([*pieces, sql[copied:]]), tuple(functions.values())


def _scalar(name: str, index: Any, epoch: Epoch) -> ScalarFunction:
    [function, *_] = index.functions(name, epoch)
    if not isinstance(function, ScalarFunction):
        raise QueryError(
            f"{name} is of the kind {function.kind.name}, and Daft's SQL calls scalars alone: run "
            "it with epochal.sql, or merge its states with epochal.ray"
        )
    if not function.parameters.kinds:
        raise QueryError(f"Daft cannot call {name}, since it has no parameters: give it one")
    return function


def _udf(function: ScalarFunction, epoch: Epoch) -> Any:
    export: Any = epoch.remote[scalar][function.exported]
    # Not the object itself: Daft asks a function for its name and its parameters.
    kind = daft.DataType.from_arrow_type(function.returns)
    return daft.func.batch(return_dtype=kind, use_process=False)(_caller(RemoteScalar(export)))


def _caller(remote: RemoteScalar) -> Callable[..., pa.Array]:
    def call(*columns: daft.Series) -> pa.Array:
        return remote(*[column.to_arrow() for column in columns])

    return call
