"""Programs over the plugins' instances that a query holds, and the threads that close them.

The explored code is `Execution`, which hands closers to the cleanup threads, and a table in use
with its scans. A closer runs at once, in the thread that hands it on: a real cleanup thread runs it
later.
"""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from epochal.sql import execution as execution_module
from epochal.sql.execution import EndReason, Execution, StoppedError
from epochal.sql.plugin_tables import _TableInUse
from tests.interleavings.exploring import Program, every, replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TABLE: Any = SimpleNamespace(name="t", label="table t")
HOLDING = ("sql/execution.py", "interleavings/holding.py")
READING = ("sql/plugin_tables.py:_TableInUse", "interleavings/holding.py")


class ImmediateCleanup:
    """Replaces the cleanup threads: runs each closer in the calling thread."""

    def prepare(self) -> None:
        """Do nothing: there is no thread to start."""

    def schedule(self, name: str, close: Callable[[], Any]) -> None:
        """Run the closer."""
        close()


def immediate_cleanup() -> AbstractContextManager[Any]:
    return mock.patch.object(execution_module, "cleanup", ImmediateCleanup())


# --- a call against the end of its query ----------------------------------------------------------


def querying() -> SimpleNamespace:
    state = SimpleNamespace(inside=False, begun=0, ended=[])
    operation: Any = SimpleNamespace(on_cancel=lambda _: None, end=lambda: None)
    state.execution = Execution(operation, {}, sql="SELECT 1")

    def end_table() -> None:
        assert not state.inside, "closed while a call is inside"
        state.ended.append("table")

    state.execution.hold("table", state, end_table)
    return state


def beginning_a_scan(state: Any) -> None:
    def begin(_: Any) -> None:
        state.inside = True
        state.execution.hold("scan", state, lambda: state.ended.append("scan"))
        state.begun += 1
        state.inside = False

    with suppress(StoppedError):
        state.execution.call_held(TABLE, "table", begin)


def stopping(state: Any) -> None:
    state.execution.stop(EndReason.CLOSED)


def each_ended_once(state: Any) -> None:
    assert sorted(state.ended) == ["scan"] * state.begun + ["table"], (state.begun, state.ended)
    assert not state.execution._targets


def uncounted_call(self: Execution, *args: Any) -> Any:
    return self.call(*args)


def unchecked_hold(self: Execution, key: Any, instance: Any, end: Any = None) -> None:
    self._closers[key] = end
    self._targets[key] = instance


# --- the end of a table against the end of its scan -----------------------------------------------


def reading() -> SimpleNamespace:
    state = SimpleNamespace(closed=0, open_scans=1)

    def close() -> None:
        assert not state.open_scans, "closed while a scan is open"
        state.closed += 1

    table: Any = SimpleNamespace(close=close, scan=lambda *_: None)
    state.table = _TableInUse(table)
    state.table.begin(7, [], SimpleNamespace(filters=(), limit=None))
    return state


def ending_the_scan(state: Any) -> None:
    def close() -> None:
        state.open_scans -= 1

    state.table.end_scan(7, SimpleNamespace(close=close))


def ending_the_table(state: Any) -> None:
    state.table.end()


def closed_once(state: Any) -> None:
    assert state.closed == 1, state.closed


def check_then_end(self: _TableInUse) -> None:
    has_scans = bool(self._scans)
    self._is_ending = True
    if not has_scans:
        self._close_if_unused()


PROGRAMS = (
    Program(
        "hold-against-stop",
        "a query's end: an instance that a call stores meanwhile is closed, once",
        "`hold` does not check whether the query has ended",
        querying,
        (beginning_a_scan, stopping),
        each_ended_once,
        replaced(Execution, "hold", unchecked_hold),
        ci=every(1, at_least=140),
        soak=every(2, at_least=5000),
        where=HOLDING,
        around=immediate_cleanup,
    ),
    Program(
        "call-held-against-stop",
        "a query's end: no instance is closed while a call is inside",
        "calls into held instances are not counted",
        querying,
        (beginning_a_scan, stopping),
        each_ended_once,
        replaced(Execution, "call_held", uncounted_call),
        ci=every(1, at_least=140),
        soak=every(2, at_least=5000),
        where=HOLDING,
        around=immediate_cleanup,
    ),
    Program(
        "end-of-table-against-end-of-scan",
        "a table is closed once, after its last scan",
        "the table's end tests for open scans before it announces itself",
        reading,
        (ending_the_scan, ending_the_table),
        closed_once,
        replaced(_TableInUse, "end", check_then_end),
        ci=every(2, at_least=800),
        soak=every(4, at_least=1000),
        where=READING,
    ),
)
