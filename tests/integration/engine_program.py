"""The functions of epochs in Daft and in Spark, while a plugin changes; run by test_engines.

Writes one JSON object into `found.json`: for each promise, whether it was kept.
"""

import json
import sys
import warnings
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from epochal import Runtime
from epochal.artifact import Artifact

PLUGIN = """# /// plugin
# id = "geo"
# version = "{n}.0"
# ///
import os
from datetime import datetime
from decimal import Decimal
from typing import Annotated
import pyarrow as pa
import pyarrow.compute as pc
from epochal.kinds import aggregate, scalar

@scalar
def version(x: int) -> int: return {n}
@scalar
def plus(x: int) -> int: return x + {n}
@scalar
def shown(x: int | None, word: str) -> str: return f"{{x}} {{word}}"
@scalar
def process(x: int) -> int: return os.getpid()
@scalar
def later(at: datetime) -> datetime: return at.replace(year=at.year + {n})
@scalar
def cents(d: Annotated[Decimal, pa.decimal128(10, 2)]) -> list[int]: return [int(d * 100)]
@scalar(vectorized=True)
def twice(x: pa.Int64Array) -> pa.Int64Array: return pc.multiply(x, 2)
@scalar
def fails(x: int) -> int: raise ValueError("not this row")
@scalar(volatility="stable")
def name() -> str: return "geo {n}"
@aggregate
class mean:
    count: int = 0
    total: float = 0.0
    def update(self, value: float) -> None:
        self.count += 1
        self.total += value
    def merge(self, other) -> None:
        self.count += other.count
        self.total += other.total
    def evaluate(self) -> float | None: return self.total / self.count if self.count else None
{more}
"""
SERVICE = """# /// plugin
# id = "web"
# version = "1.0"
# ///
from epochal.kinds import scalar, service
@service
class s:
    def n(self): return 1
@scalar
def f(x: int) -> int: return x
"""
ROWS = pa.table(
    {
        "x": [1, 2, None, 4],
        "k": ["a", "b", "a", "b"],
        "at": pa.array([datetime(2020, 1, day) for day in (1, 2, 3, 4)], pa.timestamp("us", "UTC")),
        "d": pa.array([Decimal("1.25")] * 4, pa.decimal128(10, 2)),
    }
)


def plugin(n, more=""):
    return Artifact("geo", {"geo.py": PLUGIN.format(n=n, more=more).encode()})


def refused(work, *words):
    """Whether something is refused with some words, or what happened."""
    try:
        work()
    except Exception as error:  # noqa: BLE001  # Spark's own
        return all(word in str(error) for word in words) or str(error)
    return "was not refused"


def in_daft(rt, found, runner):
    import daft

    if runner == "ray":
        import ray

        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200_000_000)
        daft.set_runner_ray(noop_if_initialized=True)
    from epochal.daft import DaftDatabase

    db = DaftDatabase(rt)
    db.register("t", ROWS)
    db.register("u", daft.from_pydict({"k": ["a", "b"], "z": [10, 20]}))
    ask = "SELECT {} AS y FROM t ORDER BY k, x NULLS FIRST"
    for name, call, expected in (
        ("plus", "geo.plus(x)", [None, 2, 3, 5]),
        ("case", "GEO.Plus(x) + geo.plus(geo.plus(x))", [None, 5, 7, 11]),
        ("optional", "geo.shown(x, k)", ["None a", "1 a", "2 b", "4 b"]),
        ("decimal", "geo.cents(d)", [[125]] * 4),
        ("vectorized", "geo.twice(x)", [None, 2, 4, 8]),
    ):
        rows = db.query(ask.format(call)).rows()
        found[name] = [row[0] for row in rows] == expected or repr(rows)
    joined = db.query(
        "SELECT u.k, sum(v) AS s FROM (SELECT k, geo.plus(x) AS v FROM t) q "
        "JOIN u ON q.k = u.k WHERE geo.plus(z) > 11 GROUP BY u.k"
    )
    found["join"] = joined.rows() == [("b", 8)] or repr(joined.rows())
    [version] = {origin.version for origin in joined.provenance}
    found["provenance"] = (version, joined.epoch.id) == ("1.0", rt.epoch.id)
    found["elsewhere"] = runner != "ray" or all(
        row != (found["pid"],) for row in db.query("SELECT geo.process(x) AS p FROM t").rows()
    )
    old = rt.epoch
    rt.reload("geo", plugin(2), drain_timeout=0.0)
    versions = "SELECT geo.version(x) AS v FROM t WHERE x IS NOT NULL"
    found["new"] = {row[0] for row in db.query(versions).rows()} == {2}
    found["old"] = {row[0] for row in db.query(versions, epoch=old).rows()} == {1}
    for name, sql, *words in (
        ("unknown", "SELECT geo.pluss(x) FROM t", "did you mean geo.plus?"),
        (
            "aggregate",
            "SELECT geo.mean(x) FROM t",
            "geo.mean is of the kind aggregate",
            "scalars alone",
        ),
        ("no_parameters", "SELECT geo.name() FROM t", "has no parameters"),
        ("local", "SELECT web.f(x) FROM t", "web.f"),
        ("failed", "SELECT geo.fails(x) AS y FROM t", "not this row"),
        ("type", "SELECT geo.plus(k) AS y FROM t", "cannot call geo.plus(x BIGINT) -> BIGINT"),
        ("no_table", "SELECT geo.plus(x) FROM nope", "nope"),
    ):
        found[name] = refused(lambda sql=sql: db.query(sql), *words)
    found["source"] = refused(lambda: db.register("t", 7), "expected a data frame")


