"""How costs grow with plugins, with the depth and width of requirements, and with holders."""

from __future__ import annotations

import gc
import importlib
import statistics
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, from_repeats, ratios, sized
from epochal import Runtime
from epochal.kinds import scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIZES = (10, 100, 1_000, 10_000)[: sized(4, 3)]
_EXPORTS = 10
_RELOADS = sized(30, 10)
_IMPORTED = sized(1_000, 200)
_ROUNDS = sized(5, 2)
_HOLDERS = (1, 10, 100, 1_000, 10_000)[: sized(5, 4)]
_LINKED = (10, 100, 500)[: sized(3, 2)]

_HEAD = '# /// plugin\n# id = "{id}"\n# version = "1"\n# requires = [{requires}]\n# ///\n'
_BODY = "from epochal.kinds import scalar\n" + "".join(
    f"\n\n@scalar\ndef f{n}(x: float) -> float:\n    return x + {n}\n" for n in range(_EXPORTS)
)


def measure() -> Iterator[Figure]:
    """Yield the figures for plugins, then for graphs, then for holders."""
    yield from _plugins()
    yield from _against_import()
    yield from _graphs()
    yield from _holders()


def _write(folder: Path, plugin: str, requires: str = "") -> Path:
    path = folder / f"{plugin}.py"
    path.write_text(_HEAD.format(id=plugin, requires=requires) + _BODY)
    return path


@contextmanager
def _loaded(folder: Path, plugins: dict[str, str]) -> Iterator[Runtime]:
    paths = [_write(folder, plugin, requires) for plugin, requires in plugins.items()]
    with Runtime(drain_timeout=None) as rt:
        with rt.change() as change:
            for path in paths:
                change.load(path)
        yield rt


def _plugins() -> Iterator[Figure]:
    medians: dict[int, float] = {}
    for size in _SIZES:
        with TemporaryDirectory() as name:
            before, started = _resident_kib(), time.perf_counter()
            with _loaded(Path(name), {f"p{n}": "" for n in range(size)}) as rt:
                taken = (time.perf_counter() - started) * 1e3 / size
                memory = (_resident_kib() - before) / size
                reloads, publishes = _reloads(rt, "p3")
                call = _call_ns(rt)
        prefix = f"{size:,} plugins of {_EXPORTS} exports"
        medians[size] = statistics.median(reloads)
        yield Figure(f"{prefix}: load, each", taken, "ms")
        yield from_repeats(f"{prefix}: reload of one", reloads, "ms")
        yield from_repeats(f"{prefix}: publish", publishes, "ms")
        yield Figure(f"{prefix}: memory, each", memory, "KiB")
        yield Figure(f'{prefix}: epoch[kind]["name"](x)', call, "ns")
    ratio = medians[_SIZES[-1]] / medians[_SIZES[0]]
    yield Figure(f"reload of one among {_SIZES[-1]:,} / among {_SIZES[0]}", ratio, "x", 2.0)


def _reloads(rt: Runtime, plugin: str) -> tuple[list[float], list[float]]:
    taken, publishes = [], []
    for turn in range(_RELOADS + 5):
        started = time.perf_counter()
        cut = rt.reload(plugin)
        if turn >= 5:
            taken.append((time.perf_counter() - started) * 1e3)
            publishes.append(cut.phases_ms["publish"])
    return taken, publishes


def _call_ns(rt: Runtime) -> float:
    loops = 20_000
    started = time.perf_counter()
    for _ in range(loops):
        rt.epoch[scalar]["p3.f3"](1.0)
    return (time.perf_counter() - started) / loops * 1e9


def _against_import() -> Iterator[Figure]:
    """Compare loading plugins with importing the same modules; neither has bytecode on disk."""
    loads, imports = [], []
    setting, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    for _ in range(_ROUNDS):
        with TemporaryDirectory() as name:
            names = [f"module_{n}" for n in range(_IMPORTED)]
            paths = [_write(Path(name), plugin) for plugin in names]
            imports.append(_import(name, names))
            with Runtime() as rt:
                started = time.perf_counter()
                with rt.change() as change:
                    for path in paths:
                        change.load(path)
                loads.append(time.perf_counter() - started)
    sys.dont_write_bytecode = setting
    each = [seconds / _IMPORTED * 1e3 for seconds in imports]
    yield from_repeats("import of a module", each, "ms")
    name = f"load of {_IMPORTED:,} plugins / import of the same modules"
    yield from_repeats(name, ratios(loads, imports), "x", 2.5)


def _import(folder: str, names: list[str]) -> float:
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    started = time.perf_counter()
    for name in names:
        importlib.import_module(name)
    taken = time.perf_counter() - started
    sys.path.remove(folder)
    for name in names:
        del sys.modules[name]
    gc.collect()
    return taken


def _graphs() -> Iterator[Figure]:
    for size in _LINKED:
        chain = {f"p{n}": f'"p{n - 1}"' if n else "" for n in range(size)}
        star = {f"p{n}": '"p0"' if n else "" for n in range(size)}
        for shape, plugins in (("a chain", chain), ("a star", star)):
            with TemporaryDirectory() as name, _loaded(Path(name), plugins) as rt:
                taken = [_timed_reload(rt) / size for _ in range(3)]
            name = f"reload of the root of {shape} of {size}, each relinked"
            yield from_repeats(name, taken, "ms")


def _timed_reload(rt: Runtime) -> float:
    started = time.perf_counter()
    rt.reload("p0")
    return (time.perf_counter() - started) * 1e3


def _holders() -> Iterator[Figure]:
    for count in _HOLDERS:
        with TemporaryDirectory() as name, _loaded(Path(name), {"p0": ""}) as rt:
            operations = [rt.operation(f"holder {n}") for n in range(count)]
            old = rt.generation("p0")
            started = time.perf_counter()
            rt.reload("p0", drain_timeout=0.0)
            reload = (time.perf_counter() - started) * 1e3
            started = time.perf_counter()
            assert len(old.holders()) >= min(count, 20)
            look = (time.perf_counter() - started) * 1e3
            for operation in operations:
                operation.end()
        yield Figure(f"{count:,} operations in the way: reload that does not wait", reload, "ms")
        yield Figure(f"{count:,} operations in the way: holders()", look, "ms")


def _resident_kib() -> float:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return float(line.split()[1])
