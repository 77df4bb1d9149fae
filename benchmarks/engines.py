"""The same query over three million rows in each engine, by turns with one process, and one row.

`python -m benchmarks.engines ray daft spark` needs these engines (and Java for Spark), and a
machine without other work: it prints the load with the figures. Each engine has two workers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from epochal import Runtime
from epochal.demo.scale import MEASURE, swap, write_files
from epochal.kinds import scalar
from epochal.sql import Database

ROWS, PARTS = 3_000_000, 8
ONE = "SELECT geo.chord(distance) AS chord FROM one"
INSIDE = """
SELECT origin, count(*) AS flights, sum(c) AS chords
FROM (SELECT origin, {}(distance) AS c FROM data) q GROUP BY origin"""

Query = Callable[[], list[tuple[Any, ...]]]


def in_one_process(rt: Runtime, data: Path, one: Path) -> tuple[Query, Query]:
    db = Database(rt)
    db.register("data", data)
    db.register("one", one)
    return lambda: db.query(MEASURE).rows(), lambda: db.query(ONE).rows()


def in_ray(rt: Runtime, data: Path, one: Path) -> tuple[Query, Query]:
    import ray

    from epochal.ray import query

    os.environ.setdefault("RAY_worker_niceness", "0")  # else they get what others leave
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tasks(rt)
    whole = partial(query, rt, merge=MEASURE, files=sorted(data.iterdir()))
    row = partial(query, rt, part=ONE.replace("one", "data"), files=[one])
    return lambda: whole().rows(), lambda: row().rows()


def tasks(rt: Runtime) -> None:
    """What a remote export adds to a task of Ray."""
    import ray

    export = rt.epoch.remote[scalar]["geo.chord"]
    bare = ray.remote(lambda x: x + 1.0)
    sent = ray.remote(lambda function, x: function(x))
    ratios = []
    for _ in range(16):
        began = perf_counter()
        for _ in range(40):
            ray.get(bare.remote(1.0))
        between = perf_counter()
        for _ in range(40):
            ray.get(sent.remote(export, 1.0))
        ratios.append((perf_counter() - between) / (between - began))
    print(f"a task with a remote export: {statistics.median(ratios[1:]):.2f} times a bare one")


def in_daft(rt: Runtime, data: Path, one: Path) -> tuple[Query, Query]:
    import daft

    from epochal.daft import DaftDatabase

    db = DaftDatabase(rt)
    db.register("data", daft.read_parquet(f"{data}/*.parquet"))
    db.register("one", daft.read_parquet(str(one)))
    whole = INSIDE.format("geo.chord")
    return lambda: db.query(whole).rows(), lambda: db.query(ONE).rows()


def in_spark(rt: Runtime, data: Path, one: Path) -> tuple[Query, Query]:
    from pyspark.sql import SparkSession

    from epochal.spark import register

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    register(spark, rt.epoch)
    spark.read.parquet(str(data)).createOrReplaceTempView("data")
    spark.read.parquet(str(one)).createOrReplaceTempView("one")
    whole, row = INSIDE.format("`geo.chord`"), ONE.replace("geo.chord", "`geo.chord`")
    return lambda: spark.sql(whole).collect(), lambda: spark.sql(row).collect()


WAYS = {"ray": in_ray, "daft": in_daft, "spark": in_spark}


def timed(query: Query) -> tuple[float, dict[str, int]]:
    began = perf_counter()
    rows = query()
    return perf_counter() - began, {str(row[0]): row[1] for row in rows if len(row) > 1}


def compare(name: str, rt: Runtime, data: Path, one: Path, turns: int) -> None:
    """Measure one engine by turns with this process."""
    here, _ = in_one_process(rt, data, one)
    there, row = WAYS[name](rt, data, one)
    there(), row()  # every worker is there, and has the epoch
    ratios, seconds, single = [], [], []
    before = os.getloadavg()[0]
    for _ in range(turns):
        alone, expected = timed(here)
        together, found = timed(there)
        if found != expected:
            raise RuntimeError(f"one process counted {expected}, {name} {found}")
        ratios.append(alone / together)
        seconds.append(together)
        single += [timed(row)[0] for _ in range(5)]
    print(
        f"{name}: {statistics.median(ratios):.2f} times as fast as one process "
        f"({statistics.median(seconds):.2f} s), one row {statistics.median(single) * 1e3:.0f} ms "
        f"(load {before:.1f} before)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="+", choices=WAYS)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Runtime(share=f"{name}/share") as rt:
        data, one = Path(name, "data"), Path(name, "one.parquet")
        write_files(data, [ROWS * part // PARTS for part in range(PARTS + 1)])
        parquet.write_table(pa.table({"distance": [2475.0]}), one)
        swap(rt, 1)
        _, row = in_one_process(rt, data, one)
        row()
        singles = [timed(row)[0] for _ in range(50)]
        print(f"one process: one row {statistics.median(singles) * 1e3:.1f} ms")
        for engine in options.engines:
            compare(engine, rt, data, one, options.turns)


if __name__ == "__main__":
    main()
