"""The suite with late threads, in another order: `make late`.

A busy machine may leave a thread anywhere, for long, and no promise may depend on the place. So
each thread begins late here, and continues late after it has waited on a condition, at random; and
the seed decides the order of the tests. A test that fails only here has found a race in the code,
or it depends on a fast machine or on another test.

The programs of tests/interleavings are left out: they order all their steps themselves.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_OFTEN, _SELDOM = 0.3, 0.01
_SELDOM_TIMES = 6


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("late", "late threads")
    group.addoption("--late-seed", type=int, default=1, help="of the order and the delays")
    group.addoption("--late-ms", type=float, default=50.0, help="the longest of the usual delays")


def pytest_configure(config: pytest.Config) -> None:
    _be_late(random.Random(config.option.late_seed), config.option.late_ms / 1000.0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ordered = [item for item in items if item.path.parent.name == "interleavings"]
    items[:] = [item for item in items if item.path.parent.name != "interleavings"]
    config.hook.pytest_deselected(items=ordered)
    random.Random(config.option.late_seed).shuffle(items)


def _be_late(choose: random.Random, longest_s: float) -> None:
    def be_late() -> None:
        by_chance = choose.random()
        if by_chance < _SELDOM:
            time.sleep(longest_s * _SELDOM_TIMES)
        elif by_chance < _OFTEN:
            time.sleep(choose.uniform(0.0, longest_s))

    begin = threading.Thread.run

    def run(self: threading.Thread) -> None:
        be_late()
        begin(self)

    make = threading.Condition.__init__

    def init(self: Any, lock: Any = None) -> None:
        make(self, lock)
        go_on = self._acquire_restore  # the end of a wait; the lock is not held yet

        def acquire_restore(state: object) -> None:
            # Not the main thread: pytest runs in it, and every test would be slow.
            if not sys.is_finalizing() and threading.current_thread() is not _MAIN:
                be_late()
            go_on(state)

        self._acquire_restore = acquire_restore

    threading.Thread.run = run  # type: ignore[method-assign]
    threading.Condition.__init__ = init  # type: ignore[method-assign]


_MAIN = threading.main_thread()
