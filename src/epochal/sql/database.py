"""The SQL database: tables, and plugin functions that are swapped under running queries.

::

    db = Database(runtime)
    db.register("fields", "fields.parquet")
    with db.query("SELECT geo.area(radius) FROM fields WHERE day = $1", [3]) as result:
        for batch in result: ...

A query is planned in the epoch that is current when it begins and runs to its end on that epoch's
code, whatever is reloaded meanwhile; the next query gets the new code. Planning never sees a mix of
epochs, and a plugin function is never missing during a reload.

Who reads, who writes
---------------------

``_running`` is a dict keyed by identity: a query adds itself, and takes itself out as it ends, in
whatever thread that is; one step each. `close` sets ``_closed`` *before* it looks at ``_running``,
and a query adds itself *before* it looks at ``_closed``: so a query that begins beside `close` is
stopped by one of the two.
"""

from __future__ import annotations

import asyncio
import atexit
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import BusyError, EpochalError, HostError
from epochal.kinds.index import index
from epochal.kinds.storage import storage
from epochal.sql.catalog import schema_of, stored_tables
from epochal.sql.engine_refs import Engagement
from epochal.sql.execution import EndReason, Execution
from epochal.sql.function_registry import index_of, signatures
from epochal.sql.off_thread import BatchFetcher, PlanningThreads
from epochal.sql.planning import Planner, bind, resolve
from epochal.sql.plugin_tables import StoredTable
from epochal.sql.provenance import EpochRecord
from epochal.sql.query import Query, plugins_of
from epochal.sql.sql_scan import scan
from epochal.sql.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping
    from os import PathLike
    from pathlib import Path
    from types import TracebackType
    from typing import TypeAlias

    from epochal._core.generation.operation import Operation
    from epochal.runtime import Runtime
    from epochal.sql.result import Result
    from epochal.sql.sql_scan import Scan
    from epochal.sql.tables import Snapshot

    Parameters: TypeAlias = Mapping[str, Any] | Iterable[Any]

_LABEL: Final = 200
_EXIT_TIMEOUT_S: Final = 10.0
_EXIT_GRACE_S: Final = 0.05


