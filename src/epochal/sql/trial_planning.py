"""Plans suspicious SQL in a child process first, with bounds on processor time and memory.

The problem: a short text may have an enormous plan (see `complexity`). Planning runs in native
code, and nothing stops it: no other thread, no time limit. It goes on until the memory is used up,
and then the process dies.

The idea: a text that looks as if its plan might explode is planned in a child process first, over
tables and functions of the same types that have no rows and no code. The system ends the child when
planning takes too much processor time or memory. A text that the child has planned is planned
here.

While the child plans, it asks for what the engine asks it for: the columns of a table, the columns
that a table function returns. So a plugin's table is opened only for a query that names it, and
each table function is called once.

The child starts with the first suspicious text, which costs about half a second, and ends when it
has had no work for a minute. Then a trial costs about what planning costs. A text that has passed
is remembered for as long as the tables stay the same.

Which thread reads and writes what
----------------------------------

Any thread takes a child from a pool's ``idle`` or puts one back: `pop` and `append` are one step
each. In between, a child belongs to that thread. ``_passed`` is a dict, whose entries any thread
reads and sets, one step each. A forked process makes a pool of its own, in place of the one whose
children are its parent's.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from datafusion import Expr

from epochal.errors import QueryError, format_error
from epochal.sql.function import encode_buffer, encode_schema
from epochal.sql.table_functions import TableProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from epochal.sql.catalog import QuerySchema
    from epochal.sql.execution import Execution
    from epochal.sql.planning import Resolved
    from epochal.sql.tables import Snapshot

    Replies: TypeAlias = Mapping[str, Callable[[dict[str, Any]], pa.Schema | None]]

PLANNING_CPU_S: Final = 0.7
PLANNING_BYTES: Final = 400 << 20
"""What planning one text may take; at the first bound a plan had about 10,000 nodes."""

_LOOK_S: Final = 0.05
"""A thread that waits for a child looks so often whether its query has ended."""

_MAX_PASSED: Final = 256


class TrialPlanner:
    """Plans texts on trial.

    Args:
        partitions: as the planner has it.
    """

    __slots__ = ("_partitions", "_passed", "_pool")

    def __init__(self, partitions: int | None) -> None:
        self._partitions: Final = partitions
        self._passed: Final[dict[str, weakref.ref[Snapshot]]] = {}
        self._pool = _Pool()

    def plan(
        self, resolved: Resolved, snapshot: Snapshot, schema: QuerySchema, execution: Execution
    ) -> None:
        """Plan a text on trial.

        Args:
            resolved: the SQL and its functions.
            snapshot: the tables that it sees.
            schema: opens them.
            execution: the query, which ends the wait when it ends.

        Raises:
            QueryError: planning takes too much time or memory, no child can be started, or the
                query has ended.
            RuntimeError: the engine refused it; the message is the engine's.
            Exception: raised by a plugin's table or table function.
        """
        stubs = [function.stub() for function in resolved.functions]
        request = {
            "sql": resolved.sql,
            "partitions": self._partitions,
            "functions": stubs,
            "parameters": _encode_parameters(execution.parameters),
        }
        line = json.dumps(request)
        if (seen := self._passed.get(line)) is not None and seen() is snapshot:
            return
        producers = {
            function.engine_name: function.adapter(execution)
            for function in resolved.functions
            if isinstance(function, TableProducer)
        }
        replies: Replies = {
            "table": lambda question: _table_schema(schema, question["name"]),
            "rows": lambda question: _row_schema(
                producers[question["name"]], question["arguments"]
            ),
        }
        self._plan_in_child(line, replies, execution)
        if not schema.opened and not producers:
            if len(self._passed) >= _MAX_PASSED:
                self._passed.clear()
            self._passed[line] = weakref.ref(snapshot)

    def close(self) -> None:
        """End the children that are idle."""
        self._pool.close()

    def _own_pool(self) -> _Pool:
        """The pool of this process, not of the process that it was forked from."""
        if self._pool.process != os.getpid():
            self._pool = _Pool()
        return self._pool

    def _plan_in_child(self, line: str, replies: Replies, execution: Execution) -> None:
        pool = self._own_pool()
        while not pool.free.acquire(timeout=_LOOK_S):
            execution.check()
        try:
            child = pool.take()
            try:
                refused = child.plan(line, replies, execution)
            except BaseException:
                child.kill()
                raise
            pool.idle.append(child)
        finally:
            pool.free.release()
        if refused is not None:
            raise RuntimeError(refused)


class _Pool:
    """The children of one process.

    Attributes:
        process: the process that started them.
        free: taken for as long as a child plans; a few suspicious texts may wait for each other, so
            that a flood of them leaves a processor to the other queries.
        idle: children without work, some of which may have ended.
    """

    def __init__(self) -> None:
        self.process: Final = os.getpid()
        self.free: Final = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) // 2))
        self.idle: Final[list[_Child]] = []

    def take(self) -> _Child:
        """A child that is alive, or a new one."""
        with suppress(IndexError):
            while True:
                child = self.idle.pop()
                if child.is_alive:
                    return child
                child.kill()
        return _Child()

    def close(self) -> None:
        """End the idle children."""
        if self.process == os.getpid():
            with suppress(IndexError):
                while True:
                    self.idle.pop().kill()

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_exiting():
            self.close()


class _Child:
    """A child process, and the pipes to it."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # -P: the modules beside the file would hide standard ones of the same names.
        command = [sys.executable, "-P", str(Path(__file__).with_name("trial_child.py"))]
        command += [str(PLANNING_CPU_S), str(PLANNING_BYTES)]
        try:
            self._process: Final = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C shall reach the serving process alone
            )
        except OSError as error:
            raise QueryError(
                "the SQL nests so deeply that it must be planned on trial in a process of its own, "
                f"which cannot be started: {format_error(error)}"
            ) from error
        self._received = b""
        self._is_ready = False

    @property
    def is_alive(self) -> bool:
        """Whether it runs; it ends by itself when there is no work."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()

    def plan(self, line: str, replies: Replies, execution: Execution) -> str | None:
        """Have it plan a text, and answer its questions.

        Returns:
            The engine's error message; None for success.
        """
        self._send(line)
        while True:
            message = self._receive(execution)
            if message["ask"] == "ready":
                self._is_ready = True
                continue
            if message["ask"] == "end":
                refused: str | None = message["error"]
                return refused
            schema = replies[message["ask"]](message)
            self._send(json.dumps(None if schema is None else encode_schema(schema)))

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # `_receive` sees the end
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _receive(self, execution: Execution) -> dict[str, Any]:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        while b"\n" not in self._received:
            if not waiting.poll(_LOOK_S * 1000.0):
                execution.check()
                continue
            part = os.read(pipe, 1 << 16)
            if not part:
                raise self._failure()
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _failure(self) -> QueryError:
        """The error for a child that ended instead of an answer."""
        status = self._process.wait()
        if self._is_ready:  # the processor's limit, or no memory, for which there are many statuses
            return QueryError(
                f"planning the SQL takes more than {PLANNING_CPU_S:g} s of processor time or "
                f"{PLANNING_BYTES >> 20} MiB; nest it less, or give parts of it as tables"
            )
        return QueryError(f"the process that plans nested SQL on trial failed with status {status}")


def _encode_parameters(parameters: Mapping[str, pa.Scalar]) -> str | None:
    if not parameters:
        return None
    batch = pa.RecordBatch.from_arrays(
        [pa.array([value.as_py()], value.type) for value in parameters.values()],
        names=list(parameters),
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return encode_buffer(sink.getvalue())


def _table_schema(schema: QuerySchema, name: str) -> pa.Schema | None:
    table = schema.table(name)
    return None if table is None else table.schema


def _row_schema(adapter: Callable[..., Any], arguments: list[str]) -> pa.Schema:
    given = [Expr.from_bytes(base64.b64decode(argument)) for argument in arguments]
    schema: pa.Schema = adapter(*given).schema
    return schema
