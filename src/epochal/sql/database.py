"""The SQL database: tables, and plugin functions that are swapped under running queries.

::

    db = Database(runtime)
    db.register("fields", "fields.parquet")
    with db.query("SELECT geo.area(radius) FROM fields WHERE day = $1", [3]) as result:
        for batch in result: ...

A query is planned in the epoch that is current when it begins, and runs to its end on that epoch's
code, even if its plugins are reloaded meanwhile; the next query gets the new code. Planning never
sees a mix of epochs, and no plugin function is missing during a reload.

Which thread reads and writes what
----------------------------------

``_running`` is a dict keyed by identity. The calling thread adds a query, and the thread that ends
the query removes it; one step each. `close` sets ``_closed`` *before* it reads ``_running``, and a
query is added *before* ``_closed`` is read: one of the two stops a query that begins during
`close`.
"""

from __future__ import annotations

import atexit
import re
from dataclasses import dataclass
from functools import lru_cache, partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import HostError
from epochal.kinds.index import index
from epochal.kinds.storage import storage
from epochal.sql.catalog import plugin_tables, schema_of
from epochal.sql.engine_refs import EngineRefs
from epochal.sql.execution import EndReason, Execution
from epochal.sql.function_registry import index_of, signatures
from epochal.sql.off_thread import BatchFetcher
from epochal.sql.parameters import bind
from epochal.sql.planning import Planner, resolve
from epochal.sql.planning_threads import PlanningThreads
from epochal.sql.plugin_tables import PluginTable
from epochal.sql.query import Query, plugins_of
from epochal.sql.sql_scan import scan
from epochal.sql.tables import CsvForm, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
    from os import PathLike
    from pathlib import Path
    from typing import TypeAlias

    from epochal import Epoch, Operation
    from epochal.runtime import Runtime
    from epochal.sql.result import Result
    from epochal.sql.sql_scan import Scan
    from epochal.sql.tables import Snapshot

    Parameters: TypeAlias = Mapping[str, Any] | Iterable[Any]

_MAX_LABEL: Final = 200
_MAX_READ: Final = 1000
_MAX_LABELS: Final = 256
_HIDDEN: Final = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|$)|"(?:[^"]|"")*"|(?<!\w)[eE]'(?:[^'\\]|''|\\.)*'?|'(?:[^']|'')*'?"""
    r"""|\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|$)|(?<![\w$."])\d[\w.]*""",
    re.DOTALL,
)
"""Comments, quoted names, texts and numbers."""
_EXIT_TIMEOUT_S: Final = 10.0
_EXIT_GRACE_S: Final = 0.05


