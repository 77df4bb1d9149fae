"""Storage: tables that plugins serve, and scans that end on the code that they began with."""

import asyncio
import itertools
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue
from types import SimpleNamespace
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from epochal import examples
from epochal.errors import (
    EpochalError,
    ExportError,
    FunctionError,
    HostError,
    IncompatibleError,
    LinkError,
    QueryCancelledError,
)
from epochal.kinds import storage
from epochal.kinds.storage import Filter
from epochal.server.status_routes import tables_of
from epochal.sql import Database

CALLS: list = []
GATE = threading.Event()
REACHED = threading.Event()
CLOSED: list = []
BIG = 9_007_199_254_740_993  # no float is this number
ENDED: SimpleQueue = SimpleQueue()
OPENED: list = []

CODE = """
import pyarrow as pa
from epochal.kinds import storage
from tests.integration.test_storage import CALLS, CLOSED, GATE, REACHED

@storage(scheme="mem")
class numbers:
    def table(self, uri):
        {table}
        return Numbers(int(uri.rpartition("/")[2]))
    def close(self):
        CLOSED.append("{version}")

class Numbers:
    def __init__(self, count):
        self.count = count
        self.schema = pa.schema([("n", pa.int64()), ("half", pa.float64()), ("by", pa.string())])
    def scan(self, columns, filters, limit):
        CALLS.append((columns, filters, limit))
        for first in range(0, self.count, 100):
            if first == 300:
                REACHED.set()
                assert GATE.wait(10)
            {scan}
            numbers = list(range(first, min(first + 100, self.count)))
            batch = pa.RecordBatch.from_pydict(
                dict(n=numbers, half=[n / 2 for n in numbers], by=["{version}"] * len(numbers)),
                schema=self.schema)
            yield {give}
"""


@pytest.fixture(autouse=True)
def _fresh():
    CALLS.clear()
    CLOSED.clear()
    OPENED.clear()
    GATE.set()
    REACHED.clear()
    while not ENDED.empty():
        ENDED.get()


def write(plugins, version="1.0", table="pass", scan="pass", give="batch.select(columns)"):
    code = CODE.format(version=version, table=table, scan=scan, give=give)
    return plugins.write("memory", code, version=version)


@pytest.fixture
def db(rt, plugins):
    rt.load(write(plugins))
    with Database(rt, partitions=2) as database:
        database.register("numbers", "mem://numbers/250")
        database.register("many", "mem://numbers/1000")
        yield database


def rows(db, sql, params=None):
    with db.query(sql, params) as result:
        return result.rows()


def test_a_plugins_table_is_queried_like_any_other(db):
    assert rows(db, "SELECT n, by FROM numbers WHERE n > 247 ORDER BY n") == [
        (248, "1.0"),
        (249, "1.0"),
    ]
    assert rows(db, "SELECT count(*) FROM numbers") == [(250,)]
    assert db.tables["numbers"].names == ["n", "half", "by"]


@pytest.mark.parametrize(
    ("sql", "columns", "filters", "limit"),
    [
        ("SELECT half FROM numbers", ["half"], [], None),
        ("SELECT half FROM numbers LIMIT 3", ["half"], [], 3),
        ("SELECT count(*) FROM numbers", ["n"], [], None),
        ("SELECT half FROM numbers WHERE n > 7", ["n", "half"], [Filter("n", ">", 7)], None),
        ("SELECT n FROM numbers WHERE 7 >= n LIMIT 2", ["n"], [Filter("n", "<=", 7)], 2),
        ("SELECT n FROM numbers WHERE n IN (1, 2)", ["n"], [Filter("n", "in", (1, 2))], None),
        (
            "SELECT n FROM numbers WHERE n BETWEEN 2 AND 4 AND by IS NOT NULL",
            ["n", "by"],
            [Filter("n", ">=", 2), Filter("n", "<=", 4), Filter("by", "is not null")],
            None,
        ),
        ("SELECT n FROM numbers WHERE n = $1", ["n"], [Filter("n", "=", 5)], None),
        ("SELECT n FROM numbers WHERE half = 1.5 OR n = 9 LIMIT 1", ["n", "half"], [], None),
        ("SELECT n FROM public.numbers WHERE n > 7 LIMIT 2", ["n"], [Filter("n", ">", 7)], 2),
        (
            "SELECT n FROM numbers WHERE n IN (1, 2, 3, 4, 5)",
            ["n"],
            [Filter("n", "in", (1, 2, 3, 4, 5))],
            None,
        ),
        (
            "SELECT n FROM numbers WHERE n NOT IN (1, 2, 3, 4) LIMIT 1",
            ["n"],
            [Filter("n", "!=", number) for number in (1, 2, 3, 4)],
            1,
        ),
        (
            "SELECT n FROM numbers WHERE (n = 1 AND half > 0) OR n = 2 LIMIT 3",
            ["n", "half"],
            [Filter("n", "in", (1, 2))],
            None,
        ),
        ("SELECT n FROM numbers WHERE n > 5.5", ["n"], [Filter("n", ">", 5)], None),
        ("SELECT n FROM numbers WHERE 5.5 >= n", ["n"], [Filter("n", "<=", 5)], None),
        (
            "SELECT n FROM numbers WHERE n > 7 AND half > (SELECT 0)",
            ["n", "half"],
            [Filter("n", ">", 7)],
            None,
        ),
    ],
)
def test_filters_columns_and_limit_reach_the_scan(db, sql, columns, filters, limit):
    rows(db, sql, [5] if "$1" in sql else None)
    assert [(columns, filters, limit)] == CALLS


