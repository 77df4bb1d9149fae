"""One real distribution as a plugin: loaded, called from several threads, reloaded twenty times."""

from __future__ import annotations

import gc
import statistics
import threading
import time
import weakref
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from epochal import Runtime
from tests.conftest import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.realcode.catalogue import Case

RELOADS = 20
CALLERS = 3
_COMPILED = (".so", ".pyd", ".pyc")


@dataclass(slots=True)
class Outcome:
    """The measurements of one distribution.

    Attributes:
        distribution: its name.
        version: the installed version.
        reloads: how often it is reloaded.
        files: how many files the plugin's artifact has.
        kib: their size, in KiB.
        modules: how many modules a generation loads.
        reload_ms: the duration of each reload.
        calls: how many calls returned while reloads were under way.
        faults: errors and wrong results of calls.
        reclaimed: how many old generations were reclaimed.
        survivors: how many functions and classes of old generations a collection left alive.
        leaks: the leaks in the reports of the reloads.
    """

    distribution: str
    version: str
    reloads: int
    files: int = 0
    kib: int = 0
    modules: int = 0
    reload_ms: list[float] = field(default_factory=list)
    calls: int = 0
    faults: list[str] = field(default_factory=list)
    reclaimed: int = 0
    survivors: int = 0
    leaks: set[str] = field(default_factory=set)

    @property
    def median_ms(self) -> float:
        """The median duration of a reload."""
        return statistics.median(self.reload_ms)

    @property
    def is_fully_reclaimed(self) -> bool:
        """Whether every old generation was reclaimed, and nothing of it is left."""
        return self.reclaimed == self.reloads and not self.survivors and not self.leaks


def carry_out(case: Case, folder: Path, reloads: int = RELOADS) -> Outcome:
    """Load, call and reload one distribution.

    Args:
        case: the distribution.
        folder: its plugin is written there.
        reloads: how often it is reloaded.
    """
    outcome = Outcome(case.distribution, metadata.version(case.distribution), reloads)
    path = write_plugin(case, folder)
    with Runtime(drain_timeout=60.0, phase_timeout=60.0) as rt:
        rt.load(path)
        files = rt.generation(case.plugin).candidate.artifact.files
        outcome.files, outcome.kib = len(files), sum(map(len, files.values())) // 1024
        threads = _Callers(rt, case)
        refs: list[weakref.ref[Any]] = []
        try:
            for _ in range(reloads):
                threads.let_each_call()
                refs += _code_of(rt, case.plugin)
                started = time.perf_counter()
                cut = rt.reload(case.plugin)
                outcome.reload_ms.append((time.perf_counter() - started) * 1e3)
                outcome.reclaimed += cut.drained and cut.reclaimed
                outcome.leaks.update(map(str, cut.leaks))
        finally:
            threads.end()
        outcome.calls, outcome.faults = threads.calls, threads.faults
        outcome.modules = len(_modules(rt, case.plugin))
        gc.collect()
        outcome.survivors = sum(ref() is not None for ref in refs)
    return outcome


class _Callers:
    """Threads that call the plugin all the time, each through epochs that it captures."""

    def __init__(self, rt: Runtime, case: Case) -> None:
        self.calls = 0
        self.faults: list[str] = []
        self._lock = threading.Lock()
        self._called = threading.Condition(self._lock)
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(rt, case), daemon=True) for _ in range(CALLERS)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, rt: Runtime, case: Case) -> None:
        # The short rest leaves the machine to the reload: callers that never rest would measure how
        # the interpreter shares its lock.
        while not self._ended.wait(0.02):
            with rt.operation("real code") as epoch:
                for _ in range(2):  # an epoch is one world for as long as it is held
                    self._call(epoch, case)
            del epoch

    def _call(self, epoch: Any, case: Case) -> None:
        fault = None
        try:
            result = epoch[tool][f"{case.plugin}.use"]()
            if result != case.returns:
                fault = f"returned {result!r}"
        except BaseException as error:  # noqa: BLE001  the test asserts that there are none
            fault = f"{type(error).__name__}: {error}"
        with self._called:
            self.calls += 1
            if fault is not None:
                self.faults.append(fault)
            self._called.notify_all()

    def let_each_call(self) -> None:
        """Wait until each thread may have called twice since now."""
        with self._called:
            until = self.calls + 2 * CALLERS
            assert self._called.wait_for(lambda: self.calls >= until, timeout=60)

    def end(self) -> None:
        """End the threads after their calls."""
        self._ended.set()
        for thread in self._threads:
            thread.join(60)


def _modules(rt: Runtime, plugin: str) -> list[Any]:
    return list(rt.generation(plugin)._namespace.modules.values())


def _code_of(rt: Runtime, plugin: str) -> list[weakref.ref[Any]]:
    """Every function and class of the current generation, weakly."""
    return [
        weakref.ref(value)
        for module in _modules(rt, plugin)
        for value in list(vars(module).values())
        if isinstance(value, (FunctionType, type)) and value.__module__ == module.__name__
    ]


# --- the plugin ----------------------------------------------------------------------------------


def write_plugin(case: Case, folder: Path) -> Path:
    """Write a plugin that carries a distribution and what that needs."""
    root = folder / case.plugin
    for name in (case.distribution, *case.carries):
        for source, relative in _files_of(name):
            target = root / "_vendor" / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    (root / "__init__.py").write_text(case.source)
    (root / "plugin.toml").write_text(
        f'id = "{case.plugin}"\nversion = "{metadata.version(case.distribution)}"\n'
        'vendored = "_vendor"\n'
    )
    return root


def _files_of(name: str) -> Iterator[tuple[Path, Path]]:
    """The files of an installed distribution, without its commands and compiled accelerators."""
    files = metadata.files(name)
    assert files, f"{name} is not installed: make setup"
    for file in files:
        if ".." not in file.parts and not file.name.endswith(_COMPILED):
            yield Path(str(file.locate())), Path(*file.parts)
