"""The cost of starting: imports, commands, and pytest runs that do not use the plugin.

Each is a process of its own, by turns with the one that it is compared with. Processor time is
compared, of the user and of the system: a busy machine stretches the clock's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, from_repeats, ratios, sized

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TURNS = sized(31, 5)
_PYTEST_TURNS = sized(15, 3)
_EPOCHAL = ("-m", "epochal.cli")
_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""Bytecode is kept, as it is where a package is installed: the first turn writes it."""


def measure() -> Iterator[Figure]:
    """Yield the figures of imports, of commands, and of pytest."""
    ours, runtime, theirs = _by_turns(
        _TURNS,
        ("-c", "import epochal"),
        ("-c", "from epochal import Runtime"),
        ("-c", "import pluggy"),
        minus=("-c", "pass"),
    )
    yield from_repeats("import pluggy", [each * 1e3 for each in theirs], "ms")
    yield from_repeats("import epochal / import pluggy", ratios(ours, theirs), "x", 2.5)
    yield from_repeats("from epochal import Runtime / import pluggy", ratios(runtime, theirs), "x")
    shown, queried = _by_turns(
        _TURNS, (*_EPOCHAL, "--help"), (*_EPOCHAL, "query", "SELECT 1"), minus=None
    )
    yield from_repeats("epochal --help, processor time", shown, "s", 0.3)
    yield from_repeats('epochal query "SELECT 1", processor time', queried, "s", 0.8)
    with TemporaryDirectory() as folder:
        Path(folder, "test_nothing.py").write_text("def test_nothing():\n    assert True\n")
        run = ("-m", "pytest", "-q", "-p", "no:cacheprovider", folder)
        installed, blocked = _by_turns(_PYTEST_TURNS, run, (*run, "-p", "no:epochal"), minus=None)
    added = [a - b for a, b in zip(installed, blocked, strict=True)]
    yield from_repeats("a pytest run without our fixtures, more than without us", added, "s", 0.03)


def _by_turns(
    turns: int, *commands: Sequence[str], minus: Sequence[str] | None
) -> tuple[list[float], ...]:
    """Seconds of processor time of each command, a value for each turn; the first warms up."""
    taken: tuple[list[float], ...] = tuple([] for _ in commands)
    for turn in range(turns + 1):
        base = _processor_s(minus) if minus is not None else 0.0
        for values, command in zip(taken, commands, strict=True):
            value = _processor_s(command) - base
            if turn:
                values.append(value)
    return taken


def _processor_s(command: Sequence[str]) -> float:
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime
