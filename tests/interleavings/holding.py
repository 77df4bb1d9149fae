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

from epochal.sql import execution as module
from epochal.sql.execution import EndReason, Execution, StoppedError
from epochal.sql.plugin_tables import _TableInUse
from tests.interleavings.exploring import Program, every, replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TABLE: Any = SimpleNamespace(name="t", label="table t")
HOLDING = ("sql/execution.py", "interleavings/holding.py")
READING = ("sql/plugin_tables.py:_TableInUse", "interleavings/holding.py")


class AtOnce:
    """Replaces the cleanup threads."""

    def prepare(self) -> None:
        """Do nothing: there is no thread to start."""

    def schedule(self, name: str, close: Callable[[], Any]) -> None:
        """Run the closer."""
        close()


def at_once() -> AbstractContextManager[Any]:
    return mock.patch.object(module, "cleanup", AtOnce())


# --- a call against the end of its query ----------------------------------------------------------


def querying() -> SimpleNamespace:
    at = SimpleNamespace(inside=False, begun=0, ended=[])
    operation: Any = SimpleNamespace(on_cancel=lambda _: None, end=lambda: None)
    at.execution = Execution(operation, {}, sql="SELECT 1")

    def end_table() -> None:
        assert not at.inside, "ended while a call is inside"
        at.ended.append("table")

    at.execution.hold("table", at, end_table)
    return at


def beginning_a_scan(at: Any) -> None:
    def begin(_: Any) -> None:
        at.inside = True
        at.execution.hold("scan", at, lambda: at.ended.append("scan"))
        at.begun += 1
        at.inside = False

    with suppress(StoppedError):
        at.execution.call_held(TABLE, "table", begin)


def stopping(at: Any) -> None:
    at.execution.stop(EndReason.CLOSED)


def each_ended_once(at: Any) -> None:
    assert sorted(at.ended) == ["scan"] * at.begun + ["table"], (at.begun, at.ended)
    assert not at.execution._targets


def call_uncounted(self: Execution, *args: Any) -> Any:
    return self.call(*args)


def hold_without_looking(self: Execution, key: Any, instance: Any, end: Any = None) -> None:
    self._closers[key] = end
    self._targets[key] = instance


# --- the end of a table against the end of its scan -----------------------------------------------


def reading() -> SimpleNamespace:
    at = SimpleNamespace(closed=0, open_scans=1)

    def close() -> None:
        assert not at.open_scans, "closed while it is scanned"
        at.closed += 1

    table: Any = SimpleNamespace(close=close, scan=lambda *_: None)
    at.table = _TableInUse(table)
    at.table.begin(7, [], SimpleNamespace(filters=(), limit=None))
    return at


def ending_the_scan(at: Any) -> None:
    def close() -> None:
        at.open_scans -= 1

    at.table.end_scan(7, SimpleNamespace(close=close))


def ending_the_table(at: Any) -> None:
    at.table.end()


def closed_once(at: Any) -> None:
    assert at.closed == 1, at.closed


def end_looking_first(self: _TableInUse) -> None:
    has_scans = bool(self._scans)
    self._is_ending = True
    if not has_scans:
        self._close_if_unused()


PROGRAMS = (
    Program(
        "hold-against-stop",
        "a query's end: an instance that a call holds meanwhile is closed, once",
        "`hold` does not check whether the query has ended",
        querying,
        (beginning_a_scan, stopping),
        each_ended_once,
        replaced(Execution, "hold", hold_without_looking),
        ci=every(1, at_least=140),
        soak=every(2, at_least=5000),
        where=HOLDING,
        around=at_once,
    ),
    Program(
        "call-held-against-stop",
        "a query's end: no instance is closed while a call is inside",
        "calls into held instances are not counted",
        querying,
        (beginning_a_scan, stopping),
        each_ended_once,
        replaced(Execution, "call_held", call_uncounted),
        ci=every(1, at_least=140),
        soak=every(2, at_least=5000),
        where=HOLDING,
        around=at_once,
    ),
    Program(
        "end-of-table-against-end-of-scan",
        "a table is closed once, after its last scan",
        "the table's end looks for scans before it announces itself",
        reading,
        (ending_the_scan, ending_the_table),
        closed_once,
        replaced(_TableInUse, "end", end_looking_first),
        ci=every(2, at_least=800),
        soak=every(4, at_least=1000),
        where=READING,
    ),
)
