"""Programs over what a query holds of plugins' instances, and who ends it.

The code that meets is stepped through: `Execution`, which hands ends on, and the table of a query
with its scans. What is handed on is run at once, in the thread that does it: the threads that do so
in life only come later.
"""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from epochal.sql import execution as module
from epochal.sql.execution import EndReason, Execution, StoppedError
from epochal.sql.plugin_tables import _Reading
from tests.interleavings.exploring import Program, every, replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TABLE: Any = SimpleNamespace(name="t", label="table t")
HOLDING = ("sql/execution.py", "interleavings/holding.py")
READING = ("sql/plugin_tables.py:_Reading", "interleavings/holding.py")


class AtOnce:
    """In place of the threads that end things."""

    def prepare(self) -> None:
        """There is nothing to start."""

    def schedule(self, name: str, close: Callable[[], Any]) -> None:
        """Run it."""
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
        at.execution.visit(TABLE, "table", begin)


def stopping(at: Any) -> None:
    at.execution.stop(EndReason.CLOSED)


def each_ended_once(at: Any) -> None:
    assert sorted(at.ended) == ["scan"] * at.begun + ["table"], (at.begun, at.ended)
    assert not at.execution._targets


def visit_uncounted(self: Execution, *args: Any) -> Any:
    return self.call(*args)


def hold_without_looking(self: Execution, key: Any, instance: Any, end: Any = None) -> None:
    self._held[key] = end
    self._targets[key] = instance


# --- the end of a table against the end of its scan -----------------------------------------------


def reading() -> SimpleNamespace:
    at = SimpleNamespace(closed=0, open_scans=1)

    def close() -> None:
        assert not at.open_scans, "closed while it is scanned"
        at.closed += 1

    table: Any = SimpleNamespace(close=close, scan=lambda *_: None)
    at.table = _Reading(table)
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


def end_looking_first(self: _Reading) -> None:
    has_scans = bool(self._scans)
    self._is_over = True
    if not has_scans:
        self._close_if_over()


PROGRAMS = (
    Program(
        "hold-against-stop",
        "a query's end: what a call holds meanwhile is ended, once",
        "hold does not look whether the query has ended",
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
        "visit-against-stop",
        "a query's end: nothing is ended while a call is inside",
        "calls into what is held are not counted",
        querying,
        (beginning_a_scan, stopping),
        each_ended_once,
        replaced(Execution, "visit", visit_uncounted),
        ci=every(1, at_least=140),
        soak=every(2, at_least=5000),
        where=HOLDING,
        around=at_once,
    ),
    Program(
        "end-of-table-against-end-of-scan",
        "a table is closed once, after its last scan",
        "the table's end looks for scans before it says that it is over",
        reading,
        (ending_the_scan, ending_the_table),
        closed_once,
        replaced(_Reading, "end", end_looking_first),
        ci=every(2, at_least=800),
        soak=every(4, at_least=1000),
        where=READING,
    ),
)
