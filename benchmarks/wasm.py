"""WebAssembly plugins: a batch, one row, two threads, the end of an endless call, a start."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import timeit
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as compute
import wasmtime

from benchmarks.figure import Figure, from_repeats, interleaved, ratios, sized
from epochal import Runtime
from epochal.artifact import Artifact, embed_manifest
from epochal.errors import GuestTimeoutError
from epochal.kinds import scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROWS = 8192
_REPEATS = sized(15, 3)
_EXAMPLES = Path(__file__).parents[1] / "examples/wasm"
_HEADER = Path(__file__).parents[1] / "src/epochal/cli/templates/wasm"
_SPIN = """(module (memory (export "memory") 1) (func (export "epochal_interface_1"))
  (func (export "spin") (param i32 i32) (result i32) (loop $l (br $l)) (i32.const 0))
  (func (export "work") (param i32 i32) (result i32) (local $n i32)
    (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $n) (i32.const 100000000))))
    (i32.const 0)))"""
_SPIN_MANIFEST = """id = "spin"
version = "1.0"
[exports.scalar]
spin = "(a: int64) -> int64"
work = "(a: int64) -> int64"
"""


def measure() -> Iterator[Figure]:
    """Yield the figures; haversine in C only where `ziglang` is installed."""
    spin = _packed("spin", bytes(wasmtime.wat2wasm(_SPIN)), _SPIN_MANIFEST)
    with Runtime(grants={"*", "call_timeout:20ms"}) as rt:
        rt.load(spin)
        yield from_repeats("endless call ended after its limit", _lateness(rt), "ms", 5.0)
    with Runtime() as rt:
        rt.load(_numbers())
        rt.load(spin)
        add = rt.epoch[scalar]["numbers.add"]
        column = pa.array([float(n) for n in range(_ROWS)])
        ours, python = interleaved(
            timeit.Timer(lambda: add(column, column)).timeit,
            timeit.Timer(lambda: _by_row(column)).timeit,
            sized(20, 3),
            _REPEATS,
        )
        yield from_repeats(
            "f64, f64 -> f64, 8,192 rows, against a Python scalar", ratios(ours, python), "", 0.12
        )
        one = pa.array([1.0])
        taken = timeit.repeat(lambda: add(one, one), number=1000, repeat=_REPEATS)
        yield from_repeats("call with one row", [s * 1000 for s in taken], "µs", 60.0)
        yield from_repeats(
            "work of two threads on two processors, against one",
            [_two_threads(rt.epoch[scalar]["spin.work"]) for _ in range(_REPEATS)],
            "times",
            1.7,
            higher=True,
        )
        module = _haversine()
        if module is not None:
            rt.load(module)
            distance = rt.epoch[scalar]["geo.distance"]
            given = [pa.array([n * 0.01 for n in range(_ROWS)])] * 4
            ours, arrow = interleaved(
                timeit.Timer(lambda: distance(*given)).timeit,
                timeit.Timer(lambda: _by_arrow(*given)).timeit,
                sized(20, 3),
                _REPEATS,
            )
            yield from_repeats(
                "haversine in C, 8,192 rows, against pyarrow", ratios(ours, arrow), "", 1.6
            )
    yield from_repeats("load of a plugin whose code the store has", _loads(), "ms", 10.0)


def _packed(plugin: str, module: bytes, manifest: str) -> Artifact:
    return Artifact(plugin, {f"{plugin}.wasm": embed_manifest(module, manifest.encode())})


def _numbers() -> Artifact:
    module = bytes(wasmtime.wat2wasm((_EXAMPLES / "numbers.wat").read_text()))
    return _packed("numbers", module, (_EXAMPLES / "numbers.toml").read_text())


def _add(a: float, b: float) -> float:
    return a + b


def _by_row(column: pa.Array) -> pa.Array:
    """The work of a Python scalar, without the engine's."""
    values = column.to_pylist()
    return pa.array([_add(a, b) for a, b in zip(values, values, strict=True)], pa.float64())


def _by_arrow(lat1: pa.Array, lon1: pa.Array, lat2: pa.Array, lon2: pa.Array) -> pa.Array:
    pc: Any = compute
    factor = 0.017453292519943295
    a, b = pc.multiply(lat1, factor), pc.multiply(lat2, factor)
    u = pc.sin(pc.divide(pc.subtract(b, a), 2.0))
    v = pc.sin(pc.multiply(pc.subtract(lon2, lon1), factor / 2))
    h = pc.add(pc.multiply(u, u), pc.multiply(pc.multiply(pc.cos(a), pc.cos(b)), pc.multiply(v, v)))
    return pc.multiply(pc.asin(pc.sqrt(h)), 2 * 6371.0088)


def _haversine() -> Artifact | None:
    with TemporaryDirectory() as folder:
        module = Path(folder) / "geo.wasm"
        target = ["-target", "wasm32-freestanding", "-O2", "-nostdlib", "-Wl,--no-entry"]
        compiler = [sys.executable, "-m", "ziglang", "cc", *target, "-I", str(_HEADER)]
        done = subprocess.run(
            [*compiler, "-o", module, _EXAMPLES / "geo.c"], capture_output=True, check=False
        )
        if done.returncode:
            return None
        return _packed("geo", module.read_bytes(), (_EXAMPLES / "geo.toml").read_text())


def _lateness(rt: Runtime) -> list[float]:
    late = []
    spin = rt.epoch[scalar]["spin.spin"]
    for _ in range(4):  # the breaker opens at the fifth
        started = time.perf_counter()
        try:
            spin(1)
        except GuestTimeoutError:
            late.append((time.perf_counter() - started) * 1000 - 20)
    return late


def _two_threads(work: Callable[[int], object]) -> float:
    started = time.perf_counter()
    work(1)
    alone = time.perf_counter() - started
    threads = [threading.Thread(target=work, args=(1,)) for _ in range(2)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 2 * alone / (time.perf_counter() - started)


def _loads() -> list[float]:
    """The reload of a plugin in a new process's place: nothing compiled is in this process."""
    taken = []
    with TemporaryDirectory() as folder, Runtime(store=Path(folder) / "store") as rt:
        rt.load(_numbers())
        for _ in range(_REPEATS):
            rt.remove("numbers")
            gc.collect()  # the compiled code of this process goes with its last generation
            cutover = rt.load(_numbers())
            taken.append(cutover.phases_ms["link"])
    return taken
