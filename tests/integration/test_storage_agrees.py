"""Tables of plugins answer as the engine's own do, whatever is filtered by."""

import math
import sqlite3
from contextlib import closing
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

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
SCHEMA = pa.schema([("i", pa.int64()), ("f", pa.float64()), ("s", pa.string())])


def _text(value):
    return "'" + value.replace("'", "''") + "'"


def _literal(value):
    if isinstance(value, str):
        return _text(value)
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
        inner.map(lambda one: f"NOT ({one})"),
        inner.map(lambda one: f"({one}) IS NULL"),
    )


CONDITIONS = st.recursive(_leaves(), _trees, max_leaves=4)


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agrees")
    table = pa.Table.from_pylist(ROWS, schema=SCHEMA)
    with closing(sqlite3.connect(folder / "rows.db")) as database, database:
        database.execute("CREATE TABLE rows (i INTEGER, f REAL, s TEXT COLLATE NOCASE)")
        values = [tuple(row.values()) for row in ROWS]
        database.executemany("INSERT INTO rows VALUES (?, ?, ?)", values)
        # SQLite keeps no NaN and no -0.0: what it has of them is what it must answer with.
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
    with db.query(f"SELECT i, f, s FROM {table} WHERE {condition}") as result:
        rows = result.rows()
    return sorted(map(repr, rows))


@pytest.mark.parametrize("table", ["folder", "lite"])
@settings(
    max_examples=60,
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
@example(condition="s IN ('') AND 'A' = s")
def test_every_filter_means_what_it_means_to_the_engine(db, table, condition):
    same = {"folder": "plain", "lite": "plain_lite"}[table]
    assert answer(db, table, condition) == answer(db, same, condition)


@pytest.mark.parametrize("table", ["folder", "lite"])
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(condition=CONDITIONS, limit=st.integers(0, 20))
@example(condition="f > 2", limit=20)
@example(condition="f = 0.0", limit=20)
def test_no_limit_is_reached_too_early(db, table, condition, limit):
    same = {"folder": "plain", "lite": "plain_lite"}[table]
    limited = answer(db, table, f"{condition} LIMIT {limit}")
    every = answer(db, same, condition)
    assert len(limited) == min(limit, len(every))
    assert set(limited) <= set(every)
