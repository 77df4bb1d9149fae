"""Programs over the last look, and code without a lease that is handed on while it goes on.

A relay has one runner at any time: each begins its successor, and then ends. So a look that finds
nobody has looked past it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from epochal._core.introspect import running_code
from tests.interleavings.exploring import Program, every

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from epochal._core.introspect.schedulers import SoughtCode

RUNNERS = 4
CODE = frozenset({0})
LOOKING = (
    "_core/introspect/running_code.py:find_stragglers",
    "_core/introspect/running_code.py:_RunningCodeLook",
    "interleavings/looking.py",
)


class Runner:
    """A task of the relay."""

    def __init__(self) -> None:
        self.has_ended = False


class RelayTable:
    """One scheduler's table of tasks; a task leaves it when it ends."""

    kind = "task"

    def __init__(self) -> None:
        self.tasks: dict[Runner, None] = {}

    def items(self) -> list[Any]:
        """A copy of the table."""
        return list(self.tasks)

    def place(self, item: Runner, code: SoughtCode) -> str | None:
        """The place of a task; None once it has ended."""
        return None if item.has_ended else "geo.py:7 in poll"

    def may_hide(self, item: Runner) -> bool:
        """It may have begun its successor."""
        return True

    def name(self, item: Runner) -> str:
        """A name."""
        return "poll"

    def context(self, item: Runner) -> None:
        """It has none."""

    def ident(self, item: Runner) -> None:
        """It has no thread."""


TABLES = (RelayTable(), RelayTable())


def beginning() -> SimpleNamespace:
    for table in TABLES:
        table.tasks.clear()
    first = Runner()
    TABLES[1].tasks[first] = None
    return SimpleNamespace(runner=first, found=None)


def relaying(state: Any) -> None:
    """Each runner begins the next one in the other table."""
    at = 1
    for _ in range(RUNNERS):
        successor = Runner()
        TABLES[1 - at].tasks[successor] = None
        state.runner.has_ended = True
        del TABLES[at].tasks[state.runner]
        state.runner, at = successor, 1 - at


def looking(state: Any) -> None:
    state.found = running_code.find_stragglers(CODE)


def was_found(state: Any) -> None:
    assert state.found, "a look past the relay"


def tables_alone() -> AbstractContextManager[Any]:
    return mock.patch.multiple(
        running_code, SCHEDULERS=TABLES, threads_inside=no_threads, threading=NO_THREADS
    )


def no_threads(_: frozenset[int]) -> Iterator[Any]:
    return iter(())


NO_THREADS = SimpleNamespace(enumerate=list)


def looking_once(globals_ids: frozenset[int], *, own: Any = None) -> Any:
    return running_code._RunningCodeLook(globals_ids, own).go_round()


def one_round() -> AbstractContextManager[Any]:
    return mock.patch.object(running_code, "find_stragglers", looking_once)


PROGRAMS = (
    Program(
        "look-against-successors",
        "E4: code that begins its successor and ends is found, in whatever table that is",
        "the look is not repeated",
        beginning,
        (relaying, looking),
        was_found,
        one_round,
        ci=every(1, at_least=100),
        soak=every(2, at_least=400),
        where=LOOKING,
        around=tables_alone,
    ),
)