def in_spark(rt, found, how):
    from pyspark.sql import SparkSession

    from epochal.spark import register

    builder = SparkSession.builder.config("spark.ui.enabled", "false")
    for key, value in (("shuffle.partitions", "2"), ("session.timeZone", "UTC")):
        builder = builder.config(f"spark.sql.{key}", value)
    builder = builder.remote("local[2]") if how == "connect" else builder.master("local[2]")
    spark = builder.getOrCreate()
    rows = [(row["x"], row["k"], row["at"], row["d"]) for row in ROWS.to_pylist()]
    frame = spark.createDataFrame(rows, "x long, k string, at timestamp, d decimal(10, 2)")
    frame.createOrReplaceTempView("t")

    def ask(call, rest="FROM t ORDER BY k, x NULLS FIRST"):
        return [row[0] for row in spark.sql(f"SELECT {call} AS y {rest}").collect()]

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # as in a host whose warnings are errors
        names = register(spark, rt.epoch)
    found["names"] = {"geo.plus", "geo.mean"} <= {*names} and "web.f" not in names
    for name, call, expected in (
        ("plus", "`geo.plus`(x)", [None, 2, 3, 5]),
        ("optional", "`geo.shown`(x, k)", ["None a", "1 a", "2 b", "4 b"]),
        ("time", "`geo.later`(at)", [datetime(2021, 1, day) for day in (3, 1, 2, 4)]),
        ("decimal", "`geo.cents`(d)", [[125]] * 4),
        ("vectorized", "`geo.twice`(x)", [None, 2, 4, 8]),
        ("no_parameters", "`geo.name`()", ["geo 1"] * 4),
    ):
        answer = ask(call)
        found[name] = answer == expected or repr(answer)
    found["inside"] = ask("sum(`geo.plus`(x))", "FROM t") == [10]
    grouped = spark.sql("SELECT k, `geo.mean`(x) m FROM t GROUP BY k ORDER BY k").collect()
    found["grouped"] = [tuple(row) for row in grouped] == [("a", 1.0), ("b", 3.0)] or repr(grouped)
    found["elsewhere"] = found["pid"] not in ask("`geo.process`(x)")
    message = "geo.fails (plugin geo 1.0) raised ValueError: not this row"
    found["failed"] = refused(lambda: ask("`geo.fails`(x)"), message)
    before = spark.sql("SELECT `geo.version`(x) AS y FROM t WHERE x IS NOT NULL")
    rt.reload("geo", plugin(2, "@scalar\ndef more(x: int) -> int: return 7"), drain_timeout=0.0)
    if how == "connect":
        found["change"] = refused(lambda: register(spark, rt.epoch), "a session of its own")
        own = SparkSession.builder.remote("sc://localhost").create()
        register(own, rt.epoch)
        both = own.sql("SELECT `geo.version`(1), `geo.more`(1)").collect()
        found["new"] = tuple(both[0]) == (2, 7) or repr(both)
        found["old"] = {row[0] for row in before.collect()} == {1}
    else:
        register(spark, rt.epoch)
        found["change"] = {row[0] for row in before.collect()} == {1}
        found["new"] = ask("`geo.version`(x)", "FROM t WHERE x = 1") == [2]
        rt.reload("geo", plugin(3), drain_timeout=0.0)
        register(spark, rt.epoch)
        found["dropped"] = refused(lambda: ask("`geo.more`(x)"), "UNRESOLVED_ROUTINE")
    spark.stop()


def main(engine, how, folder):
    import os

    found = {"pid": os.getpid()}
    with Runtime(share=Path(folder) / "share", drain_timeout=0.0) as rt:
        rt.load(plugin(1))
        rt.load(Artifact("web", {"web.py": SERVICE.encode()}))
        {"daft": in_daft, "spark": in_spark}[engine](rt, found, how)
    del found["pid"]
    # Not printed: Ray's progress is, too.
    Path(folder, "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
