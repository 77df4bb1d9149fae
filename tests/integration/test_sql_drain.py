"""Queries that delay a drain, and the errors of invalid queries."""

import pyarrow as pa
import pytest

from epochal import Runtime
from epochal.errors import QueryCancelledError, QueryError
from epochal.sql import Database

PLUGIN = """\
# /// plugin
# id = "geo"
# version = "{n}.0"
# ///
from epochal.kinds import scalar

@scalar
def version(x: int) -> int:
    return {n}
"""


@pytest.fixture
def db(tmp_path):
    with Runtime(drain_timeout=10.0) as rt:
        path = tmp_path / "geo.py"
        path.write_text(PLUGIN.format(n=1))
        rt.load(path)
        with Database(rt) as database:
            batches = [pa.record_batch({"a": list(range(1000))}) for _ in range(200)]
            database.register("t", pa.Table.from_batches(batches))
            yield database, rt, path


def test_cancel_holders_stops_a_query_that_delays_a_drain(db):
    database, rt, path = db
    result = database.query("SELECT geo.version(a) FROM t")
    next(result)
    path.write_text(PLUGIN.format(n=2))
    cut = rt.reload("geo", drain_timeout=0.05, cancel_holders=True)
    assert cut.drained, cut.holders
    with pytest.raises(QueryCancelledError):
        result.rows()


def test_by_default_a_query_that_delays_a_drain_goes_on_and_is_named(db):
    database, rt, path = db
    result = database.query("SELECT geo.version(a) AS v FROM t")
    next(result)
    path.write_text(PLUGIN.format(n=2))
    cut = rt.reload("geo", drain_timeout=0.05)
    assert not cut.drained
    assert any("SELECT geo.version(a) AS v FROM t" in line for line in map(str, cut.holders)), (
        cut.holders
    )
    assert set(result.to_table()["v"].to_pylist()) == {1}


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM t", "No field named nope"),
        ("SELECT geo.verzion(a) FROM t", "geo.version"),
        ("CREATE TABLE z AS SELECT 1", "refused"),
    ],
)
@pytest.mark.parametrize("timeout", [None, 20.0])
def test_an_invalid_query_is_explained_with_and_without_a_time_limit(db, sql, words, timeout):
    with pytest.raises(QueryError, match=words):
        db[0].query(sql, timeout=timeout)