def test_the_engine_applies_filters_even_if_the_plugin_does_not(db):
    assert rows(db, "SELECT n FROM numbers WHERE half = 1.5 OR n IN (9, 11) ORDER BY n") == [
        (3,),
        (9,),
        (11,),
    ]
    assert rows(db, "SELECT n FROM numbers WHERE n > 5 AND n % 2 = 1 ORDER BY n LIMIT 2") == [
        (7,),
        (9,),
    ]


def test_two_scans_of_one_table_get_their_common_needs(db):
    sql = (
        "SELECT a.n FROM numbers a JOIN numbers b ON a.n = b.n "
        "WHERE a.half > 1 AND a.by = '1.0' AND b.by = '1.0' AND b.half < 4.5 ORDER BY 1"
    )
    assert rows(db, sql) == [(n,) for n in range(3, 9)]
    assert len(CALLS) == 2
    assert all(filters == CALLS[0][1] for _, filters, _ in CALLS)
    assert CALLS[0][1] == [Filter("by", "=", "1.0")]


def test_a_subquery_of_one_table_keeps_the_filters_of_another(db):
    rows(db, "SELECT n FROM numbers WHERE n < 2 AND half < (SELECT max(n) FROM many WHERE n < 9)")
    assert sorted(filters for _, filters, _ in CALLS) == [[], [Filter("n", "<", 2)]]


def test_a_boolean_column_is_a_filter(every):
    with every.query("SELECT whole FROM every WHERE flag LIMIT 1") as result:
        assert result.rows() == [(1,)]
    with every.query("SELECT whole FROM every WHERE NOT flag AND flag IS FALSE") as result:
        assert result.rows() == [(3,)]
    assert [(Filter("flag", "=", True),), (Filter("flag", "=", False),) * 2] == CALLS


def test_two_scans_of_one_table_keep_their_own_filters(db):
    sql = (
        "SELECT a.n, b.n FROM numbers a JOIN numbers b ON a.n = b.n + 1 "
        "WHERE a.half NOT IN (1, 2, 3, 4) AND b.n NOT IN (5, 6, 7, 8, 9) AND a.n < 12 ORDER BY 1"
    )
    wanted = [
        (n, n - 1) for n in range(1, 12) if n not in (2, 4, 6, 8) and n - 1 not in range(5, 10)
    ]
    assert rows(db, sql) == wanted


def test_a_provably_empty_query_scans_nothing(db):
    assert rows(db, "SELECT n FROM numbers WHERE by IN ('') AND 'A' = by") == []
    assert CALLS == []


EVERY = {
    "whole": pa.array([1, None, 3], pa.int8()),
    "flag": pa.array([True, None, False]),
    'a "name"': pa.array(["x", None, "z"], pa.string_view()),
    "chosen": pa.array(["x", None, "z"]).dictionary_encode(),
    "amount": pa.array([1, None, 3], pa.decimal128(10, 2)),
    "raw": pa.array([b"x", None, b"z"]),
    "at": pa.array([1, None, 3], pa.timestamp("ns", "UTC")),
    "day": pa.array([1, None, 3], pa.date32()),
    "tags": pa.array([["x"], None, []]),
    "box": pa.array([{"x": 1}, None, {"x": 3}]),
    "opaque": pa.ExtensionArray.from_storage(
        pa.opaque(pa.int64(), "a", "b"), pa.array([1, None, 3])
    ),
    "tensor": pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int64(), [2]),
        pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
    ),
}
NOT_NULL = pa.field("id", pa.float32(), nullable=False, metadata={"unit": "m"})


@pytest.fixture
def every(rt, plugins):
    rt.load(
        plugins.write(
            "every",
            """
import pyarrow as pa
from epochal.kinds import storage
from tests.integration.test_storage import CALLS, EVERY, NOT_NULL

@storage(scheme="every")
class tables:
    def table(self, uri):
        return Everything()

class Everything:
    schema = pa.schema([NOT_NULL, *((n, a.type) for n, a in EVERY.items())])
    def scan(self, columns, filters, limit):
        CALLS.append(tuple(filters))
        table = pa.table([pa.array([1, 2, 3], pa.float32()), *EVERY.values()], schema=self.schema)
        yield from table.select(columns).to_batches()
""",
        )
    )
    with Database(rt) as database:
        database.register("every", "every://x")
        yield database


def test_columns_of_every_type_are_unchanged_with_and_without_a_filter(every):
    with every.query("SELECT * FROM every") as result:
        plain = result.to_table()
    with every.query("SELECT * FROM every WHERE id NOT IN (7, 8, 9, 10)") as result:
        filtered = result.to_table()
    assert plain.schema.equals(filtered.schema, check_metadata=True)
    assert plain.schema.field("id").metadata == {b"unit": b"m"}
    assert filtered.equals(plain)
    assert plain.num_rows == 3


