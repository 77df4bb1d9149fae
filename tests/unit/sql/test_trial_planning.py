"""SQL whose plan may explode is planned in a bounded process first."""

import os
import threading

import pyarrow as pa
import pytest
from tests.unit.sql.support import HOST, LIMIT_S, write

from epochal.errors import QueryCancelledError, QueryError
from epochal.sql import Database, trial_planning
from epochal.sql.sql_scan import scan
from epochal.sql.trial_planning import TrialPlanner

CODE = """
@scalar
def double(x: float) -> float: return 2 * x
@scalar(vectorized=True, volatility="immutable")
def same(x: pa.DoubleArray) -> pa.DoubleArray: return x
@aggregate
class Total:
    total: float = 0.0
    def update(self, x: float): self.total += x
    def merge(self, other): self.total += other.total
    def evaluate(self) -> float: return self.total
@window
def ranks(x: list[float]) -> list[float]: return x
class Row(NamedTuple):
    n: int
@table_function
def count_to(n: int) -> Iterator[Row]:
    HOST.setdefault("calls", []).append(n)
    for i in range(n):
        yield Row(i)
@table_function
def any_columns(n: int) -> pa.Table:
    return pa.table({f"c{i}": [i] for i in range(n)})
"""


def nested(template, depth, inner="a"):
    for _ in range(depth):
        inner = template.replace("X", inner)
    return inner


def parentheses(text):
    return nested("(X)", 14, text)


def chained(template, depth, first="SELECT a AS x FROM t"):
    tables = [f"c{n} AS ({template.replace('LAST', f'c{n - 1}')})" for n in range(1, depth + 1)]
    return ", ".join([f"WITH c0 AS ({first})", *tables]) + f" SELECT * FROM c{depth} WHERE x > 7"


EXPLODES = {
    "nvl": f"SELECT {nested('nvl(X, b)', 16)} FROM t",
    "coalesce in a filter": f"SELECT 1 FROM t WHERE {nested('coalesce(X, b)', 16)} > 1",
    "ifnull": f"SELECT {nested('ifnull(X, b)', 30)} FROM t",
    "between": f"SELECT {nested('(CASE WHEN X BETWEEN a AND b THEN a ELSE b END)', 14)} FROM t",
    "a chain of between": "SELECT (a > 1)" + " BETWEEN true AND true" * 24 + " FROM t",
    "case": f"SELECT {nested('(CASE WHEN X THEN a > 1 ELSE b > 1 END)', 16, 'true')} FROM t",
    "like": f"SELECT {nested('''((X)::varchar LIKE '%a%')::bigint''', 15)} FROM t",
    "and": f"SELECT {nested('((X)::boolean AND b > 1)::bigint', 15)} FROM t",
    "tables named twice": chained("SELECT p.x FROM LAST p, LAST q", 20),
    "unions": chained("SELECT x FROM LAST UNION ALL SELECT x FROM LAST", 20),
    "a filter over sums": chained("SELECT x * x + x AS x FROM LAST", 14),
    "subqueries": chained("SELECT x FROM LAST WHERE x IN (SELECT x FROM LAST)", 16),
    "cube": "SELECT count(*) FROM t GROUP BY CUBE ("
    + ", ".join(f"a + {n}" for n in range(20))
    + ")",
    "a long text": "SELECT repeat('x', 2000000000)",
    "a padded text": "SELECT lpad('x', 2147483647, 'y')",
    "a long array": "SELECT array_length(generate_series(1, 1000 * 1000 * 1000))",
}

ORDINARY = {
    "three tables": "WITH a AS (SELECT x, count(*) AS n FROM t GROUP BY x), b AS (SELECT x, sum(n) "
    "AS s FROM a GROUP BY x) SELECT a.x, coalesce(b.s, 0) FROM a JOIN b ON a.x = b.x "
    "WHERE a.x BETWEEN 1 AND 5 AND (b.s > 10 OR a.n IS NULL) ORDER BY a.x LIMIT 10",
    "a list": "SELECT * FROM t WHERE x IN (" + ", ".join(str(n) for n in range(10_000)) + ")",
    "conditions": "SELECT * FROM t WHERE " + " AND ".join(f"x <> {n}" for n in range(200)),
    "a series": "SELECT value FROM generate_series(1, 1000000)",
}


@pytest.fixture
def db(rt, tmp_path):
    rt.load(write(tmp_path, "p", CODE))
    with Database(rt) as database:
        database.register("t", pa.table({"a": [1, 2], "b": [3, None]}))
        yield database


@pytest.mark.parametrize("sql", EXPLODES.values(), ids=EXPLODES)
def test_sql_whose_plan_explodes_is_refused(db, sql):
    with pytest.raises(QueryError, match="planning the SQL takes more than"):
        db.query(sql)


