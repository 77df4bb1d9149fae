"""The child process that plans SQL on trial; see `trial_planning`.

It is run as a file, without the package around it, which would double the time of its start. It
reads a request a line, in JSON, and answers each with a line. Before it answers, it may ask for the
columns of a table or of a table function's rows, and reads one line for each question.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import select
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datafusion import AggregateUDF, ScalarUDF, SessionContext, WindowUDF
from datafusion.catalog import Catalog, Table
from datafusion.user_defined import Accumulator, TableFunction, WindowEvaluator

if TYPE_CHECKING:
    from datafusion import SQLOptions
    from datafusion.expr import Expr

_IDLE_S = 60.0

_UNFOLDED = re.compile(
    r"\b(?:repeat|lpad|rpad|range|generate_series|array_repeat|array_resize)\([^()@]*\)"
)
"""A call without a column (`a@0`) that is left in a plan. The engine computes it as it plans; if it
cannot, since the value takes too much memory, it leaves the call to the execution."""

_MAX_PLAN = 1_000_000
"""Characters of a plan; a CUBE of 14 columns has a few more, and takes half a gigabyte to run."""

_loader = SessionContext()


def main(cpu_s: float, memory: int) -> None:
    """Plan texts until there is none for a minute, or no parent."""
    contexts = _contexts()
    warm_up: dict[str, Any] = {"sql": "SELECT 1", "parameters": None, "functions": []}
    _plan(contexts.new_context(), contexts.QUERIES_ONLY, warm_up)
    _limit_memory(memory)
    _tell({"ask": "ready"})
    while select.select([sys.stdin], [], [], _IDLE_S)[0]:
        line = sys.stdin.readline()
        if not line:
            break
        request = json.loads(line)
        context = contexts.new_context(request["partitions"])
        error = None
        _limit_processor(cpu_s)
        try:
            _plan(context, contexts.QUERIES_ONLY, request)
        except Exception as refused:  # noqa: BLE001  the parent raises it
            error = str(refused)
        _limit_processor(0.0)
        _tell({"ask": "end", "error": error})


def _plan(context: SessionContext, options: SQLOptions, request: dict[str, Any]) -> None:
    for stub in request["functions"]:
        _INSTALL[stub["kind"]](context, stub)
    catalog = Catalog.memory_catalog()
    catalog.register_schema("public", _Tables())  # type: ignore[arg-type]  # as in `catalog`
    context.register_catalog_provider("datafusion", catalog)
    parameters = _parameters(request["parameters"])
    frame = context.sql_with_options(request["sql"], options, param_values=parameters)
    plan = frame.execution_plan().display_indent()
    if len(plan) > _MAX_PLAN or _UNFOLDED.search(plan):
        os.abort()  # as the engine does where it cannot go on without the memory


class _Tables:
    """The tables of a query: empty ones, whose columns the parent knows."""

    table_names = ()
    owner_name = None

    def __init__(self) -> None:
        self._known: dict[str, Table | None] = {}

    def table_exist(self, name: str) -> bool:
        """Whether there is a table of that name."""
        return self.table(name) is not None

    def table(self, name: str) -> Table | None:
        """The table of that name; None for an unknown name."""
        if name not in self._known:
            schema = _ask({"ask": "table", "name": name})
            self._known[name] = None if schema is None else _empty_table(schema)
        return self._known[name]


def _ask(question: dict[str, Any]) -> pa.Schema | None:
    _tell(question)
    answer = json.loads(sys.stdin.readline())
    return None if answer is None else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer)))


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _empty_table(schema: pa.Schema) -> Table:
    return Table(_loader.read_batches([pa.RecordBatch.from_pylist([], schema)]))


def _parameters(encoded: str | None) -> dict[str, pa.Scalar]:
    if encoded is None:
        return {}
    (batch,) = pa.ipc.open_stream(base64.b64decode(encoded))
    return {name: column[0] for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _fields(encoded: str) -> list[pa.Field]:
    return list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded))))


# --- functions that have types and no code -------------------------------------------------------


def _install_scalar(context: SessionContext, stub: dict[str, Any]) -> None:
    *given, result = _fields(stub["fields"])
    nulls = partial(_nulls, result.type)
    context.register_udf(ScalarUDF(stub["name"], nulls, given, result, stub["volatility"]))


def _nulls(kind: pa.DataType, *columns: pa.Array) -> pa.Array:
    return pa.nulls(len(columns[0]) if columns else 1, kind)


def _install_aggregate(context: SessionContext, stub: dict[str, Any]) -> None:
    *given, result = (field.type for field in _fields(stub["fields"]))
    state = [field.type for field in _fields(stub["state"])]
    context.register_udaf(
        AggregateUDF(stub["name"], _Accumulator, given, result, state, "immutable")
    )


class _Accumulator(Accumulator):
    """Never runs: the child only plans."""

    def state(self) -> list[pa.Scalar]:
        """Nothing."""
        return []

    def update(self, *values: pa.Array) -> None:
        """Nothing."""

    def merge(self, states: list[pa.Array]) -> None:
        """Nothing."""

    def evaluate(self) -> pa.Scalar:
        """Nothing."""
        return pa.scalar(None)


def _install_window(context: SessionContext, stub: dict[str, Any]) -> None:
    *given, result = (field.type for field in _fields(stub["fields"]))
    context.register_udwf(WindowUDF(stub["name"], WindowEvaluator, given, result, "immutable"))


def _install_table(context: SessionContext, stub: dict[str, Any]) -> None:
    def produce(*arguments: Expr) -> Table:
        encoded = [base64.b64encode(argument.to_bytes()).decode() for argument in arguments]
        schema = _ask({"ask": "rows", "name": stub["name"], "arguments": encoded})
        assert schema is not None
        return _empty_table(schema)

    context.register_udtf(TableFunction(stub["name"], produce))


_INSTALL = {
    "scalar": _install_scalar,
    "aggregate": _install_aggregate,
    "window": _install_window,
    "table": _install_table,
}


# --- bounds --------------------------------------------------------------------------------------


def _limit_memory(more: int) -> None:
    """Let this process grow by so many bytes; beyond, the engine aborts it."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):  # not on Linux: the bound on time remains
        pass


def _limit_processor(seconds: float) -> None:
    """Have the system end this process after so much processor time; 0 for no limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _contexts() -> Any:
    """The module beside this one that makes contexts, without the package around it."""
    spec = importlib.util.spec_from_file_location(
        "contexts", Path(__file__).with_name("contexts.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
