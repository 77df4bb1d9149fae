"""A query over many files is split into parts and their merging, or refused."""

import random
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pyarrow as pa
import pytest
from tests.unit.sql.support import MONEY

from epochal.errors import QueryError
from epochal.sql import Database
from epochal.sql.function_registry import index_of
from epochal.sql.merging import MergedQuery

SOURCE = (
    """
import uuid
from datetime import datetime
from typing import Annotated
import pyarrow as pa
from epochal.kinds import aggregate, data_type, mergeable_state, scalar

"""
    + MONEY
    + """
@scalar
def plus(x: int) -> int: return x + 1

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

@aggregate
class words:
    def __init__(self): self.seen = set()
    def update(self, word: str | None) -> None: self.seen.add(word or "none")
    def merge(self, other) -> None: self.seen |= other.seen
    def state(self) -> tuple[int, list[str]]: return len(self.seen), sorted(self.seen)
    def restore(self, count: int, seen: list[str]) -> None: self.seen = set(seen)
    def evaluate(self) -> str: return ",".join(sorted(self.seen))

@aggregate
class latest:
    at: datetime | None = None
    id: Annotated[bytes, pa.uuid()] | None = None
    def update(self, at: datetime) -> None:
        if self.at is None or at > self.at:
            self.at, self.id = at, uuid.UUID(int=at.day)
    def merge(self, other) -> None:
        if other.at is not None: self.update(other.at)
    def evaluate(self) -> str | None: return self.at and f"{self.at} {self.id}"

@aggregate
class most:
    best: Money | None = None
    def update(self, value: Money) -> None:
        if self.best is None or value > self.best: self.best = value
    def merge(self, other) -> None:
        if other.best is not None: self.update(other.best)
    def evaluate(self) -> Money | None: return self.best

@mergeable_state
class total:
    parameters = {}
    samples = [[(1,), (2,)], [(40,)]]
    def __init__(self): self.value = 0
    def update(self, value: int) -> None: self.value += value
    def merge(self, other) -> None: self.value += other.value
    def evaluate(self) -> int: return self.value
    def state(self) -> bytes: return str(self.value).encode()
    def restore(self, state: bytes) -> None: self.value = int(state)
"""
)
ROWS = 400
CUTS = (0, 10, 10, 150, 399, ROWS)


def rows():
    draw = random.Random(7)
    began = datetime(2020, 1, 1)
    return pa.table(
        {
            "origin": [draw.choice(["JFK", "LGA", None, "a b"]) for _ in range(ROWS)],
            "Dest": [draw.choice("xyz") for _ in range(ROWS)],
            "n": [draw.choice([None, draw.randrange(-5, 1000)]) for _ in range(ROWS)],
            "f": [float(draw.randrange(100)) for _ in range(ROWS)],
            "d": pa.array(
                [Decimal(draw.randrange(10**5)) / 100 for _ in range(ROWS)], pa.decimal128(10, 2)
            ),
            "t": [began + timedelta(seconds=draw.randrange(10**6)) for _ in range(ROWS)],
            "ok": [draw.random() > 0.01 for _ in range(ROWS)],
            "tail": [f"N{draw.randrange(20)}" for _ in range(ROWS)],
        }
    )


@pytest.fixture
def geo(rt, plugins):
    rt.load(plugins.write("geo", SOURCE))
    return index_of(rt.epoch)


def over(rt, sql, **tables):
    with Database(rt, partitions=1) as db:
        for name, table in tables.items():
            db.register(name, table)
        return db.query(sql).to_table()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT origin, count(*) AS n, sum(n), min(n), max(tail) FROM data GROUP BY origin",
        "SELECT count(*), avg(n), avg(f) a, avg(d), sum(d), sum(n), avg(n + 1) FROM data",
        'select origin as o, "Dest", mean(d) x, sum(d) from data where n > 5 group by 1, "Dest";',
        "SELECT origin, bool_and(ok), bool_or(ok), bit_xor(n), bit_or(n) FROM data GROUP BY 1",
        "SELECT geo.plus(n) % 10 k, geo.mean(f) FILTER (WHERE n > 900) m FROM data AS q GROUP BY k",
        "SELECT geo.plus(q.n)%9, count(n) FILTER (WHERE f>5) FROM data q GROUP BY geo.plus(n) % 9",
        "SELECT origin, GEO.Total(n), geo.latest(t) FROM data GROUP BY data.origin",
        "SELECT geo.words(tail), geo.mean(n), geo.latest(t), geo.most(n), min(t) FROM data",
        "SELECT geo.words(tail), geo.mean(n), geo.latest(t), sum(n) FROM data WHERE false",
        "SELECT avg(n), avg(d), count(DISTINCT n), count(*), max(d) FROM data WHERE false",
        "SELECT origin, sum(n), geo.mean(n) FROM data WHERE false GROUP BY origin",
        'SELECT "Dest", count(DISTINCT tail), count(DISTINCT n) FILTER (WHERE n > 3) '
        'FROM data GROUP BY "Dest"',
        "SELECT approx_distinct(tail), count(DISTINCT n) FROM data WHERE origin IS NULL",
        'SELECT origin, "Dest" FROM data WHERE n IS DISTINCT FROM 1 GROUP BY origin, "Dest"',
        "SELECT origin IS DISTINCT FROM 'a' AS x, n IS NULL, count(*) FROM data GROUP BY x, 2",
        "SELECT CASE WHEN n > 3 THEN 'x, y' ELSE 'z' END AS c, count(*) /* , */ FROM data -- o\n"
        "GROUP BY c",
        "SELECT extract(day FROM t) d2, count(*) FROM data GROUP BY extract(DAY FROM t)",
        'SELECT sum(n + 0.5) AS "Q ""x""" FROM data',
    ],
)
def test_parts_answer_what_one_query_answers(rt, geo, sql):
    table = rows()
    whole = over(rt, sql, data=table)
    query = MergedQuery(sql, geo)
    slices = [table.slice(a, b - a) for a, b in pairwise(CUTS)]
    parts = pa.concat_tables([over(rt, query.part, data=part) for part in slices])
    merged = query.typed(over(rt, query.whole(parts.schema), parts=parts), parts.schema)
    assert [field.type for field in merged.schema] == [field.type for field in whole.schema]
    columns = [[*zip(*(c.to_pylist() for c in t.columns), strict=True)] for t in (merged, whole)]
    assert sorted(columns[0], key=repr) == sorted(columns[1], key=repr)