@pytest.mark.parametrize("sql", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_sql_is_planned_without_a_trial(sql):
    assert not scan(sql).may_explode


def test_nested_sql_with_a_small_plan_is_answered(db):
    sql = f"SELECT {nested('nvl(X, b)', 10)}, {parentheses('$1')} FROM t"
    assert db.query(sql, [7]).rows() == [(1, 7), (2, 7)]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (f"SELECT {nested('p.double(X)', 12)} FROM t", [(4096.0,), (8192.0,)]),
        (f"SELECT {nested('p.same(X)', 12, '2.5')} FROM t LIMIT 1", [(2.5,)]),
        (f'SELECT p."Total"({parentheses("a")}) FROM t', [(3.0,)]),
        (f"SELECT p.ranks({parentheses('a')}) OVER (ORDER BY a) FROM t", [(1.0,), (2.0,)]),
        (f"SELECT {parentheses('c1')} FROM p.any_columns(2)", [(1,)]),
    ],
)
def test_functions_of_every_kind_are_known_on_trial(db, sql, rows):
    assert scan(sql).may_explode
    assert db.query(sql).rows() == rows


def test_a_table_function_is_called_once_for_trial_and_plan(db):
    HOST["calls"] = []
    sql = f"SELECT {parentheses('n')} FROM p.count_to($1) WHERE n > $2"
    assert db.query(sql, [3, 0]).rows() == [(1,), (2,)]
    assert HOST.pop("calls") == [3]


@pytest.mark.parametrize("column", ["nope", "p.nope(1)", "p.double('x')", "nvl(a)"])
def test_an_error_on_trial_is_the_error_without_one(db, column):
    with pytest.raises(QueryError) as plain:
        db.query(f"SELECT {column} FROM t")
    with pytest.raises(QueryError) as tried:
        db.query(f"SELECT {column}, {parentheses('a')} FROM t")
    assert str(tried.value).partition(" at Line")[0] == str(plain.value).partition(" at Line")[0]


def test_a_statement_that_would_change_something_is_refused_on_trial(db, tmp_path):
    sql = f"COPY (SELECT {parentheses('a')} FROM t) TO '{tmp_path}/out.csv'"
    with pytest.raises(QueryError, match="is refused"):
        db.query(sql)
    assert not (tmp_path / "out.csv").exists()


def test_a_text_that_has_passed_is_not_tried_again(db, monkeypatch):
    sql = f"SELECT {parentheses('a')} FROM t"
    db.query(sql).rows()
    monkeypatch.setattr(TrialPlanner, "_plan_in_child", None)
    assert db.query(sql).rows() == [(1,), (2,)]


def test_a_text_is_tried_again_over_other_tables(db):
    sql = f"SELECT {parentheses('a')} FROM t"
    db.query(sql).rows()
    db.register("t", pa.table({"b": [1]}))
    with pytest.raises(QueryError, match="No field named a"):
        db.query(sql)


def test_the_next_text_finds_another_child_after_one_was_killed(db):
    with pytest.raises(QueryError, match="more than"):
        db.query(EXPLODES["nvl"])
    assert db.query(f"SELECT {parentheses('a')} FROM t").rows() == [(1,), (2,)]
    (child,) = db._planner._trials._pool.idle
    child._process.kill()
    child._process.wait()
    assert db.query(f"SELECT {parentheses('a + 1')} FROM t").rows() == [(2,), (3,)]


def test_a_failure_to_start_the_child_is_an_error_of_the_query(db, monkeypatch):
    monkeypatch.setattr(trial_planning.sys, "executable", "/nonexistent/python")
    with pytest.raises(QueryError, match="which cannot be started"):
        db.query(f"SELECT {parentheses('a')} FROM t")
    assert db.query("SELECT a FROM t").rows() == [(1,), (2,)]


def test_cancelling_ends_a_query_that_waits_for_a_child(db):
    free, failed = db._planner._trials._pool.free, []
    while free.acquire(blocking=False):  # all children are busy
        pass

    def ask():
        try:
            db.query(f"SELECT {parentheses('a')} FROM t", timeout=LIMIT_S)
        except QueryError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not db._running:
        assert asking.is_alive()
    db.close(timeout=0.0)
    asking.join(LIMIT_S)
    assert isinstance(failed[0], QueryCancelledError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_use_its_parents_child(db):
    trials = db._planner._trials
    db.query(f"SELECT {parentheses('a')} FROM t").rows()
    (child,) = trials._pool.idle
    pid = os.fork()
    if not pid:
        os._exit(len(trials._own_pool().idle))
    assert os.waitpid(pid, 0)[1] == 0
    assert trials._pool.idle == [child]
    assert db.query(f"SELECT {parentheses('a + 1')} FROM t").rows() == [(2,), (3,)]