class Database:
    """Answers SQL queries over registered tables, with the functions of a runtime's plugins.

    It answers queries and changes nothing: statements that create, insert or set are refused (a
    view made by SQL would keep the functions that it was made with past every reload). It is safe
    for any number of threads and tasks. Within `with rt.operation(…)` it works in that operation's
    epoch, elsewhere in the current one.

    Args:
        runtime: the runtime whose plugins' functions the SQL may call.
        partitions: into how many parts, each on its own thread, the engine splits a query; None for
            one per processor.
        memory: bytes that a query's sorts, groups and joins may hold at once; beyond, they spill to
            disk where they can, or the query fails. None for no limit. (A value that a function
            makes, `repeat('x', n)` for example, does not count.)
    """

    def __init__(
        self, runtime: Runtime, *, partitions: int | None = None, memory: int | None = None
    ) -> None:
        self._runtime: Final = runtime
        self._tables: Final = Tables()
        self._planner: Final = Planner(self._tables, partitions, memory)
        self._planning_threads: Final = PlanningThreads()
        self._fetcher: Final = BatchFetcher()
        self._engine_refs: Final = EngineRefs()
        self._running: Final[dict[int, Execution]] = {}
        self._closed = False
        _databases.add(self)

    # --- tables and functions ----------------------------------------------------------------

    def register(
        self,
        name: str,
        source: Any | str | PathLike[str],
        *,
        schema: pa.Schema | None = None,
        delimiter: str = ",",
        header: bool = True,
    ) -> None:
        """Add a table, or replace the one of that name.

        Replacing is one step: a query sees the old table or the new one, the same one in all places
        that name it, and never none. Running queries keep the table that they were planned with.

        Args:
            name: its name in SQL. SQL reads names in lower case unless they are quoted, so a name
                with capitals must be quoted there.
            source: a `pyarrow.Table` or `RecordBatch`, or any object with `__arrow_c_stream__`; or
                the path of a file, or of a folder with files of one format: Parquet, CSV, TSV,
                JSON (one object per line, or in a file one array of objects, which is read at
                once), Arrow IPC or Feather; CSV and JSON also compressed (`.csv.gz`). Each query
                lists and reads the files again. Or the address of a table that a plugin serves,
                `lite:///data/shop.db?table=orders` (quote the path with `urllib.parse.quote` if
                it contains # ? or %): the plugin of the query's own epoch opens it for each query
                that names it (see `epochal.kinds.storage`).
            schema: columns of files; None to infer them (from the first 1,000 rows of text
                formats).
            delimiter: the character between the fields of a CSV file.
            header: whether a CSV or TSV file begins with the names of its columns.

        Raises:
            HostError: the source does not exist, has an unknown format, or cannot be read.
        """
        try:
            if isinstance(source, str) and _is_address(source):
                self._register_address(name, source, schema)
            else:
                self._tables.put(name, source, schema, CsvForm(delimiter, header))
        except HostError as error:
            raise HostError(f"table {name!r}: {error}") from error.__cause__
        self._planner.drop_plans()

    def _register_address(self, name: str, uri: str, schema: pa.Schema | None) -> None:
        if schema is not None:
            raise HostError("schema= is for files; a plugin's table has its own")
        schema_of(uri, self._runtime.snapshot())
        self._tables.put_uri(name, uri)

    def deregister(self, name: str) -> None:
        """Remove a table; running queries keep it.

        Raises:
            HostError: no table of that name is registered.
        """
        self._tables.drop(name)
        self._planner.drop_plans()

    @property
    def tables(self) -> Mapping[str, pa.Schema]:
        """The registered tables and their columns.

        Plugins' tables are opened in the caller's epoch, which takes as long as the plugins take.
        Those that cannot be opened are left out; `described` has the reasons.
        """
        return {
            name: schema
            for name, schema in self.described().items()
            if isinstance(schema, pa.Schema)
        }

    def described(self) -> Mapping[str, pa.Schema | HostError]:
        """Every registered table with its columns, or with the error that opening it raised.

        An error of one plugin's table does not affect the other tables.
        """
        snapshot, epoch = self._tables.current, self._runtime.snapshot()
        described: dict[str, pa.Schema | HostError] = {
            name: table.schema for name, table in snapshot.tables.items()
        }
        for name, uri in snapshot.uris.items():
            try:
                described[name] = schema_of(uri, epoch)
            except HostError as error:
                described[name] = HostError(f"table {name!r}: {error}")
        return described

    def functions(self) -> list[str]:
        """The SQL signature of each plugin function in the caller's epoch."""
        return signatures(self._runtime.snapshot())

    def build_index(
        self, name: str, sql: str, params: Parameters | None = None, *, folder: Path | None = None
    ) -> int:
        """Build a plugin's index over the rows of a query; the previous build serves until then.

        Args:
            name: the index's full name, `plugin.name`.
            sql: the query to index; the index defines the columns that it needs. It gets at least
                one batch, which is empty if the query has no rows.
            params: as for `query`.
            folder: where to keep the index, to open it after a restart
                (`epoch[index][name].open`); None for a temporary place.

        Returns:
            The number of indexed rows.

        Raises:
            UnknownExportError: no active plugin has such an index.
            FunctionError: the index failed to build or to persist; the plugin's exception is the
                cause.
            QueryError: the SQL is invalid.
        """
        epoch = self._runtime.snapshot()
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
            if is_empty:  # the index learns at least which columns there are
                yield pa.RecordBatch.from_pylist([], result.schema)

        with self.query(sql, params) as result:
            handle.build(counted(), folder=folder)
        return rows

    # --- queries -----------------------------------------------------------------------------

    def query(
        self,
        sql: str,
        params: Parameters | None = None,
        *,
        timeout: float | None = None,
        epoch: Epoch | None = None,
    ) -> Result:
        """Begin a query. A function that a query calls cannot query in turn.

        Args:
            sql: one SQL query. Plugin functions are called by their full names, `geo.distance(…)`.
            params: values for `$1`, `$2`, … in order, or by name for `$name`. They are bound as
                values, never inserted into the text.
            timeout: seconds that the query may take, from now to its last batch; None for no limit.
            epoch: the epoch whose functions it calls: of an operation, a stage, or another process
                (`epochal.worker`); None for the caller's.

        Returns:
            Its result, which streams.

        Raises:
            QueryError: the SQL is invalid, is refused, or names something that does not exist.
            FunctionError: a function was called during planning (a table function, or a function of
                constants that is not volatile) and failed.
            QueryTimeoutError: planning took too long.
            HostError: the database or its runtime is closed; or (`OperationEndedError`) the
                operation that the caller belongs to has ended, or has dropped its epoch.
        """
        query = self._begin(sql, params, timeout, epoch)
        if timeout is None:
            return query.start()
        try:
            return self._planning_threads.run(query.start, query.execution)
        except BaseException:
            query.execution.stop(EndReason.CANCELLED)  # Ctrl-C; after a failure, does nothing
            raise

    async def aquery(
        self,
        sql: str,
        params: Parameters | None = None,
        *,
        timeout: float | None = None,
        epoch: Epoch | None = None,
        then: Callable[[Result], object] | None = None,
    ) -> Result:
        """`query` for event loops: plans on another thread and never blocks the loop.

        A small query (one that reads a few thousand rows of tables in memory, without a join) runs
        there as well, so that its rows are there when they are read. Cancelling the task that
        reads the result stops the query.

        Args:
            sql: as for `query`.
            params: as for `query`.
            timeout: as for `query`.
            epoch: as for `query`.
            then: is called with the result on the thread that planned it, before this returns, and
                may read it there if it is small (`Result.is_small`): for hosts that make an answer
                of it. What it raises is raised here.

        Raises:
            QueryError: as `query`; and `BusyError` when too many are being planned.
        """
        query = self._begin(sql, params, timeout, epoch)
        query.is_read_at_once = then is not None
        try:
            return await self._planning_threads.arun(query, then)
        except BaseException:
            # A task that is cancelled; after a failure, which has ended the query, it does nothing.
            query.execution.stop(EndReason.CANCELLED)
            raise

    def prepare(self, sql: str) -> Prepared:
        """Keep a query's SQL, to run it many times.

        Each execution runs in the caller's epoch, over the tables that are current. It pins nothing
        in between, and outside of an operation it always runs the newest code. (The plan of a text
        that comes again in one epoch is kept, with `query` as well; see `kept_plans`.)
        """
        return Prepared(self, sql)

    def _begin(
        self, sql: str, params: Parameters | None, timeout: float | None, epoch: Epoch | None
    ) -> Query:
        scanned = scan(sql)
        values = bind(params, scanned.parameters)
        snapshot = self._tables.current
        # Not `or`: an epoch without exports is an empty dictionary.
        operation = self._runtime.operation(
            _label(sql), epoch=self._runtime.snapshot() if epoch is None else epoch
        )
        try:
            query = self._pin(operation, sql, scanned, values, snapshot, timeout)
        except BaseException:
            operation.end()
            raise
        execution = query.execution
        # Added before `_closed` is read, and `close` does the two in the opposite order: one of the
        # two sees the other.
        self._running[id(execution)] = execution
        if self._closed:
            execution.stop(EndReason.DATABASE_CLOSED)
            raise HostError("this database is closed")
        return query

    def _pin(
        self,
        operation: Operation,
        sql: str,
        scanned: Scan,
        values: dict[str, pa.Scalar],
        snapshot: Snapshot,
        timeout: float | None,
    ) -> Query:
        """Take the exports that the query needs out of the epoch, and let the epoch go."""
        epoch = operation.epoch
        index = index_of(epoch)
        cache = self._planner.cache_of(epoch)
        resolved = cache.resolved(sql, partial(resolve, sql, scanned, index, epoch))
        targets: dict[Hashable, Any] = {
            function.key: function.callable_of(epoch) for function in resolved.functions
        }
        tables: dict[str, PluginTable | HostError] = {}
        plugins: Iterable[str] = resolved.plugins
        if snapshot.uris and (tables := plugin_tables(snapshot.uris, sql, epoch)):
            served = [table for table in tables.values() if isinstance(table, PluginTable)]
            targets |= {table.key: epoch[storage][table.export] for table in served}
            plugins = plugins_of(resolved, served)
        operation.narrow(plugins)
        execution = Execution(
            operation,
            targets,
            sql=operation.label,
            timeout=timeout,
            parameters=values,
            engine_refs=self._engine_refs,
            caller=self._runtime.current_operation(),
            on_end=self._ended,
        )
        return Query(
            planner=self._planner,
            fetcher=self._fetcher,
            operation=operation,
            execution=execution,
            resolved=resolved,
            plugin_tables=tables,
            cache=cache,
            index=index,
            epoch=cache.epoch,
            snapshot=snapshot,
        )

    def _ended(self, execution: Execution) -> None:
        self._running.pop(id(execution), None)
        self._planner.release(execution)

    # --- the end -----------------------------------------------------------------------------

    def stop_oldest(self) -> str | None:
        """End the query that has run longest, for a host that is short of memory.

        Its reader gets a `BusyError`: the query may be an innocent one.

        Returns:
            Its SQL; None if no query runs.
        """
        for execution in self._running.copy().values():
            if execution.stop(EndReason.NO_MEMORY):
                return execution.sql
        return None

    def close(self, timeout: float = 10.0) -> bool:
        """Stop every running query, refuse new ones, and drop the tables.

        Args:
            timeout: seconds to wait for the engine, mainly for calls of plugin functions under way.

        Returns:
            Whether the engine holds nothing any more. (If the process exits while a plugin's
            function runs on a thread of the engine, it aborts.)
        """
        # Before `_running` is read: see `_begin`.
        self._closed = True
        for execution in self._running.copy().values():
            execution.stop(EndReason.DATABASE_CLOSED)
        self._tables.clear()
        self._planner.forget()
        deadline = monotonic() + timeout
        self._fetcher.close(timeout)
        return self._engine_refs.wait_empty(max(0.0, deadline - monotonic()))

    def forget_plans(self) -> None:
        """Drop the plans that are kept for texts that come again."""
        self._planner.drop_plans()

    @property
    def is_in_engine(self) -> bool:
        """Whether the engine holds any object of this database's queries.

        Of ended ones too, and of plans that are kept for texts that come again.
        """
        return not self._engine_refs.is_empty

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._running)} queries running"
        tables = self._tables.current
        return f"<database of {len(tables.tables) + len(tables.uris)} tables, {state}>"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query to be run many times; made by `Database.prepare`.

    Each execution runs in the caller's epoch, over the tables that are current then: after a reload
    it runs the new code, and in between it pins nothing.

    Attributes:
        sql: the query.
    """

    _database: Database
    sql: str

    def execute(self, params: Parameters | None = None, *, timeout: float | None = None) -> Result:
        """Plan it in the caller's epoch and begin it; see `Database.query`."""
        return self._database.query(self.sql, params, timeout=timeout)

    async def aexecute(
        self, params: Parameters | None = None, *, timeout: float | None = None
    ) -> Result:
        """`execute` for event loops; see `Database.aquery`."""
        return await self._database.aquery(self.sql, params, timeout=timeout)


