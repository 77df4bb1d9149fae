"""Makes the engine's contexts, all with one configuration.

(`trial_child` runs this file without the package around it.)
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext, SQLOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

_THREADS_PER_PROCESSOR: Final = 4
_MIN_THREADS: Final = 16
"""The engine's threads. It yields between batches only, and a join of two large tables without a
condition runs for minutes within one: such a query, which nothing can stop, keeps a thread or two,
and on one thread for each processor no other query would be answered meanwhile."""

_THREADS_VARIABLE: Final = "TOKIO_WORKER_THREADS"
"""The engine reads it when its first statement starts its threads."""

_start_lock: Final = threading.Lock()
_is_started = False  # set and read under `_start_lock`
_is_awaiting = False  # set by any event loop
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_lock._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001

QUERIES_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
"""A view or a prepared statement of the engine would keep the functions that it was made with past
every reload; and a database that answers queries needs no writes."""


def new_context(
    partitions: int | None = None, memory: int | None = None, *, optimises: bool = True
) -> SessionContext:
    """Make a context.

    Args:
        partitions: into how many parts, each on its own thread, the engine splits its work; None
            for one per processor.
        memory: bytes that its operators (sorts, groups, joins) may hold at once, before they spill
            to disk or fail; None for no limit.
        optimises: whether it optimises logical plans; False for those that are optimised. These
            have found their functions, and the context has none: the engine copies the names of
            all of them for each query, which takes 20 µs.
    """
    config = (
        SessionConfig()
        .with_information_schema(True)
        # Strings are plain strings: plugin functions take these, and string views would be
        # converted for every batch.
        .set("datafusion.execution.parquet.schema_force_view_types", "false")
        .set("datafusion.sql_parser.map_string_types_to_utf8view", "false")
        # A folder is read with its subfolders.
        .set("datafusion.execution.listing_table_ignore_subdirectory", "false")
    )
    if not optimises:
        config = config.set("datafusion.optimizer.max_passes", "0")
    if partitions is not None:
        config = config.with_target_partitions(partitions)
    runtime = RuntimeEnvBuilder().with_disk_manager_os()
    if memory is not None:
        runtime = runtime.with_fair_spill_pool(memory)
    context = SessionContext(config, runtime)
    _start_engine()
    # With the cache, each context would remember a folder's files as it first saw them, and two
    # queries could see different ones.
    context.sql("SET datafusion.runtime.list_files_cache_limit = '0K'")
    if not optimises:
        for kind, names in _built_in_functions().items():
            for name in names:
                getattr(context, _DEREGISTER[kind])(name)
    return context


_DEREGISTER: Final = {
    "SCALAR": "deregister_udf",
    "AGGREGATE": "deregister_udaf",
    "WINDOW": "deregister_udwf",
}


@cache
def _built_in_functions() -> dict[str, list[str]]:
    """The names of the engine's own functions, by their kind."""
    listed = "SELECT DISTINCT function_type, routine_name FROM information_schema.routines"
    rows = [row for batch in new_context().sql(listed).collect() for row in batch.to_pylist()]
    return {
        kind: [row["routine_name"] for row in rows if row["function_type"] == kind]
        for kind in _DEREGISTER
    }


def engine_threads() -> int:
    """The number of the engine's threads, for all queries."""
    if (given := os.environ.get(_THREADS_VARIABLE)) is not None:
        return int(given)
    return max(_MIN_THREADS, _THREADS_PER_PROCESSOR * (os.cpu_count() or 1))


def _start_engine() -> None:
    """Start the engine's threads, unless the host has done so, or has said how many."""
    global _is_started
    with _start_lock:
        if _is_started:
            return
        _is_started = True
        with _threads_named():
            SessionContext().sql("SELECT 1").collect()


async def start_awaiting() -> None:
    """Start the threads that await batches for event loops, before the first batch.

    They run the last part of a plan, and are others than those of `_start_engine`: with one for
    each processor, as many calls that hang would hold up every event loop's query.
    """
    global _is_awaiting
    if not _is_awaiting:
        with _threads_named():
            await SessionContext().sql("SELECT 1").execute_stream().__anext__()
        _is_awaiting = True


@contextmanager
def _threads_named() -> Iterator[None]:
    """Tell the engine how many threads to start, unless the host has."""
    if _THREADS_VARIABLE in os.environ:
        yield
        return
    os.environ[_THREADS_VARIABLE] = str(engine_threads())
    try:
        yield
    finally:
        os.environ.pop(_THREADS_VARIABLE, None)
