"""Hooks and pluggy's, pauses of services, indexes opened or rebuilt, and plugins' tables."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

import pluggy
from pyarrow import dataset, parquet

from benchmarks.figure import (
    Figure,
    compare_ns,
    from_repeats,
    interleaved,
    percentile,
    ratios,
)
from epochal import Runtime
from epochal.artifact import Artifact
from epochal.demo.data import load_flights
from epochal.examples import path
from epochal.kinds import service
from epochal.kinds.hook import Hook
from epochal.sql import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

event = Hook("bench.event")
_RELOADS = 300
_BUILDS = 3
_REOPENS = 30
_VECTOR_ROWS = 20_000  # fewer than all: building a graph of neighbours takes long
_QUERIES = {
    "all of a column": "SELECT sum(distance) FROM {table}",
    "by a number": "SELECT count(*), sum(distance) FROM {table} WHERE air_time > 200",
    "a month": "SELECT count(*), sum(distance) FROM {table} WHERE month = 7",
}
_TEXTS = (
    "SELECT row_number() OVER () AS id, "
    "concat_ws(' ', carrier, tailnum, origin, dest) AS words FROM flights"
)
_VECTORS = (
    "SELECT row_number() OVER () AS id, make_array(CAST(month AS DOUBLE), CAST(day AS DOUBLE), "
    "CAST(distance AS DOUBLE), CAST(air_time AS DOUBLE)) AS v "
    "FROM flights WHERE air_time IS NOT NULL LIMIT {rows}"
)
_PLUGIN = b"""
# /// plugin
# id = "bench"
# version = "1.0.0"
# ///
import threading
from benchmarks.kinds import event
from epochal.kinds import service

@event
def take_part(x):
    return x

@service
class counter:
    def __init__(self):
        self.state = bytearray(10_000_000)
        self.lock = threading.Lock()
        self.count = 0
    def hit(self):
        with self.lock:
            self.count += 1
            return self.count
    def export_state(self):
        return self.state, self.count
    def import_state(self, state, from_version):
        self.state, self.count = state
"""


def measure() -> Iterator[Figure]:
    """Yield the figures of hooks, services, indexes and tables."""
    artifact = Artifact("bench", {"bench.py": _PLUGIN})
    with Runtime() as rt:
        rt.load(artifact)
        names = {"event": event, "rt": rt, "hook": _pluggy().hook}
        ours, theirs = compare_ns("event.call(rt.epoch, 1)", "hook.take_part(x=1)", names)
        yield from_repeats(
            "a hook with one implementation / pluggy's", ratios(ours, theirs), "x", 0.5
        )
    with Runtime() as rt:
        rt.load(artifact)
        pauses, lost = _pauses_ms(rt, artifact)
    yield Figure("pause of a service with 10 MB of state, p50", percentile(pauses, 0.5), "ms")
    name = f"the same, p99 of {_RELOADS} reloads under calls"
    yield Figure(name, percentile(pauses, 0.99), "ms", 10.0)
    yield Figure("counts lost meanwhile", lost, "", 0)
    yield from _indexes()
    yield from _tables()


def _tables() -> Iterator[Figure]:
    """Yield query times on a folder of Parquet, on the engine's own reader, and on SQLite."""
    flights = load_flights().select(["carrier", "month", "distance", "air_time"])
    with TemporaryDirectory() as folder, Runtime() as rt, Database(rt) as db:
        home = Path(folder)
        dataset.write_dataset(
            flights,
            home / "parts",
            format="parquet",
            partitioning=["month"],
            partitioning_flavor="hive",
        )
        parquet.write_table(flights, home / "flights.parquet")
        _write_sqlite(flights, home / "flights.db")
        rt.load(path("partitions"))
        rt.load(path("lite"))
        db.register("own", home / "flights.parquet")
        db.register("folder", f"partitions://{home / 'parts'}")
        db.register("file", f"lite://{home / 'flights.db'}?table=flights")
        for query, sql in _QUERIES.items():
            ours, own = interleaved(
                _timed_query(db, sql.format(table="folder")),
                _timed_query(db, sql.format(table="own")),
                1,
                30,
            )
            yield Figure(f"a folder of Parquet, {query}", median(ours) / 1e6, "ms")
            name = f"the same, {query} / a Parquet file that the engine reads itself"
            yield from_repeats(name, ratios(ours, own), "x")
            run = _timed_query(db, sql.format(table="file"))
            yield Figure(f"a file of SQLite, {query}", median(map(run, [1] * 10)) * 1000.0, "ms")


def _write_sqlite(flights: pa.Table, file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(
            "CREATE TABLE flights (carrier TEXT, month INTEGER, distance REAL, air_time REAL)"
        )
        rows = zip(*(column.to_pylist() for column in flights.columns), strict=True)
        database.executemany("INSERT INTO flights VALUES (?, ?, ?, ?)", rows)
        database.execute("CREATE INDEX by_month ON flights (month)")


def _timed_query(db: Database, sql: str) -> Callable[[int], float]:
    def run(loops: int) -> float:
        return sum(_seconds(lambda: db.query(sql).rows()) for _ in range(loops))

    return run


def _indexes() -> Iterator[Figure]:
    """Yield building and reopening times: flights as text, and their numbers as vectors."""
    yield from _index("fulltext", "text", _TEXTS)
    yield from _index("vectors", "near", _VECTORS.format(rows=_VECTOR_ROWS))


def _index(plugin: str, name: str, sql: str) -> Iterator[Figure]:
    columns = ["carrier", "tailnum", "origin", "dest", "month", "day", "distance", "air_time"]
    with Runtime() as rt, Database(rt) as db:
        db.register("flights", load_flights().select(columns))
        rt.load(path(plugin))
        builds = [_seconds(lambda: db.build_index(f"{plugin}.{name}", sql)) for _ in range(_BUILDS)]
        reloads = [_seconds(lambda: rt.reload(plugin)) for _ in range(_REOPENS)]
        pauses = [rt.reload(plugin).swaps[0].pause_ms or 0.0 for _ in range(_REOPENS)]
        (rows,) = db.query(f"SELECT count(*) FROM ({sql})").rows()[0]
    build, whole = median(builds), median(reloads)
    yield Figure(f"{plugin}: building the index of {rows:,} flights", build, "s")
    yield Figure(f"{plugin}: the whole reload, index opened", whole * 1000.0, "ms")
    yield Figure(f"{plugin}: of that opening it, the pause", median(pauses), "ms")
    # As a share of building, not the inverse: a goal in this file is a value to stay below.
    yield Figure(f"{plugin}: reload / building again", whole / build, "x", 0.05)


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _pluggy() -> pluggy.PluginManager:
    class Spec:
        @pluggy.HookspecMarker("bench")
        def take_part(self, x: int) -> int: ...

    class Plugin:
        @pluggy.HookimplMarker("bench")
        def take_part(self, x: int) -> int:
            return x

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Spec)
    manager.register(Plugin())
    return manager


def _pauses_ms(rt: Runtime, artifact: Artifact) -> tuple[list[float], int]:
    """The pause of each reload while two threads call, and the number of lost calls."""
    stop = threading.Event()
    calls: list[int] = []

    def work() -> None:
        count = 0
        while not stop.wait(0.0002):
            rt.epoch[service]["bench.counter"].hit()
            count += 1
        calls.append(count)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    pauses = [rt.reload("bench", artifact).swaps[0].pause_ms or 0.0 for _ in range(_RELOADS)]
    stop.set()
    for thread in threads:
        thread.join()
    counted = rt.epoch[service]["bench.counter"].hit() - 1
    return pauses, abs(sum(calls) - counted)