@pytest.mark.parametrize(
    ("condition", "whole"),
    [
        ("flag", [1]),
        ("NOT flag", [3]),
        ("flag IS NULL", [None]),
        ("id IS NULL", []),
        ("flag IN (true, NULL)", [1]),
        ("whole NOT IN (3, 4, 5, 6)", [1]),
        ("chosen = 'z'", [3]),
        ('"a ""name""" > \'x\'', [3]),
        ("amount > 1.5", [3]),
        ("raw = X'78'", [1]),
        ("at < now()", [1, 3]),
        ("day > DATE '1970-01-03'", [3]),
        ("tags = ['x']", [1]),
        ("box IS NOT NULL", [1, 3]),
        ("opaque IS NOT NULL", [1, 3]),
        ("tensor IS NOT NULL AND id NOT IN (7, 8, 9, 10)", [1, 3]),
    ],
)
def test_columns_of_every_type_can_be_filtered(every, condition, whole):
    assert rows(every, f"SELECT whole FROM every WHERE {condition} ORDER BY whole") == [
        (number,) for number in whole
    ]


def test_a_filter_keeps_an_extension_type(rt, plugins):
    rt.load(
        plugins.write(
            "places",
            """
import pyarrow as pa
from epochal.kinds import storage

@storage(scheme="places")
class tables:
    def table(self, uri):
        return Places()

class Places:
    def __init__(self):
        kind = pa.uuid()
        stored = pa.array([b"a" * 16, None], pa.binary(16))
        self.data = pa.table({"id": pa.ExtensionArray.from_storage(kind, stored), "n": [1, None]})
        self.schema = self.data.schema
    def scan(self, columns, filters, limit):
        yield from self.data.select(columns).to_batches()
""",
        )
    )
    with Database(rt) as db:
        db.register("places", "places://x")
        with db.query("SELECT * FROM places WHERE n NOT IN (5, 6, 7, 8)") as result:
            assert result.to_table().schema.field("id").type == pa.uuid()
        assert rows(db, "SELECT n FROM places WHERE id IS NOT NULL") == [(1,)]


def test_a_table_function_is_called_once_for_each_mention(rt, db, plugins):
    rt.load(
        plugins.write(
            "ranges",
            """
from typing import NamedTuple
from epochal.kinds import table_function
from tests.integration.test_storage import CALLS

class Row(NamedTuple):
    n: int

@table_function
def upto(most: int) -> list[Row]:
    CALLS.append(most)
    return [Row(n) for n in range(most)]
""",
        )
    )
    sql = (
        "SELECT t.n FROM numbers t JOIN ranges.upto(5) a ON t.n = a.n "
        "JOIN ranges.upto(5) b ON t.n = b.n JOIN ranges.upto(4) c ON t.n = c.n "
        "WHERE t.half > 0.5 ORDER BY t.n"
    )
    assert rows(db, sql) == [(2,), (3,)]
    assert sorted(call for call in CALLS if isinstance(call, int)) == [4, 5, 5]


def test_a_scan_in_flight_ends_on_the_old_code(rt, db, plugins):
    GATE.clear()
    with ThreadPoolExecutor() as pool:
        old = pool.submit(rows, db, "SELECT DISTINCT by, count(*) FROM many GROUP BY by")
        assert REACHED.wait(10)
        cut = rt.reload("memory", write(plugins, "2.0"), drain_timeout=0.05)
        assert cut.published
        assert not cut.drained
        assert not CLOSED
        GATE.set()
        assert old.result(10) == [("1.0", 1000)]
    assert rows(db, "SELECT DISTINCT by FROM many") == [("2.0",)]
    assert rt.reload("memory", drain_timeout=10.0).drained  # after the one before it
    assert CLOSED == ["1.0", "2.0"]


def test_provenance_lists_the_plugins_of_tables(db):
    with db.query("SELECT n FROM numbers") as result:
        assert [record.function for record in result.provenance] == ["memory.numbers"]


def test_a_query_holds_only_the_plugins_of_its_own_tables(rt, db, plugins):
    db.register("plain", pa.table({"x": [1]}))
    with db.query("SELECT x FROM plain"):
        assert rt.reload("memory", write(plugins, "2.0"), drain_timeout=5.0).drained


def test_ending_a_query_ends_its_scan_and_releases_the_plugin(rt, db, plugins):
    db.register("endless", "mem://numbers/1000000000")
    result = db.query("SELECT n FROM endless WHERE half < 0")
    result.close()
    assert rt.reload("memory", write(plugins, "2.0"), drain_timeout=10.0).drained
    reader = db.query("SELECT n FROM endless")
    next(reader)
    reader.cancel()
    with pytest.raises(QueryCancelledError):
        list(reader)


def test_an_error_of_a_scan_names_its_plugin(rt, db, plugins):
    rt.reload("memory", write(plugins, "2.0", scan="raise OSError('disk on fire')"))
    message = r"table numbers \(memory\.numbers, plugin memory 2\.0\) raised OSError: disk on fire"
    with pytest.raises(FunctionError, match=message) as caught:
        rows(db, "SELECT n FROM numbers")
    assert isinstance(caught.value.__cause__, OSError)


