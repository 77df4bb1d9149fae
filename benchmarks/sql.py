"""What a plugin's function costs a query, against the same function in plain DataFusion."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import datafusion
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.figure import Figure, from_repeats, ratios
from epochal import Runtime
from epochal.sql import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROWS = 3_000_000
_REPEATS = 15

PLUGIN = """\
# /// plugin
# id = "geo"
# version = "1.0.0"
# ///
import pyarrow as pa
import pyarrow.compute as pc

from epochal.kinds import scalar


@scalar(vectorized=True)
def area(a: pa.float64(), b: pa.float64()) -> pa.float64():
    return pc.multiply(pc.sqrt(a), pc.add(b, 1.0))
"""


def area(a: pa.Array, b: pa.Array) -> pa.Array:
    """The very same function, for plain DataFusion."""
    return pc.multiply(pc.sqrt(a), pc.add(b, 1.0))


def measure() -> Iterator[Figure]:
    """Throughput of the same query on the same table, by turns."""

    table = pa.table(
        {
            "a": pa.array(range(_ROWS), pa.float64()),
            "b": pa.array(range(_ROWS), pa.float64()),
        }
    )
    with TemporaryDirectory() as folder, Runtime() as rt:
        rt.load(_written(Path(folder) / "geo.py"))
        with Database(rt) as db:
            db.register("t", table)
            ours = _clocked(lambda: _drain(db.query("SELECT sum(geo.area(a, b)) FROM t")))
            theirs = _clocked(_plain(table))
            pairs = [(theirs(), ours()) for _ in range(_REPEATS + 1)][1:]
    plain, plugin = [a for a, _ in pairs], [b for _, b in pairs]
    yield from_repeats(
        "throughput with a plugin scalar / plain DataFusion",
        ratios(plain, plugin),
        "x",
        0.97,
        higher=True,
    )


def _written(path: Path) -> Path:
    path.write_text(PLUGIN)
    return path


def _drain(result: object) -> None:
    for _ in result:  # type: ignore[attr-defined]  # a Result
        pass


def _plain(table: pa.Table) -> Callable[[], object]:
    context = datafusion.SessionContext()
    context.register_record_batches("t", [table.to_batches()])
    arguments = [pa.float64(), pa.float64()]
    context.register_udf(datafusion.udf(area, arguments, pa.float64(), "immutable", "area"))
    return lambda: context.sql("SELECT sum(area(a, b)) FROM t").collect()


def _clocked(work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run
