"""The cost of a plugin's function in a query, compared with plain DataFusion."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import datafusion
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.figure import Figure, from_repeats, percentile, ratios, sized
from epochal import Runtime
from epochal.demo.data import load_flights
from epochal.sql import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROWS = sized(3_000_000, 500_000)
_REPEATS = sized(21, 5)
_SMALL = sized(300, 50)
_WINDOW_S = float(sized(5, 1))
_ROUNDS = sized(5, 1)

_FLIGHTS = """\
SELECT origin, carrier, sum(geo.area(CAST(distance AS DOUBLE), CAST(air_time AS DOUBLE)))
FROM flights GROUP BY origin, carrier"""

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
    """The plugin's function again, for plain DataFusion."""
    return pc.multiply(pc.sqrt(a), pc.add(b, 1.0))


def measure() -> Iterator[Figure]:
    """Yield queries large and small, by turns with plain DataFusion; then reloads, plans."""

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
        0.98,
        higher=True,
    )
    yield from _small()
    yield from _under_reloads(load_flights())
    yield from _planning()


def _small() -> Iterator[Figure]:
    """Yield small queries through `query` and `aquery` against plain DataFusion, by turns."""
    table = pa.table({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]})
    context = datafusion.SessionContext()
    context.register_record_batches("t", [table.to_batches()])
    context.register_udf(_plain_area("volatile", "geo.area"))
    texts = {
        "a constant": "SELECT geo.area(1.5, 2.5)",
        "three rows": "SELECT geo.area(a, b) FROM t",
    }
    with TemporaryDirectory() as folder, Runtime() as rt:
        rt.load(_written(Path(folder) / "geo.py"))
        with Database(rt) as db:
            db.register("t", table)
            for name, sql in texts.items():
                yield from _small_query(name, db, context, sql)
            name, sql = "with parameters", "SELECT geo.area(a, $1) FROM t WHERE b > $2"
            yield from _small_query(name, db, context, sql, lambda n: [float(n), n % 3.0])


def _small_query(
    name: str,
    db: Database,
    context: datafusion.SessionContext,
    sql: str,
    values: Callable[[int], list[float]] = lambda _: [],
) -> Iterator[Figure]:
    prepared = db.prepare(sql)

    def plain() -> None:
        for number in range(_SMALL):
            named = {str(position): value for position, value in enumerate(values(number), 1)}
            context.sql(sql, param_values=named).collect()

    def query() -> None:
        for number in range(_SMALL):
            prepared.execute(values(number)).to_table()

    async def aquery() -> None:
        for number in range(_SMALL):
            await (await prepared.aexecute(values(number))).ato_table()

    clocks = [_clocked(work) for work in (plain, query, lambda: asyncio.run(aquery()))]
    turns = [[clock() for clock in clocks] for _ in range(_REPEATS + 1)][1:]
    theirs, ours, awaited = (list(times) for times in zip(*turns, strict=True))
    ms = [seconds / _SMALL * 1e3 for seconds in theirs]
    yield from_repeats(f"small query, {name}: plain DataFusion", ms, "ms")
    yield from_repeats(f"small query, {name}: query / plain", ratios(ours, theirs), "x", 1.15)
    yield from_repeats(f"small query, {name}: aquery / plain", ratios(awaited, theirs), "x", 1.6)


def _under_reloads(flights: pa.Table) -> Iterator[Figure]:
    """Yield rows a second and query times, quiet and at three rates of reloads, by turns.

    Each query computes a figure for every airport and carrier of the demonstration's flights.
    """
    rates = (0, 1, 10, 50)
    rows: dict[int, list[float]] = {rate: [] for rate in rates}
    times: dict[int, list[float]] = {rate: [] for rate in rates}
    with TemporaryDirectory() as folder, Runtime() as rt:
        rt.load(_written(Path(folder) / "geo.py"))
        with Database(rt) as db:
            db.register("flights", flights)
            for _ in range(_ROUNDS):
                for rate in rates:
                    with _reloading(rt, rate):
                        count, taken = _window(db)
                    rows[rate].append(count * flights.num_rows / _WINDOW_S)
                    times[rate] += taken
    quiet = percentile(times[0], 0.99)
    yield from_repeats("flights: rows a second, quiet", [r / 1e6 for r in rows[0]], "M/s")
    yield Figure("flights: query p99, quiet", quiet * 1e3, "ms")
    for rate in rates[1:]:
        shares = ratios(rows[rate], rows[0])
        name = f"at {rate} reloads a second"
        yield from_repeats(f"flights: rows a second {name} / quiet", shares, "x", higher=True)
        yield Figure(
            f"flights: query p99 {name} / quiet", percentile(times[rate], 0.99) / quiet, "x"
        )


def _window(db: Database) -> tuple[int, list[float]]:
    taken: list[float] = []
    started = time.perf_counter()
    while (began := time.perf_counter()) < started + _WINDOW_S:
        _drain(db.query(_FLIGHTS))
        taken.append(time.perf_counter() - began)
    return len(taken), taken


@contextmanager
def _reloading(rt: Runtime, rate: int) -> Iterator[None]:
    ended = threading.Event()

    def run() -> None:
        while rate and not ended.wait(1.0 / rate):
            rt.reload("geo", drain_timeout=0.0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _planning() -> Iterator[Figure]:
    """Yield the time from a new epoch to its first plan, by the number of functions."""
    function = "\n\n@scalar\ndef f{n}(x: float) -> float:\n    return x\n"
    for count in (10, 100, 1_000):
        with TemporaryDirectory() as folder, Runtime() as rt:
            path = Path(folder) / "many.py"
            head = '# /// plugin\n# id = "many"\n# version = "1"\n# ///\n'
            text = f"{head}from epochal.kinds import scalar\n"
            path.write_text(text + "".join(function.format(n=n) for n in range(count)))
            rt.load(path)
            with Database(rt) as db:
                taken = []
                for _ in range(20):
                    rt.reload("many")
                    began = time.perf_counter()
                    db.query("SELECT many.f1(1.0)").close()
                    taken.append((time.perf_counter() - began) * 1e3)
                yield from_repeats(f"first plan of an epoch of {count:,} functions", taken, "ms")


def _written(path: Path) -> Path:
    path.write_text(PLUGIN)
    return path


def _drain(result: object) -> None:
    for _ in result:  # type: ignore[attr-defined]  # a Result
        pass


def _plain(table: pa.Table) -> Callable[[], object]:
    context = datafusion.SessionContext()
    context.register_record_batches("t", [table.to_batches()])
    context.register_udf(_plain_area("volatile", "area"))
    return lambda: context.sql("SELECT sum(area(a, b)) FROM t").collect()


def _plain_area(volatility: str, name: str) -> datafusion.ScalarUDF:
    return datafusion.udf(area, [pa.float64(), pa.float64()], pa.float64(), volatility, name)


def _clocked(work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run