FOREIGN = ("SystemExit(3)", "GeneratorExit", "Panic('index out of bounds')")


@pytest.mark.parametrize("error", FOREIGN)
def test_any_exception_of_a_scan_becomes_a_query_error(rt, db, plugins, error):
    panic = "class Panic(BaseException): pass"  # pyo3's is no Exception either
    rt.reload("memory", write(plugins, "2.0", scan=f"{panic}\n            raise {error}"))
    with pytest.raises(FunctionError, match=f"raised {error.partition('(')[0]}") as caught:
        rows(db, "SELECT n FROM numbers")
    assert not isinstance(caught.value.__cause__, Exception)
    del caught  # it holds the plugin's frames
    asyncio.run(_ask_in_a_loop(db))
    rt.reload("memory", write(plugins, "3.0", table=f"{panic}\n        raise {error}"))
    with pytest.raises(FunctionError, match=f"raised {error.partition('(')[0]}"):
        rows(db, "SELECT n FROM numbers")
    with pytest.raises(HostError, match=r"mem://x/1 cannot be opened"):
        db.register("more", "mem://x/1")


async def _ask_in_a_loop(db):
    with pytest.raises(FunctionError):
        await (await db.aquery("SELECT n FROM numbers")).arows()


def test_ctrl_c_in_a_scan_reaches_the_caller(rt, db, plugins):
    rt.reload("memory", write(plugins, "2.0", scan="raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        rows(db, "SELECT n FROM numbers")


def test_an_error_of_opening_a_table_names_its_plugin(rt, db, plugins):
    rt.reload("memory", write(plugins, "2.0", table="raise OSError('gone')"))
    with pytest.raises(FunctionError, match=r"plugin memory 2\.0\) raised OSError: gone"):
        rows(db, "SELECT n FROM numbers")
    with pytest.raises(HostError, match=r"table 'more': mem://x/1 cannot be opened: .*gone"):
        db.register("more", "mem://x/1")


@pytest.mark.parametrize(
    ("give", "message"),
    [
        ("batch.select(['half'])", "gave no column 'n', which was asked for"),
        ("batch.set_column(0, 'n', batch['half'])", "gave column 'n' as double; expected int64"),
        ("batch.to_pydict()", r"expected a pyarrow\.RecordBatch"),
        ("None", r"gave None; expected a pyarrow\.RecordBatch"),
    ],
)
def test_batches_of_the_wrong_type_are_refused(rt, db, plugins, give, message):
    rt.reload("memory", write(plugins, "2.0", give=give))
    with pytest.raises(FunctionError, match=message):
        rows(db, "SELECT n FROM numbers")


def test_a_table_is_unavailable_while_its_plugin_is_removed(rt, db, plugins):
    rt.remove("memory")
    with pytest.raises(HostError, match=r"no active plugin serves mem://; served: none"):
        rows(db, "SELECT n FROM numbers")
    with pytest.raises(HostError, match="no active plugin serves nfs://"):
        db.register("x", "nfs://host/x")
    assert dict(db.tables) == {}
    rt.load(write(plugins, "2.0"))
    assert rows(db, "SELECT DISTINCT by FROM numbers") == [("2.0",)]


def test_two_plugins_cannot_serve_one_scheme(rt, db, plugins):
    other = 'from epochal.kinds import storage\n@storage(scheme="mem")\nclass s:\n'
    with pytest.raises(IncompatibleError, match=r"memory\.numbers and other\.s serve mem://"):
        rt.load(plugins.write("other", f"{other}    def table(self, uri): ...\n"))


def test_a_table_is_replaced_and_deregistered_like_any_other(db):
    db.register("numbers", pa.table({"n": [1]}))
    assert rows(db, "SELECT n FROM numbers") == [(1,)]
    db.register("numbers", "mem://numbers/2")
    assert rows(db, "SELECT n FROM numbers") == [(0,), (1,)]
    db.deregister("numbers")
    with pytest.raises(HostError, match="no table 'numbers' is registered; registered: many"):
        db.deregister("numbers")


def test_a_name_with_capitals_is_quoted(db):
    db.register("Numbers", "mem://numbers/1")
    assert rows(db, 'SELECT n FROM "Numbers"') == [(0,)]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("@storage(scheme='a')\nclass s: pass", r"no method table\(uri\)"),
        ("@storage(scheme='a')\ndef s(): pass", "expected a class"),
        ("@storage(scheme='A b')\nclass s: pass", "is not a valid scheme"),
        ("@storage(scheme='file')\nclass s: pass", "is not a valid scheme"),
        ("@storage()\nclass s: pass", "needs scheme="),
    ],
)
def test_an_invalid_backend_is_refused_at_load(rt, plugins, code, message):
    with pytest.raises((ExportError, LinkError), match=message):
        rt.load(plugins.write("bad", f"from epochal.kinds import storage\n{code}\n"))


# --- what a query opens, and how it ends ---------------------------------------------------------

