"""Tables, parameters, and the statements that a database refuses."""

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from epochal import Runtime
from epochal.errors import HostError, QueryError
from epochal.sql import Database

ROWS = [(1, "a"), (2, None), (3, "c")]
TABLE = pa.table({"n": [1, 2, 3], "s": ["a", None, "c"]})


@pytest.fixture
def db(rt):
    with Database(rt) as database:
        yield database


def rows(db, table="t"):
    return db.query(f"SELECT n, s FROM {table} ORDER BY n").rows()


# --- sources -------------------------------------------------------------------------------------


def as_csv(path):
    pa.csv.write_csv(TABLE, path)


def as_tsv(path):
    pa.csv.write_csv(TABLE, path, pa.csv.WriteOptions(delimiter="\t"))


def as_csv_gz(path):
    as_csv(path.with_suffix(""))
    path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
    path.with_suffix("").unlink()


def as_json(path):
    path.write_text("\n".join(json.dumps(row) for row in TABLE.to_pylist()))


def as_parquet(path):
    pq.write_table(TABLE, path)


def as_arrow(path):
    pa.feather.write_feather(TABLE, path, compression="uncompressed")


FILES = {
    "t.csv": as_csv,
    "t.tsv": as_tsv,
    "t.CSV": as_csv,
    "t.csv.gz": as_csv_gz,
    "t.json": as_json,
    "t.ndjson": as_json,
    "t.parquet": as_parquet,
    "t.arrow": as_arrow,
    "odd [name] & 100%.parquet": as_parquet,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_a_table(db, tmp_path, name):
    FILES[name](tmp_path / name)
    db.register("t", tmp_path / name)
    assert rows(db) == ROWS
    db.register("t", str(tmp_path / name))
    assert rows(db) == ROWS
    assert db.tables["t"].names == ["n", "s"]


@pytest.mark.parametrize(
    "source",
    [TABLE, TABLE.to_batches()[0], TABLE.to_reader(), pa.table(TABLE.slice(0, 1)).schema],
    ids=["table", "batch", "stream", "no data"],
)
def test_arrow_data_is_a_table(db, source):
    if isinstance(source, pa.Schema):
        db.register("t", source.empty_table())
        assert rows(db) == []
        return
    db.register("t", source)
    assert rows(db) == ROWS
    assert rows(db) == ROWS, "a stream is read once, when it is registered"


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.parquet"])
def test_a_folder_is_listed_again_by_each_query(db, tmp_path, name):
    (tmp_path / "deep").mkdir()
    FILES[name](tmp_path / name)
    db.register("t", tmp_path)
    assert db.query("SELECT count(*) FROM t").rows() == [(3,)]
    FILES[name](tmp_path / "deep" / f"more-{name}")
    (tmp_path / ".hidden.txt").write_text("not a table")
    assert db.query("SELECT count(*) FROM t").rows() == [(6,)]


def test_a_given_schema_is_the_tables_schema(db, tmp_path):
    as_csv(tmp_path / "t.csv")
    schema = pa.schema({"n": pa.float64(), "s": pa.string()})
    db.register("t", tmp_path / "t.csv", schema=schema)
    assert db.tables["t"].field("n").type == pa.float64()
    assert rows(db)[0] == (1.0, "a")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: folder / "no.csv", "csv does not exist"),
        (lambda _: None, "a NoneType cannot be registered"),
        (lambda folder: folder / "mixed", r"files of several formats \(.csv, .json\)"),
        (lambda folder: folder / "empty", "empty holds no files"),
        (lambda folder: folder / "t.xlsx", "t.xlsx has an unknown format; known: .parquet, .csv"),
        (lambda folder: folder / "bad.parquet", "cannot be registered: "),
        (lambda _: [1, 2], "a list cannot be registered; expected a pyarrow Table"),
    ],
)
def test_an_invalid_source_is_refused_by_name_and_changes_nothing(db, tmp_path, make, complaint):
    for folder in ("mixed", "empty"):
        (tmp_path / folder).mkdir()
    for name in ("mixed/a.csv", "mixed/b.json", "t.xlsx", "bad.parquet"):
        (tmp_path / name).write_text("x")
    db.register("t", TABLE)
    with pytest.raises(HostError, match=f"^table 't': .*{complaint}"):
        db.register("t", make(tmp_path))
    assert rows(db) == ROWS