def _is_address(source: str) -> bool:
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.lower() != "file" and scheme.isascii()


def _shown(found: re.Match[str]) -> str:
    """A quoted name as it is, a comment as nothing, a literal as a question mark."""
    text: str = found[0]
    return {'"': text, "-": " ", "/": " "}.get(text[0], "?")


def _label(sql: str) -> str:
    """A query's text in logs and reports: in one line, short, and without its literals.

    Literals are data, and often of persons, so they are left out.
    """
    return _label_of(sql if len(sql) <= _MAX_READ else sql[:_MAX_READ])


@lru_cache(_MAX_LABELS)
def _label_of(sql: str) -> str:
    line = " ".join(_HIDDEN.sub(_shown, sql).split())
    return line if len(line) <= _MAX_LABEL else f"{line[: _MAX_LABEL - 1]}…"


_databases: Final[WeakRegistry[Database]] = WeakRegistry()


def is_any_in_engine() -> bool:
    """Whether the engine holds any object of any database's queries: see `Database.close`."""
    return any(database.is_in_engine for database in _databases.live())


def _close_all() -> None:
    databases = _databases.live()
    for database in databases:
        database.forget_plans()
    was_busy = is_any_in_engine()
    for database in databases:
        database.close(_EXIT_TIMEOUT_S)
    if was_busy:
        # The engine has dropped our functions. The rest of a plan, such as columns in NumPy's
        # memory, takes it a moment more, and needs the interpreter too.
        sleep(_EXIT_GRACE_S)


atexit.register(_close_all)