ENDING = """
import threading, time
import pyarrow as pa
from epochal.kinds import storage
from tests.integration.test_storage import CLOSED, ENDED, GATE, OPENED

SCHEMA = pa.schema([("n", pa.int64())])

@storage(scheme="ending")
class tables:
    def table(self, uri):
        OPENED.append(uri)
        if uri.endswith("broken"): raise OSError("no such disk")
        return {"odd": Odd, "none": NoSchema, "list": NoList}.get(uri.rpartition("/")[2], Table)()
    def close(self): CLOSED.append("backend")

class Table:
    schema = SCHEMA
    closed = False
    scans = 0
    def scan(self, columns, filters, limit):
        assert not self.closed
        self.scans += 1
        try:
            for n in range(1000):
                yield pa.RecordBatch.from_pydict({"n": [n]}, schema=SCHEMA)
        finally:
            assert GATE.wait(10)
            self.scans -= 1
            ENDED.put(("scan", threading.current_thread().name))
    def close(self):
        assert not self.scans and not self.closed
        self.closed = True
        ENDED.put(("table", threading.current_thread().name))

class Odd:
    @property
    def schema(self): return self.nothing

class NoSchema: pass
class NoList: schema = ["n"]
"""


@pytest.fixture
def ending(rt, plugins):
    rt.load(plugins.write("ending", ENDING))
    with Database(rt, partitions=2) as database:
        database.register("t", "ending://x/t")
        assert ENDED.get(timeout=10)[0] == "table"  # opened to read its schema
        OPENED.clear()
        yield database


def ended(count):
    ended = [ENDED.get(timeout=10) for _ in range(count)]
    assert ended[-1][1] == "epochal-cleanup"
    return [name for name, _ in ended]


def close(result):
    result.close()


def aclose(result):
    asyncio.run(result.aclose())


def drop(result):
    del result


@pytest.mark.parametrize("end", [close, aclose, drop])
def test_ending_a_result_runs_no_plugin_code(rt, ending, end):
    GATE.clear()
    results = [ending.query("SELECT n FROM t")]
    next(results[0])
    end(results.pop())  # does not wait for the scan's `finally`
    assert not rt.reload("ending", drain_timeout=0.05).drained
    assert ENDED.empty()
    assert CLOSED == []
    GATE.set()
    assert ENDED.get(timeout=10) == ("scan", "epochal-cleanup")
    assert ended(1) == ["table"]
    assert rt.reload("ending", drain_timeout=10.0).drained
    assert CLOSED == ["backend"] * 2


def test_a_hanging_close_delays_no_other(ending):
    GATE.clear()
    first, second = (ending.query(f"SELECT n FROM t{end}") for end in ("", " WHERE n < 0 LIMIT 0"))
    next(first)
    first.close()
    assert second.rows() == []
    assert ended(1) == ["table"]
    GATE.set()
    assert ended(2) == ["scan", "table"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT n FROM t",
        "SELECT n FROM t LIMIT 3",
        "SELECT a.n FROM t a JOIN public.t b ON a.n = b.n",
        "SELECT n FROM t WHERE n < (SELECT max(n) FROM t) AND n NOT IN (1, 2, 3, 4)",
    ],
)
def test_a_table_is_opened_once_and_closed_after_its_last_scan(ending, sql):
    rows(ending, sql)
    assert OPENED == ["ending://x/t"]
    scans = 2 if "JOIN" in sql or "max" in sql else 1
    assert ended(scans + 1) == ["scan"] * scans + ["table"]
    assert ENDED.empty()


def test_only_a_mention_as_a_table_opens_a_table(ending):
    ending.register("plain", pa.table({"t": [1]}))
    assert rows(ending, "SELECT t FROM plain") == [(1,)]
    assert rows(ending, "WITH t AS (SELECT 1 AS a) SELECT * FROM t") == [(1,)]
    assert rows(ending, "SELECT 't' AS t") == [("t",)]
    assert OPENED == []
    with ending.query("SELECT t FROM plain") as result:
        assert result.provenance == ()


def test_planning_releases_plugins_of_tables_that_are_not_named(rt, ending):
    ending.register("plain", pa.table({"t": [1]}))
    with ending.query("SELECT t FROM plain"):
        assert rt.reload("ending", drain_timeout=10.0).drained
    rt.remove("ending")
    assert rows(ending, "SELECT t FROM plain") == [(1,)]
    with pytest.raises(HostError, match=r"table 't': no active plugin serves ending://"):
        rows(ending, "SELECT n FROM t")


@pytest.mark.parametrize("name", ["t", "Ärger", 'a"b', "a.b", "UPPER"])
def test_a_table_is_found_in_every_notation(ending, name):
    ending.register(name, "ending://x/y")
    quoted = name.replace('"', '""')
    assert len(rows(ending, f'SELECT n FROM "{quoted}"')) == 1000
    assert len(rows(ending, f"SELECT n FROM '{name}'")) == 1000
    if name.isalpha() and name != "UPPER":  # only ASCII is folded
        assert len(rows(ending, f"SELECT n FROM {name}")) == 1000


