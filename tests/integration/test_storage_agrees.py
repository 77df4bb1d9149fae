"""Plugins' tables give the same answers as the engine's own tables."""

import math
import sqlite3
from contextlib import closing
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.sizes import sized

from epochal import Runtime, examples
from epochal.sql import Database

BIG = 9_007_199_254_740_993  # no float is this number
WHOLE = [None, -(2**63), 2**63 - 1, -1, 0, 1, 2, 5, BIG]
REAL = [None, -math.inf, math.inf, -1.5, -0.0, 0.0, 1.0, 2.5, float(BIG), math.nan]
TEXT = [None, "", "a", "A", "b", "ä", "a'b", "NaN", "\U0001f600"]
ROWS = [
    {"i": WHOLE[n % len(WHOLE)], "f": REAL[n % len(REAL)], "s": TEXT[(n // 3) % len(TEXT)]}
    for n in range(270)
]
# Plugins' tables, each with an engine's table of the same rows.
OWN = {"folder": "plain", "lite": "plain_lite"}
SCHEMA = pa.schema([("i", pa.int64()), ("f", pa.float64()), ("s", pa.string())])


def _literal(value):
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, float) and not math.isfinite(value):
        return f"CAST('{value}' AS DOUBLE)"
    return str(value) if value != -(2**63) else "(-9223372036854775807 - 1)"


def _values(column):
    known = {"i": WHOLE, "f": REAL, "s": TEXT}[column]
    return st.sampled_from([value for value in known if value is not None]).map(_literal)


@st.composite
def _leaves(draw):
    column = draw(st.sampled_from("ifs"))
    value = lambda: draw(_values(column))  # noqa: E731
    negated = draw(st.sampled_from(["", "NOT "]))
    match draw(st.integers(0, 4)):
        case 0:
            return f"{column} IS {negated}NULL"
        case 1:
            return f"{column} {negated}BETWEEN {value()} AND {value()}"
        case 2:
            members = [value() for _ in range(draw(st.integers(1, 6)))]
            return f"{column} {negated}IN ({', '.join(members)})"
        case 3:
            return f"({column} IS {negated}DISTINCT FROM {value()})"
        case _:
            test = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
            sides = [column, value()]
            left, right = sides if draw(st.booleans()) else reversed(sides)
            return f"{left} {test} {right}"


def _trees(inner):
    return st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        inner.map(lambda condition: f"NOT ({condition})"),
        inner.map(lambda condition: f"({condition}) IS NULL"),
    )


QUESTIONS = [
    # Scans that a walk of the plan does not find: subqueries inside expressions.
    "SELECT i FROM {t} WHERE f > (SELECT avg(i) FROM {t} WHERE i < 100 AND i > 0)",
    "SELECT i FROM {t} WHERE i < 2 AND i < (SELECT max(i) FROM {t})",
    "SELECT i, (SELECT max(s) FROM {t}) FROM {t} WHERE i < 2",
    "SELECT i, (SELECT max(b.f) FROM {t} b WHERE b.s = a.s AND b.f < 9) FROM {t} a WHERE i = 1",
    "SELECT CASE WHEN (SELECT count(*) FROM {t}) > 200 THEN i END FROM {t} WHERE i = 2",
    # Two scans with filters and limits of their own.
    "SELECT count(*) FROM ((SELECT i FROM {t} WHERE i > 1 LIMIT 5) "
    "UNION ALL (SELECT i FROM {t} WHERE s = 'a' LIMIT 7))",
    "SELECT count(*) FROM ((SELECT i FROM {t} WHERE i > 1 AND s = 'a' LIMIT 5) "
    "UNION ALL (SELECT i FROM {t} WHERE s = 'a' LIMIT 7))",
    "SELECT count(*) FROM ((SELECT i FROM {t} WHERE i > 1 LIMIT 5) UNION ALL (SELECT i FROM {t}))",
    "SELECT count(*) FROM (SELECT i FROM {t} WHERE i > 1 LIMIT 5 OFFSET 50)",
    "SELECT count(*) FROM (SELECT DISTINCT s FROM {t} WHERE i > 1 LIMIT 4)",
    "WITH c AS (SELECT i FROM {t} WHERE i < 5) SELECT count(*) FROM c a JOIN c b ON a.i = b.i + 1",
    "SELECT i FROM {t} WHERE i < 2 EXCEPT SELECT i FROM {t} WHERE i > 0",
    # One table by several of its names.
    "SELECT count(*) FROM (SELECT i FROM {t} WHERE i < 2 UNION ALL SELECT i FROM public.{t})",
    "SELECT count(*) FROM ((SELECT i FROM {t} LIMIT 5) UNION ALL (SELECT i FROM public.{t}))",
    "SELECT count(*) FROM {t} a JOIN datafusion.public.{t} b ON a.i = b.i + 1 WHERE a.i >= 1",
    "SELECT count(*) FROM {t} a LEFT JOIN public.{t} b ON a.i + 1 = b.i WHERE a.i < 2",
    "SELECT i FROM public.{t} WHERE i < 2 AND s > (SELECT min(s) FROM {t} WHERE i > 1)",
    "SELECT f FROM {t} WHERE f > -0.0 AND i > 0 UNION ALL SELECT f FROM {t} WHERE f > 0.0",
    # Joins, whose filters go to either side or to neither.
    "SELECT a.i, b.i FROM {t} a LEFT JOIN {t} b ON a.i = b.i + 3 AND b.s = 'a' WHERE a.f > 2",
    "SELECT a.i, b.i FROM {t} a LEFT JOIN {t} b ON a.i = b.i + 3 WHERE b.i IS NULL AND a.s = 'b'",
    "SELECT a.i, b.i FROM {t} a FULL JOIN {t} b ON a.i = b.i + 3 WHERE a.i > 1 OR b.f < 0",
    "SELECT a.i FROM {t} a LEFT ANTI JOIN {t} b ON a.i = b.i AND b.f < 0",
    "SELECT i FROM {t} a WHERE EXISTS (SELECT 1 FROM {t} b WHERE b.i > a.i AND b.f < 0)",
    "SELECT i FROM {t} a WHERE i NOT IN (SELECT i FROM {t} WHERE i > 1)",
    "WITH RECURSIVE r AS (SELECT i FROM {t} WHERE i = 0 UNION SELECT t.i FROM r JOIN {t} t "
    "ON t.i = r.i + 1 WHERE t.i < 9) SELECT i FROM r",
    # Other nodes between a scan and its filter.
    "SELECT s, count(*) FILTER (WHERE i > 1), sum(i) FROM {t} WHERE f < 9 GROUP BY ROLLUP (s)",
    "SELECT s, count(*) FROM {t} WHERE i IS NOT NULL GROUP BY s HAVING s > 'A' AND count(*) > 2",
    "SELECT i, row_number() OVER (PARTITION BY s ORDER BY i) AS n FROM {t} WHERE i < 5",
    "SELECT i AS f FROM {t} WHERE f < 2",
    "SELECT 1 FROM {t} WHERE i = 5",
    "SELECT count(*) FROM {t} WHERE s = 'a'",
    "SELECT i FROM {t} WHERE s LIKE 'a%' AND i < 5 AND random() >= 0",
    "SELECT unnest(make_array(i, i)) AS i FROM {t} WHERE i = 1",
]

# Ordered answers, with a filter on the order's columns or on a column that is not selected.
ORDERED = [
    "SELECT i, f FROM {t} WHERE s = 'a' ORDER BY i, f",
    "SELECT i FROM {t} WHERE s > 'A' AND i = 1 ORDER BY i",
    "SELECT i, f FROM {t} WHERE i = 1 ORDER BY i, f LIMIT 5",
    "SELECT i, s FROM {t} WHERE s > 'a' AND i = 2 AND f > 0 ORDER BY i, s",
    "SELECT i, count(*) FROM {t} WHERE s = 'a' AND i = 2 GROUP BY i ORDER BY i",
    "SELECT i, row_number() OVER (PARTITION BY s ORDER BY i) AS n FROM {t} "
    "WHERE f > 1 AND s = 'a' ORDER BY i, n",
    "SELECT s, i, row_number() OVER (PARTITION BY s ORDER BY i) AS n FROM {t} "
    "WHERE f > 1 AND s = 'a' ORDER BY i, n",
    "SELECT i, sum(i) OVER (PARTITION BY i ORDER BY s) AS n FROM {t} "
    "WHERE i = 2 AND f > 0 ORDER BY n",
    "SELECT i, row_number() OVER (PARTITION BY s ORDER BY i) AS n FROM {t} "
    "WHERE s IS NULL ORDER BY i, n",
    "SELECT a.i, b.s FROM {t} a JOIN {t} b ON a.s = b.s WHERE a.f > 1 AND a.i = 2 AND b.s <> 'b' "
    "ORDER BY 1, 2",
    "SELECT a.s, b.i FROM {t} a JOIN {t} b ON a.i = b.i WHERE a.s = 'a' AND a.i = 2 ORDER BY 1, 2",
    "SELECT b.i FROM {t} a JOIN {t} b ON a.i = b.i WHERE a.i = 2 ORDER BY a.i, b.i",
]

CONDITIONS = st.recursive(_leaves(), _trees, max_leaves=4)


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agrees")
    table = pa.Table.from_pylist(ROWS, schema=SCHEMA)
    with closing(sqlite3.connect(folder / "rows.db")) as database, database:
        database.execute("CREATE TABLE rows (i INTEGER, f REAL, s TEXT COLLATE NOCASE)")
        values = [tuple(row.values()) for row in ROWS]
        database.executemany("INSERT INTO rows VALUES (?, ?, ?)", values)
        # SQLite stores neither NaN nor -0.0: it must answer with the values that it stored instead.
        stored = database.execute("SELECT i, f, s FROM rows").fetchall()
    ds.write_dataset(table, folder / "rows", format="parquet", max_rows_per_group=50)
    with Runtime() as rt, Database(rt, partitions=2) as database:
        rt.load(examples.path("lite"))
        rt.load(examples.path("partitions"))
        database.register("plain", table)
        database.register("folder", f"partitions://{quote(str(folder / 'rows'))}")
        database.register(
            "plain_lite",
            pa.Table.from_pylist([dict(zip("ifs", row, strict=True)) for row in stored], SCHEMA),
        )
        database.register("lite", f"lite://{quote(str(folder / 'rows.db'))}?table=rows")
        yield database


def answer(db, table, condition):
    return ask(db, f"SELECT i, f, s FROM {table} WHERE {condition}")


def ask(db, sql):
    return sorted(listed(db, sql))


def listed(db, sql):
    with db.query(sql) as result:
        return list(map(repr, result.rows()))


@pytest.mark.parametrize("table", OWN)
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_query_has_the_engines_answer(db, table, question):
    rows = ask(db, question.format(t=table))
    assert rows == ask(db, question.format(t=OWN[table]))
    assert rows


@pytest.mark.parametrize("table", OWN)
@pytest.mark.parametrize("question", ORDERED)
def test_every_order_is_the_engines(db, table, question):
    rows = listed(db, question.format(t=table))
    assert rows == listed(db, question.format(t=OWN[table]))
    assert rows


@pytest.mark.parametrize("table", OWN)
@settings(
    max_examples=sized(15, 60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(condition=CONDITIONS)
@example(condition="i NOT IN (1, 2, 3, 4)")
@example(condition="s NOT IN ('a', 'b', 'c', 'd')")
@example(condition="(i IN (1, 2, 3, 4)) IS NULL")
@example(condition="f > 2")
@example(condition="f BETWEEN 1 AND CAST('nan' AS DOUBLE)")
@example(condition="f <> f")
@example(condition="f NOT IN (-0.0, 1.0, 2.5, 7.0)")
@example(condition="s IN ('') AND 'A' = s")
def test_every_filter_has_the_engines_meaning(db, table, condition):
    assert answer(db, table, condition) == answer(db, OWN[table], condition)


@pytest.mark.parametrize("table", OWN)
@settings(
    max_examples=sized(10, 30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(condition=CONDITIONS, limit=st.integers(0, 20))
@example(condition="f > 2", limit=20)
@example(condition="f = 0.0", limit=20)
def test_no_limit_is_reached_too_early(db, table, condition, limit):
    limited = answer(db, table, f"{condition} LIMIT {limit}")
    every = answer(db, OWN[table], condition)
    assert len(limited) == min(limit, len(every))
    assert set(limited) <= set(every)