def test_a_deregistered_table_stays_for_running_queries_alone(db):
    db.register("t", TABLE)
    running = db.query("SELECT n FROM t ORDER BY n")
    db.deregister("t")
    assert running.rows() == [(1,), (2,), (3,)]
    with pytest.raises(QueryError, match=r"^table 't' not found"):
        db.query("SELECT * FROM t")
    with pytest.raises(HostError, match="no table 't' is registered; registered: none"):
        db.deregister("t")


def test_replacing_a_table_is_one_step_for_every_query():
    """Queries name the table twice; they see one version of it, never two and never none."""
    with Runtime() as rt, Database(rt) as db, ThreadPoolExecutor(3) as pool:
        over = threading.Event()
        db.register("t", pa.table({"version": [0] * 10}))

        seen = set()

        def ask():
            while not over.is_set():
                sql = "SELECT DISTINCT a.version, b.version FROM t AS a CROSS JOIN t AS b"
                [(version_a, version_b)] = db.query(sql).rows()
                assert version_a == version_b
                seen.add(version_a)

        asking = [pool.submit(ask) for _ in range(3)]
        version = 0
        try:
            while len(seen) < 50 and not any(future.done() for future in asking):
                version += 1
                db.register("t", pa.table({"version": [version] * 10}))
        finally:
            over.set()
        for future in asking:
            future.result()


# --- parameters ----------------------------------------------------------------------------------


def test_parameters_are_bound_by_order_or_name_and_never_as_text(db):
    db.register("t", TABLE)
    assert db.query("SELECT n FROM t WHERE s = $1 AND n < $2", ["a", 9]).rows() == [(1,)]
    assert db.query("SELECT n FROM t WHERE s = $x", {"x": "' OR 1=1 --"}).rows() == []
    assert db.query("SELECT $1", [pa.scalar(3, pa.int8())]).schema.types == [pa.int8()]
    assert db.query("SELECT '$1', \"n\" FROM t LIMIT 1 -- $2").rows()[0][0] == "$1"


@pytest.mark.parametrize(
    ("sql", "params", "complaint"),
    [
        ("SELECT $1 + $2", [1], r"no value is given for parameter \$2"),
        ("SELECT $1", [1, 2], r"the SQL has no parameter \$2; it has \$1"),
        ("SELECT 1", {"x": 1}, r"the SQL has no parameter \$x; it has none"),
        ("SELECT $1", [object()], r"parameter \$1 cannot be a SQL value"),
        ("SELECT $1", "a", "parameters must be a list or a mapping, not a string"),
    ],
)
def test_wrong_parameters_are_named(db, sql, params, complaint):
    with pytest.raises(QueryError, match=complaint):
        db.query(sql, params)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/dev/null'",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "CREATE SCHEMA x",
        "DROP TABLE t",
        "INSERT INTO t VALUES (1, 'a')",
        "UPDATE t SET n = 1",
        "DELETE FROM t",
        "COPY t TO '/dev/null' STORED AS CSV",
        "SET datafusion.execution.batch_size = 1",
        "PREPARE x AS SELECT 1",
        "EXPLAIN ANALYZE INSERT INTO t VALUES (1, 'a')",
    ],
)
def test_statements_that_write_are_refused(db, sql):
    db.register("t", TABLE)
    with pytest.raises(QueryError) as raised:
        db.query(sql).rows()
    assert "is refused: a Database answers queries and changes nothing" in str(raised.value)
    assert rows(db) == ROWS
    assert list(db.tables) == ["t"]


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELEC 1", "^syntax error: Expected: an SQL statement, found: SELEC"),
        ("SELECT 'a", "^syntax error: "),
        ("SELECT * FROM nothing", "^table 'nothing' not found"),
        ("SELECT nothing FROM t", "No field named nothing"),
        ("SELECT 1 FROM t WHERE CAST(s AS INT) = 1", "Cannot cast string 'a'"),
    ],
)
def test_an_sql_error_is_one_line_without_the_engines_prefixes(db, sql, complaint):
    db.register("t", TABLE)
    with pytest.raises(QueryError, match=complaint) as raised:
        db.query(sql).rows()
    assert "DataFusion" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_failed_query_leaves_nothing_behind(db):
    db.register("t", TABLE)
    for _ in range(40):
        with pytest.raises(QueryError):
            db.query("SELECT nothing FROM t")
    assert rows(db) == ROWS
    assert "0 queries running" in repr(db)