class Database:
    """Answers SQL queries over registered tables, with the functions of a runtime's plugins.

    It answers queries and changes nothing: statements that create, insert or set are refused (a
    view made by SQL would keep the functions that it was made with past every reload). Use it from
    as many threads and tasks as you like.

    Args:
        runtime: whose plugins' functions the SQL may call.
        partitions: into how many parts, each on a thread of its own, the engine splits a query;
            None for one a processor.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_engagement",
        "_fetcher",
        "_planner",
        "_planning_threads",
        "_running",
        "_runtime",
        "_tables",
    )

    def __init__(self, runtime: Runtime, *, partitions: int | None = None) -> None:
        self._runtime: Final = runtime
        self._tables: Final = Tables()
        self._planner: Final = Planner(partitions)
        self._planning_threads: Final = PlanningThreads()
        self._fetcher: Final = BatchFetcher()
        self._engagement: Final = Engagement()
        self._running: Final[dict[int, Execution]] = {}
        self._closed = False
        _databases.add(self)

    # --- tables and functions ----------------------------------------------------------------

    def register(
        self, name: str, source: Any | str | PathLike[str], *, schema: pa.Schema | None = None
    ) -> None:
        """Add a table, or replace the one of that name.

        Replacing is one step: a query sees the old table or the new one, in all places where it
        names it, and never none. Running queries go on with what they were planned with.

        Args:
            name: what SQL calls it. SQL reads names in lower case unless they are quoted, so a name
                with capitals must be quoted there.
            source: a `pyarrow.Table` or `RecordBatch`, or anything with `__arrow_c_stream__`; or
                the path of a file, or of a folder with files of one format: Parquet, CSV, TSV,
                JSON (one object a line), Arrow IPC or Feather; CSV and JSON also compressed
                (`.csv.gz`). Files are listed and read by each query anew. Or the address of a
                table that a plugin serves, `lite:///data/shop.db?table=orders` (its path quoted by
                `urllib.parse.quote`, if it has # ? or % in it): each query that names it has it
                opened by the plugin of its own epoch (see `epochal.kinds.storage`).
            schema: columns of files; None to find them out (from the first 1,000 rows of text
                formats).

        Raises:
            HostError: it is not there, of no known format, or cannot be read.
        """
        try:
            if isinstance(source, str) and _is_address(source):
                self._register_address(name, source, schema)
            else:
                self._tables.put(name, source, schema)
        except HostError as error:
            raise HostError(f"table {name!r}: {error}") from error.__cause__

    def _register_address(self, name: str, uri: str, schema: pa.Schema | None) -> None:
        if schema is not None:
            raise HostError("schema= is for files; a plugin's table has its own")
        schema_of(uri, self._runtime.epoch)
        self._tables.put_uri(name, uri)

    def deregister(self, name: str) -> None:
        """Take a table out; running queries go on with it.

        Raises:
            HostError: there is no such table.
        """
        self._tables.drop(name)

    @property
    def tables(self) -> Mapping[str, pa.Schema]:
        """The registered tables and their columns.

        Those of plugins are as the current epoch has them, and left out where they cannot be
        opened: `described` says why. Opening them takes as long as their plugins take.
        """
        return {
            name: found for name, found in self.described().items() if isinstance(found, pa.Schema)
        }

    def described(self) -> Mapping[str, pa.Schema | HostError]:
        """Every registered table, with its columns, or why they cannot be had.

        What one plugin's table raises is that table's fault, and no other's.
        """
        snapshot, epoch = self._tables.current, self._runtime.epoch
        found: dict[str, pa.Schema | HostError] = {
            name: table.schema for name, table in snapshot.tables.items()
        }
        for name, uri in snapshot.uris.items():
            try:
                found[name] = schema_of(uri, epoch)
            except HostError as error:
                found[name] = HostError(f"table {name!r}: {error}")
        return found

    def functions(self) -> list[str]:
        """How each plugin function is called in SQL, in the current epoch."""
        return signatures(self._runtime.epoch)

    def build_index(
        self, name: str, sql: str, params: Parameters | None = None, *, folder: Path | None = None
    ) -> int:
        """Build a plugin's index of the rows of a query; the one that it had serves until then.

        Args:
            name: the index's full name, `plugin.name`.
            sql: what to index; the index says which columns it wants. It gets at least one batch,
                without rows where there are none.
            params: as for `query`.
            folder: where it is kept, to be opened after a restart (`epoch[index][name].open`); None
                for a place that goes with it.

        Returns:
            How many rows were indexed.

        Raises:
            UnknownExportError: no active plugin has such an index.
            FunctionError: the index failed to build or to persist; what it raised is the cause.
            QueryError: the SQL is wrong.
        """
        epoch = self._runtime.epoch
        epoch.export(index, name)
        handle = epoch[index][name]
        del epoch
        rows = 0

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            is_empty = True
            for batch in result:
                is_empty = False
                rows += batch.num_rows
                yield batch
            if is_empty:  # it says at least which columns there are
                yield pa.RecordBatch.from_pylist([], result.schema)

        with self.query(sql, params) as result:
            handle.build(counted(), folder=folder)
        return rows

    # --- queries -----------------------------------------------------------------------------

    def query(
        self, sql: str, params: Parameters | None = None, *, timeout: float | None = None
    ) -> Result:
        """Begin a query.

        Args:
            sql: one SQL query. Plugin functions are called by their full names, `geo.distance(…)`.
            params: values for `$1`, `$2`, … in order, or by name for `$name`. They are bound as
                values, never put into the text.
            timeout: seconds that the query may take, from now to its last batch; None for no limit.

        Returns:
            Its result, which streams.

        Raises:
            QueryError: the SQL is wrong, is refused, or names what there is not.
            FunctionError: a function was called while planning (a table function; or one of
                constants that is not volatile) and failed.
            QueryTimeoutError: planning took too long.
            HostError: the database or its runtime is closed.
        """
        query = self._begin(sql, params, timeout)
        if timeout is None:
            return query.start()
        try:
            return self._planning_threads.run(query.start, query.execution)
        except BaseException:
            query.execution.stop(EndReason.CANCELLED)  # Ctrl-C, unless it has failed by itself
            raise

    async def aquery(
        self, sql: str, params: Parameters | None = None, *, timeout: float | None = None
    ) -> Result:
        """`query` for event loops: plans on another thread and never blocks the loop.

        Cancelling the task that reads the result stops the query.

        Raises:
            QueryError: as `query`; and `BusyError` when too many are being planned.
        """
        query = self._begin(sql, params, timeout)
        try:
            async with asyncio.timeout(timeout):
                return await self._planning_threads.arun(query.start)
        except TimeoutError as error:
            query.execution.stop(EndReason.EXPIRED)
            if isinstance(error, EpochalError):
                raise
            query.execution.check()
            raise
        except asyncio.CancelledError:
            query.execution.stop(EndReason.CANCELLED)
            raise
        except BusyError:
            query.execution.stop(EndReason.FAILED)
            raise

    def prepare(self, sql: str) -> Prepared:
        """Keep a query to run it many times.

        It is planned again, against the epoch and the tables that are current, at each execution:
        so it always runs the newest code and pins nothing in between. What is saved is writing the
        SQL twice.
        """
        return Prepared(self, sql)

    def _begin(self, sql: str, params: Parameters | None, timeout: float | None) -> Query:
        found = scan(sql)
        values = bind(params, found.parameters)
        snapshot = self._tables.current
        operation = self._runtime.operation(_label(sql))
        try:
            query = self._pin(operation, sql, found, values, snapshot, timeout)
        except BaseException:
            operation.end()
            raise
        execution = query.execution
        self._running[id(execution)] = execution
        if self._closed:
            execution.stop(EndReason.DATABASE_CLOSED)
            raise HostError("this database is closed")
        return query

    def _pin(
        self,
        operation: Operation,
        sql: str,
        found: Scan,
        values: dict[str, pa.Scalar],
        snapshot: Snapshot,
        timeout: float | None,
    ) -> Query:
        """Take out of the epoch what the query needs, and let the epoch go."""
        epoch = operation.epoch
        index = index_of(epoch)
        resolved = resolve(sql, found.calls, index, epoch)
        targets: dict[Hashable, Any] = {
            one.key: one.callable_of(epoch) for one in resolved.functions
        }
        stored = stored_tables(snapshot.uris, sql, epoch)
        served = [one for one in stored.values() if isinstance(one, StoredTable)]
        targets |= {table.key: epoch[storage][table.export] for table in served}
        record = EpochRecord(epoch.number, epoch.id)
        operation.narrow(plugins_of(resolved.functions, served))
        execution = Execution(
            operation,
            targets,
            sql=_label(sql),
            timeout=timeout,
            parameters=values,
            engagement=self._engagement,
            on_end=self._ended,
        )
        return Query(
            self._planner,
            self._fetcher,
            operation,
            execution,
            resolved,
            stored,
            index,
            record,
            snapshot,
        )

    def _ended(self, execution: Execution) -> None:
        self._running.pop(id(execution), None)

    # --- the end -----------------------------------------------------------------------------

    def close(self, timeout: float = 10.0) -> bool:
        """Stop every running query, refuse new ones, forget the tables.

        Args:
            timeout: seconds to wait for the engine: for calls of plugin functions that are under
                way, above all.

        Returns:
            Whether the engine has let go of everything. (Leaving the process while a plugin's
            function runs on a thread of the engine aborts the process.)
        """
        self._closed = True
        for execution in self._running.copy().values():
            execution.stop(EndReason.DATABASE_CLOSED)
        self._planner.forget()
        self._tables.clear()
        deadline = monotonic() + timeout
        self._fetcher.close(timeout)
        return self._engagement.wait_ended(max(0.0, deadline - monotonic()))

    @property
    def is_engaged(self) -> bool:
        """Whether the engine holds anything of this database's queries, ended ones included."""
        return self._engagement.is_engaged

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._running)} queries running"
        tables = self._tables.current
        return f"<database of {len(tables.tables) + len(tables.uris)} tables, {state}>"