def test_a_failing_table_does_not_affect_others(rt, db, plugins):
    db.register("plain", pa.table({"x": [1]}))
    rt.reload(
        "memory", write(plugins, "2.0", table="if uri.endswith('250'): raise OSError('gone')")
    )
    assert sorted(db.tables) == ["many", "plain"]
    tables = tables_of(db)
    assert [(table.name, len(table.columns)) for table in tables] == [
        ("many", 3),
        ("numbers", 0),
        ("plain", 1),
    ]
    assert tables[1].error.startswith(
        "table 'numbers': mem://numbers/250 cannot be opened: OSError: gone ("
    )
    assert repr(db).startswith("<database of 3 tables")
    rt.remove("memory")
    assert "no active plugin serves mem://" in tables_of(db)[0].error


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ending://x/broken", "cannot be opened: OSError: no such disk"),
        ("ending://x/odd", "cannot be opened: AttributeError: 'Odd' object has no attribute 'noth"),
        ("ending://x/none", r"has as its schema None; expected a pyarrow\.Schema"),
        ("ending://x/list", r"has as its schema \['n'\]; expected"),
    ],
)
def test_an_invalid_table_is_refused_at_registration(ending, uri, message):
    with pytest.raises(HostError, match=message):
        ending.register("more", uri)
    assert list(ending.tables) == ["t"]


# --- the examples ------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "a shop.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, item VARCHAR COLLATE NOCASE, price REAL, "
            '"a note" TEXT, scan BLOB)'
        )
        database.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?)",
            [(n, "Tea" if n % 3 else "milk", n / 4, None, b"x") for n in range(20_000)],
        )
    return f"lite://{path}?table=orders"


def test_sqlite_files_are_tables(rt, shop):
    rt.load(examples.path("lite"))
    with Database(rt) as db:
        db.register("orders", shop)
        assert rows(db, "SELECT count(*), max(price) FROM orders") == [(20_000, 4999.75)]
        assert rows(db, "SELECT id FROM orders WHERE id > 7 AND id < 10 ORDER BY id") == [
            (8,),
            (9,),
        ]
        assert rows(db, "SELECT count(*) FROM orders WHERE item = 'tea'") == [(0,)]
        assert rows(db, "SELECT count(*) FROM orders WHERE item > 'a' AND id < 9") == [(3,)]
        assert rows(db, 'SELECT "a note", scan FROM orders WHERE id = 1') == [(None, b"x")]
        assert len(rows(db, "SELECT id FROM orders WHERE item = 'Tea' LIMIT 5")) == 5


def test_sqlite_gets_the_filters_columns_and_limit(rt, shop):
    rt.load(examples.path("lite"))
    with closing(rt.epoch[storage]["lite.files"].table(shop)) as table:
        wanted = [Filter("id", ">=", 100), Filter("item", "=", "Tea")]
        (batch,) = table.scan(["id"], wanted, 3)
        assert batch.to_pydict() == {"id": [100, 101, 103]}
        assert batch.schema.names == ["id"]
        # A filter that SQLite cannot express is left to the engine, and then so is the limit.
        wanted = [Filter("price", ">", "many")]
        assert sum(batch.num_rows for batch in table.scan(["id"], wanted, 3)) == 20_000


@pytest.fixture
def lite(rt, tmp_path):
    """Register a SQLite table of some rows as `t`."""
    rt.load(examples.path("lite"))
    numbers = itertools.count()
    with Database(rt, partitions=2) as db:

        def register(create, *given, encoding="UTF-8", view=False):
            path = tmp_path / f"{next(numbers)}.db"
            with closing(sqlite3.connect(path)) as database, database:
                database.execute(f"PRAGMA encoding = '{encoding}'")
                database.executescript(create)
                for row in given:
                    marks = ", ".join("?" * len(row))
                    database.execute(f"INSERT INTO t VALUES ({marks})", row)
            db.register("t", f"lite://{path}?table={'v' if view else 't'}")
            return path

        yield SimpleNamespace(db=db, table=register)


@pytest.mark.parametrize(
    ("declared", "stored", "kind", "read"),
    [
        ("DATETIME", "2026-01-01 10:00:00", pa.string(), "2026-01-01 10:00:00"),
        ("DATE", "2026-01-01", pa.string(), "2026-01-01"),
        ("TIMESTAMP", 1_767_225_600, pa.string(), "1767225600"),
        ("BOOLEAN", 1, pa.bool_(), True),
        ("DECIMAL(10, 2)", "1.50", pa.float64(), 1.5),
        ("DECIMAL(10, 2)", 2, pa.float64(), 2.0),
        ("NUMERIC", BIG, pa.int64(), BIG),
        ("", "x", pa.string(), "x"),
        ("", 7, pa.int64(), 7),
        ("", 7.5, pa.float64(), 7.5),
        ("", b"x", pa.binary(), b"x"),
        ("VARCHAR(3)", 7, pa.string(), "7"),
    ],
)
def test_sqlite_columns_have_their_declared_type(lite, declared, stored, kind, read):
    lite.table(f"CREATE TABLE t (c {declared})", (stored,), (None,))
    assert lite.db.tables["t"].field("c").type == kind
    assert rows(lite.db, "SELECT c FROM t") == [(read,), (None,)]
    with lite.db.query("SELECT count(*) FROM t WHERE c = $1", [read]) as result:
        assert result.rows() == [(1,)]
    with lite.db.query("SELECT count(*) FROM t WHERE c IN ($1, $2)", [read, read]) as result:
        assert result.rows() == [(1,)]