def test_columns_have_their_aliases_or_what_was_written(rt, geo):
    sql = 'SELECT origin, "Dest" d, count(*), avg(n) FILTER (WHERE n > 1), sum(n) s FROM data'
    sql += " GROUP BY 1, 2"
    query = MergedQuery(sql, geo)
    parts = over(rt, query.part, data=rows())
    names = over(rt, query.whole(parts.schema), parts=parts).column_names
    assert names == ["origin", "d", "count(*)", "avg(n) FILTER (WHERE n > 1)", "s"]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT origin, count(*) FROM data GROUP BY origin ORDER BY 1", "ORDER is about all rows"),
        ("SELECT count(*) FROM data LIMIT 1", "LIMIT is about"),
        ("SELECT count(*) FROM data HAVING count(*) > 1", "HAVING is about"),
        ("SELECT DISTINCT origin FROM data", "DISTINCT is about all rows"),
        ("SELECT count(*) FROM data GROUP BY origin", "origin of GROUP BY is not selected"),
        ("SELECT n % 10 AS n, count(*) FROM data GROUP BY n", "n % 10 AS n is not in GROUP BY"),
        ("SELECT data.n % 10 n, count(*) FROM data GROUP BY n", "is not in GROUP BY"),
        ("SELECT origin, count(*) FROM data GROUP BY rollup(origin)", "is not in GROUP BY"),
        ("SELECT origin, count(*) FROM data GROUP BY ALL", "is not in GROUP BY"),
        ("SELECT n FROM data", "n is not in GROUP BY"),
        ("SELECT *, count(*) FROM data GROUP BY 2", r"\* is not in GROUP BY"),
        ("SELECT sum(n) / count(*) FROM data", "computes with an aggregate"),
        ("SELECT count(*) OVER () FROM data", "computes with an aggregate"),
        ("SELECT -count(*) FROM data", "aggregate that can be merged"),
        ("SELECT round(avg(n)) FROM data", "aggregate that can be merged"),
        ("SELECT median(n) FROM data", "aggregate that can be merged: one of plugins, or approx"),
        ("SELECT sum(DISTINCT n) FROM data", "aggregate that can be merged"),
        ("SELECT geo.words(DISTINCT tail) FROM data", "aggregate that can be merged"),
        ("SELECT geo.plus(n) FROM data", "aggregate that can be merged"),
        ("SELECT geo.total_merge(x) FROM data", "aggregate that can be merged"),
        ("SELECT geo.nope(n) FROM data", "aggregate that can be merged"),
        ("SELECT geo.mean(n ORDER BY n) FROM data", "depends on the order"),
        ("SELECT count(*) FROM data, data d", "reads more than the table data: , data d"),
        ("SELECT count(*) FROM data JOIN data d ON true", "reads more than"),
        ("SELECT count(*) FROM data('x')", "does not read FROM data"),
        ("SELECT count(*) FROM other", "does not read FROM data"),
        ("SELECT count(* FROM data", "does not read FROM data"),
        ("SELECT count(*) FROM (SELECT 1 FROM data)", "one SELECT"),
        ("SELECT count(*) FROM data WHERE n > (SELECT avg(n) FROM data)", "one SELECT"),
        ("WITH data AS (SELECT 1) SELECT count(*) FROM data", "one SELECT"),
        ("SELECT count(*) FROM data; DROP TABLE data", "more than one statement"),
        ("EXPLAIN SELECT count(*) FROM data", "one SELECT"),
        ("", "one SELECT"),
    ],
)
def test_a_query_that_parts_would_answer_otherwise_is_refused(geo, sql, reason):
    with pytest.raises(QueryError, match=f"{reason}.*; what is merged is one SELECT"):
        MergedQuery(sql, geo)


def test_lists_are_not_counted_by_their_elements(geo):
    query = MergedQuery("SELECT count(DISTINCT n) FROM data", geo)
    with pytest.raises(QueryError, match=r"type list<.*> cannot be merged"):
        query.whole(pa.schema([("state 0", pa.list_(pa.list_(pa.int64())))]))


def test_the_functions_for_states_are_no_advice(rt, geo):
    with pytest.raises(QueryError, match=r"did you mean geo\.mean\?"):
        over(rt, "SELECT geo.meen(1)")
