"""The cost of starting: imports, commands, and pytest runs that do not use the plugin.

Each is a process of its own, by turns with the one that it is compared with. Processor time is
compared, of the user and of the system: a busy machine stretches the clock's. (Until a service is
ready, the clock's is.)
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, from_repeats, ratios, sized
from benchmarks.plugin import source
from epochal import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TURNS = sized(31, 5)
_PYTEST_TURNS = sized(41, 3)
_RESTARTS = sized(9, 2)
_PLUGINS = 100
_EPOCHAL = ("-m", "epochal.cli")
_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""Bytecode is kept, as it is where a package is installed: the first turn writes it."""
_ENVIRONMENT["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of others vary by more than ours costs


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
        installed, blocked = _by_turns(
            _PYTEST_TURNS, (*run, "-p", "epochal.pytest_plugin"), run, minus=None
        )
    stored, empty = _restarts()
    yield from_repeats("epochal serve on an empty store, start to ready", empty, "s")
    name = f"epochal serve with {_PLUGINS} stored plugins / on an empty store, start to ready"
    yield from_repeats(name, ratios(stored, empty), "x", 1.5)
    added = [a - b for a, b in zip(installed, blocked, strict=True)]
    yield from_repeats("a pytest run without our fixtures, more than without us", added, "s", 0.03)


def _restarts() -> tuple[list[float], list[float]]:
    """Seconds from the start of a service until it is ready, of both stores, by turns."""
    stored: list[float] = []
    empty: list[float] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        with Runtime(store=folder / "stored") as rt, rt.change() as change:
            for number in range(_PLUGINS):
                path = folder / f"plugin{number}.py"
                path.write_text(source(300).replace('"geo"', f'"plugin{number}"'))
                change.load(path)
        for turn in range(_RESTARTS + 1):
            pair = _ready_s(folder / "stored"), _ready_s(folder / "empty")
            if turn:
                stored.append(pair[0])
                empty.append(pair[1])
    return stored, empty


def _ready_s(store: Path) -> float:
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *_EPOCHAL, "serve", "--store", str(store), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    taken = time.perf_counter() - started
    process.terminate()
    process.communicate(timeout=60)
    if not line.startswith(b"Epochal serves at"):
        raise RuntimeError(f"the service did not start: {line!r}")
    return taken


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