@pytest.mark.parametrize(
    ("declared", "stored", "message"),
    [
        ("INTEGER", 1.5, "1.5, which is not of type int64"),
        ("INTEGER", "many", "'many', which is not of type int64"),
        ("TEXT", b"x", "b'x', which is not of type string"),
        ("BLOB", "x", "'x', which is not of type binary"),
        ("REAL", "inf", "'inf', which is not of type double"),
        ("BOOLEAN", 2, "2, which is not of type bool"),
        ("DATE", b"x", "b'x', which is not of type string"),
    ],
)
def test_a_value_of_another_type_than_its_column_is_refused_with_its_row(
    lite, declared, stored, message
):
    lite.table(f"CREATE TABLE t (id INTEGER, c {declared})", (1, None), (2, stored))
    message = rf"column 'c' of table 't' \(row 2\) holds {re.escape(message)}"
    with pytest.raises(FunctionError, match=message):
        rows(lite.db, "SELECT c FROM t")
    assert rows(lite.db, "SELECT id FROM t WHERE id = 2") == [(2,)]


def test_a_later_value_of_another_type_than_the_first_rows_is_refused(lite):
    few = [(n,) for n in range(1000)]
    lite.table("CREATE TABLE t (c NUMERIC)", *few, (BIG,))
    message = r"\(row 1001\) holds 9007199254740993, which is not of type d"
    with pytest.raises(FunctionError, match=message):
        rows(lite.db, "SELECT c FROM t")


def test_expressions_of_a_view_are_columns(lite):
    lite.table(
        "CREATE TABLE t (id INTEGER, s TEXT, twice AS (id * 2));"
        "CREATE VIEW v AS SELECT id, count(*) AS n, upper(s) AS u, id / 2.0 AS h FROM t GROUP BY 1;"
        "INSERT INTO t VALUES (1, 'x'), (1, 'x'), (2, 'y')",
        view=True,
    )
    assert rows(lite.db, "SELECT * FROM t ORDER BY id") == [
        (1, 2, "X", 0.5),
        (2, 1, "Y", 1.0),
    ]
    assert rows(lite.db, "SELECT id FROM t WHERE n = 2 AND u = 'X' LIMIT 1") == [(1,)]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_texts_compare_as_in_the_engine_in_every_encoding(lite, encoding):
    texts = ["b", "\u0100", "a", "\uff5e", "\U0001f600"]
    lite.table("CREATE TABLE t (s TEXT)", *[(text,) for text in texts], encoding=encoding)
    for bound in texts:
        with lite.db.query("SELECT s FROM t WHERE s > $1", [bound]) as result:
            texts_above = {row[0] for row in result.rows()}
        assert texts_above == {text for text in texts if text.encode() > bound.encode()}


def test_a_query_sees_one_version_of_a_sqlite_file(lite):
    path = lite.table(
        "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER, s TEXT);"
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 20000) "
        "INSERT INTO t SELECT n, 'old' FROM r"
    )
    table = lite.db._runtime.epoch[storage]["lite.files"].table(f"lite://{path}?table=t")
    with table:
        first = table.scan(["s"], [], None)
        assert set(next(first)["s"].to_pylist()) == {"old"}
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE t SET s = 'new'")
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("ALTER TABLE t RENAME COLUMN s TO renamed")
        for batch in (*first, *table.scan(["s"], [Filter("n", ">", 7)], None)):
            assert set(batch["s"].to_pylist()) == {"old"}
    assert rows(lite.db, "SELECT DISTINCT renamed FROM t") == [("new",)]


def test_filters_beyond_sqlites_limit_are_left_to_the_engine(lite):
    lite.table("CREATE TABLE t (n INTEGER)", *[(n,) for n in range(100)])
    some = ", ".join(map(str, range(5, 40_000)))  # more parameters than SQLite accepts
    assert rows(lite.db, f"SELECT count(*) FROM t WHERE n IN ({some})") == [(95,)]


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "a b", "ü"])
def test_a_path_with_any_character_is_quoted(lite, tmp_path, name):
    lite.table("CREATE TABLE t (n INTEGER)", (1,)).rename(tmp_path / name)
    lite.db.register("t", f"lite://{quote(str(tmp_path / name))}?table=t")
    assert rows(lite.db, "SELECT n FROM t") == [(1,)]
    if name.isascii() and " " not in name:
        with pytest.raises(HostError, match=r"urllib\.parse\.quote\(path\)"):
            lite.db.register("t", f"lite://{tmp_path / name}?table=t")


@pytest.mark.parametrize(
    "uri", ["lite://x?table=orders", "lite:///nowhere.db?table=orders", "lite:///x"]
)
def test_a_wrong_address_is_refused_with_the_expected_form(rt, uri):
    rt.load(examples.path("lite"))
    with Database(rt) as db, pytest.raises(HostError, match="table 'orders': lite://"):
        db.register("orders", uri)


@pytest.fixture
def sales(tmp_path):
    data = pa.table({"year": [2024, 2025, 2026] * 100, "n": list(range(300))})
    ds.write_dataset(
        data,
        tmp_path / "sales",
        format="parquet",
        partitioning=["year"],
        partitioning_flavor="hive",
    )
    return tmp_path / "sales"