class Prepared:
    """A query kept to run it many times; made by `Database.prepare`.

    It is planned again at each execution, against the epoch and the tables that are current then:
    after a reload it runs the new code, and in between it pins nothing.

    Attributes:
        sql: the query.
    """

    __slots__ = ("_database", "sql")

    def __init__(self, database: Database, sql: str) -> None:
        self._database: Final = database
        self.sql: Final = sql

    def execute(self, params: Parameters | None = None, *, timeout: float | None = None) -> Result:
        """Plan it against the current epoch and begin it; see `Database.query`."""
        return self._database.query(self.sql, params, timeout=timeout)

    async def aexecute(
        self, params: Parameters | None = None, *, timeout: float | None = None
    ) -> Result:
        """`execute` for event loops; see `Database.aquery`."""
        return await self._database.aquery(self.sql, params, timeout=timeout)


def _is_address(source: str) -> bool:
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.lower() != "file" and scheme.isascii()


def _label(sql: str) -> str:
    line = " ".join(sql.split())
    return line if len(line) <= _LABEL else f"{line[: _LABEL - 1]}…"


_databases: Final[WeakRegistry[Database]] = WeakRegistry()


def is_any_engaged() -> bool:
    """Whether the engine holds anything of any database's queries: see `Database.close`."""
    return any(database.is_engaged for database in _databases.live())


def _close_all() -> None:
    databases = _databases.live()
    busy = is_any_engaged()
    for database in databases:
        database.close(_EXIT_TIMEOUT_S)
    if busy:
        # The engine has let go of our functions. What else it drops with a plan, columns say that
        # a function made of NumPy's memory, takes it moments more and needs the interpreter too.
        sleep(_EXIT_GRACE_S)


atexit.register(_close_all)