def test_a_partitioned_folder_opens_only_the_wanted_files(rt, sales):
    rt.load(examples.path("partitions"))
    with Database(rt) as db:
        db.register("sales", f"partitions://{sales}")
        assert rows(db, "SELECT count(*) FROM sales WHERE year = 2025") == [(100,)]
        assert rows(db, "SELECT max(n) FROM sales WHERE year IN (2024, 2025)") == [(298,)]
        # A damaged file is not opened as long as no query wants it.
        for file in (sales / "year=2026").iterdir():
            file.write_bytes(b"not Parquet")
        assert rows(db, "SELECT max(n) FROM sales WHERE year < 2026") == [(298,)]
        with pytest.raises(EpochalError, match="plugin partitions"):
            rows(db, "SELECT max(n) FROM sales")


@pytest.fixture
def parquet(rt, tmp_path):
    """Register a folder of Parquet files as `t`."""
    rt.load(examples.path("partitions"))
    with Database(rt, partitions=2) as db:

        def register(**files):
            for name, data in files.items():
                (tmp_path / "t").mkdir(exist_ok=True)
                pq.write_table(pa.table(data), tmp_path / "t" / f"{name}.parquet", row_group_size=2)
            db.register("t", f"partitions://{tmp_path / 't'}")
            return tmp_path / "t"

        yield SimpleNamespace(db=db, table=register)


@pytest.mark.parametrize(
    ("column", "condition", "ids"),
    [
        (pa.array([["a"], None, []]), "c = ['a']", [0]),
        (pa.array([{"x": 1}, None, {"x": 3}]), "c = named_struct('x', 1)", [0]),
        (pa.array(["a", None, "c"], pa.string_view()), "c > 'a'", [2]),
        (pa.array(["a", None, "c"], pa.string_view()), "c IN ('a', 'b')", [0]),
        (pa.array([1, None, 2**64 - 1], pa.uint64()), "c > 1", [2]),
        (pa.array([1, None, 2**64 - 1], pa.uint64()), "c = 18446744073709551615", [2]),
        (pa.array([1, None, 2**64 - 1], pa.uint64()), "c IN (1, 18446744073709551615)", [0, 2]),
        (pa.array([1, None, 3], pa.int8()), "c > 200", []),
        (pa.array([[float("nan")], None, [1.0]]), "c > [0.5]", [0, 2]),
        (pa.array(["a", None, "c"]).dictionary_encode(), "c = 'c'", [2]),
        (pa.array([True, None, False]), "NOT c", [2]),
        (pa.array([1, None, 3], pa.decimal128(10, 2)), "c > 1.5", [2]),
    ],
)
def test_parquet_columns_of_every_type_filter_as_in_the_engine(parquet, column, condition, ids):
    parquet.table(one={"id": [0, 1, 2], "c": column})
    assert rows(parquet.db, f"SELECT id FROM t WHERE {condition} ORDER BY id") == [
        (number,) for number in ids
    ]
    assert len(rows(parquet.db, f"SELECT id FROM t WHERE {condition} LIMIT 2")) == len(ids)


def test_a_folder_has_the_columns_of_all_its_files(parquet):
    folder = parquet.table(a={"n": [1]}, b={"n": [2], "s": ["x"]})
    parquet.db.register("own", folder)
    sql = "SELECT n, s FROM {} ORDER BY n"
    assert rows(parquet.db, sql.format("t")) == rows(parquet.db, sql.format("own"))
    assert rows(parquet.db, "SELECT n FROM t WHERE s IS NULL") == [(1,)]
    with pytest.raises(HostError, match=r"c\.parquet has other columns than those before"):
        parquet.table(c={"n": ["text"]})


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_damaged_file_is_an_error_only_when_it_is_wanted(parquet, name):
    folder = parquet.table(m={"n": list(range(400))})
    whole = (folder / "m.parquet").read_bytes()
    damaged = folder / f"{name}.parquet"
    damaged.write_bytes(whole[:2000] + bytes(3000) + whole[5000:])
    with pytest.raises(FunctionError, match=rf"{name}\.parquet cannot be read"):
        rows(parquet.db, "SELECT count(n) FROM t WHERE n >= 0")
    damaged.write_bytes(b"not Parquet")
    with pytest.raises(FunctionError, match=rf"{name}\.parquet cannot be read"):
        rows(parquet.db, "SELECT count(n) FROM t WHERE n >= 0")


@pytest.mark.parametrize(
    "condition",
    [
        "year IN (2024, 2025, 7, 8, 9)",
        "year NOT IN (2026, 7, 8, 9, 10)",
        "year < 2025.5",
        "(year = 2024 AND n > 0) OR year = 2025",
        "year <> 2026 AND n > (SELECT 0)",
        "CAST(year AS BIGINT) < 2026",
    ],
)
def test_partitions_without_wanted_rows_are_not_opened(rt, sales, condition):
    rt.load(examples.path("partitions"))
    for file in (sales / "year=2026").iterdir():
        file.write_bytes(b"not Parquet")
    with Database(rt) as db:
        db.register("sales", f"partitions://{sales}")
        assert rows(db, f"SELECT max(year) FROM sales WHERE {condition}") == [(2025,)]
