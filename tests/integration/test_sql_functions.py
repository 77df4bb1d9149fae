"""Plugin functions in SQL: types, nulls, the vectorised form, and values of the wrong type."""

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from tests.unit.sql.support import BATCH, HOST, numbers, write

from epochal.errors import FunctionError, QueryError
from epochal.sql import Database

ECHO = """
@scalar
def double(x: float) -> float: return x
@scalar
def whole(x: int) -> int: return x
@scalar
def text(x: str) -> str: return x
@scalar
def truth(x: bool) -> bool: return x
@scalar
def raw(x: bytes) -> bytes: return x
@scalar
def moment(x: datetime) -> datetime: return x
@scalar
def day(x: date) -> date: return x
@scalar
def money(x: Decimal) -> Decimal: return x
@scalar
def many(x: list[float]) -> list[float]: return x
@scalar
def nested(x: list[list[int]]) -> list[list[int]]: return x
@scalar
def maybe(x: int | None) -> int | None: return x
@scalar
def exact(x: Annotated[int, pa.int32()]) -> Annotated[int, pa.int32()]: return x
@scalar
def cents(x: Annotated[Decimal, pa.decimal128(9, 2)]) -> Annotated[Decimal, pa.decimal128(9, 2)]:
    return x
@scalar
def type_of(x: str) -> str: return type(x).__name__
@scalar
def type_of_moment(x: datetime) -> str: return f"{type(x).__name__} {x.tzinfo}"
"""

NOON = datetime(2013, 6, 30, 12, 0, 0, 250_000)


@pytest.fixture
def db(rt):
    with Database(rt) as database:
        yield database


@pytest.fixture
def load(rt, tmp_path):
    def load(code, plugin="p"):
        return rt.load(write(tmp_path, plugin, code))

    return load


def value_of(db, sql, params=None):
    """The only value of the only row."""
    [[value]] = db.query(sql, params).rows()
    return value


# --- types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "argument", "kind", "value"),
    [
        ("double", "CAST(1.5 AS DOUBLE)", pa.float64(), 1.5),
        ("double", "3", pa.float64(), 3.0),
        ("whole", "7", pa.int64(), 7),
        ("text", "'a'", pa.string(), "a"),
        ("truth", "1 < 2", pa.bool_(), True),
        ("raw", "arrow_cast('ab', 'Binary')", pa.binary(), b"ab"),
        ("moment", "TIMESTAMP '2013-06-30T12:00:00.25'", pa.timestamp("us"), NOON),
        ("day", "DATE '2013-06-30'", pa.date32(), date(2013, 6, 30)),
        ("money", "CAST(12.5 AS DECIMAL)", pa.decimal128(38, 10), Decimal("12.5")),
        ("many", "[1.5, 2.5]", pa.list_(pa.float64()), [1.5, 2.5]),
        ("nested", "[[1], [2, 3]]", pa.list_(pa.list_(pa.int64())), [[1], [2, 3]]),
        ("maybe", "7", pa.int64(), 7),
        ("exact", "CAST(7 AS INT)", pa.int32(), 7),
        ("cents", "CAST(7.25 AS DECIMAL(9, 2))", pa.decimal128(9, 2), Decimal("7.25")),
    ],
)
def test_an_annotation_is_its_sql_type_in_both_directions(
    db, load, function, argument, kind, value
):
    load(ECHO)
    result = db.query(f"SELECT p.{function}({argument}) AS x")
    assert result.schema.field("x").type == kind
    assert result.rows() == [(value,)]


@pytest.mark.parametrize(
    "argument",
    [
        "arrow_cast('2013-06-30T12:00:00.25', 'Timestamp(us)')",
        "arrow_cast('2013-06-30T12:00:00.25', 'Timestamp(ns)')",
        "arrow_cast('2013-06-30T12:00:00.25', 'Timestamp(ms)')",
        "arrow_cast('2013-06-30T14:00:00.25+02:00', 'Timestamp(us, \"Europe/Berlin\")')",
        "'2013-06-30T12:00:00.25'",
    ],
)
def test_a_datetime_parameter_takes_every_timestamp(db, load, argument):
    load(ECHO)
    assert value_of(db, f"SELECT p.moment({argument})") == NOON
    assert value_of(db, f"SELECT p.type_of_moment({argument})") == "datetime None"


def test_values_arrive_as_the_annotated_python_type(db, load):
    load(ECHO)
    assert value_of(db, "SELECT p.type_of(arrow_cast('a', 'Utf8View'))") == "str"


def test_an_argument_of_another_type_is_refused_with_the_signature(db, load):
    load(ECHO)
    with pytest.raises(
        QueryError, match=r"cannot call p\.whole\(x BIGINT\) -> BIGINT with \(Utf8\)"
    ):
        db.query("SELECT p.whole('a')")
    with pytest.raises(QueryError, match=r"p\.whole\(x BIGINT\).*with \(Int64, Int64\)"):
        db.query("SELECT p.whole(1, 2)")


# --- nulls ---------------------------------------------------------------------------------------

NULLS = """
@scalar
def add(x: int, y: int) -> int: return x + y
@scalar
def fill(x: int | None, y: int) -> int: return y if x is None else x
@scalar
def halve(x: int) -> int | None: return None if x % 2 else x // 2
@scalar
def never(x: int) -> int: raise AssertionError("called with a null")
@scalar
def pair(x: int) -> list[int]: return [x, x]
@scalar
def broken(x: int) -> int: return None
"""


@pytest.fixture
def gaps(db):
    db.register("gaps", pa.table({"x": [1, None, 3, None], "y": [10, 20, None, None]}))


def test_a_null_argument_gives_null_without_a_call(db, load, gaps):
    load(NULLS)
    assert db.query("SELECT p.add(x, y) FROM gaps").rows() == [(11,), (None,), (None,), (None,)]
    assert db.query("SELECT p.never(x) FROM gaps WHERE x IS NULL").rows() == [(None,), (None,)]


def test_only_optional_parameters_get_nulls(db, load, gaps):
    load(NULLS)
    assert db.query("SELECT p.fill(x, y) FROM gaps").rows() == [(1,), (20,), (None,), (None,)]


def test_nulls_around_lists_stay_in_their_rows(db, load, gaps):
    load(NULLS)
    assert db.query("SELECT p.pair(x) FROM gaps").rows() == [([1, 1],), (None,), ([3, 3],), (None,)]


def test_none_is_accepted_only_for_an_optional_result(db, load):
    load(NULLS)
    assert value_of(db, "SELECT p.halve(3)") is None
    with pytest.raises(
        FunctionError, match=r"p\.broken .*returned None; expected BIGINT"
    ) as raised:
        value_of(db, "SELECT p.broken(3)")
    assert raised.value.function == "p.broken"


# --- vectorised form -----------------------------------------------------------------------------

VECTORIZED = """
@scalar(vectorized=True)
def double(x: pa.DoubleArray) -> pa.DoubleArray:
    assert isinstance(x, pa.DoubleArray), type(x)
    return pc.multiply(x, 2.0)
@scalar(vectorized=True)
def filled(x: Annotated[pa.Array, pa.float64()]) -> pa.float64():
    return pc.fill_null(x, -1.0)
@scalar(vectorized=True)
def rows(x: pa.DoubleArray) -> pa.int64():
    return pa.array([len(x)] * len(x))
@scalar(vectorized=True)
def in_chunks(x: pa.Int64Array) -> pa.Int64Array:
    return pa.chunked_array([x.slice(0, 1), x.slice(1)])
@scalar(vectorized=True)
def moment(x: datetime) -> datetime:
    assert x.type == pa.timestamp("us"), x.type
    return x
@scalar(vectorized=True)
def short(x: pa.Int64Array) -> pa.Int64Array: return x.slice(1)
@scalar(vectorized=True)
def narrow(x: pa.Int64Array) -> pa.Int64Array: return x.cast(pa.int32())
@scalar(vectorized=True)
def nothing(x: pa.Int64Array) -> pa.Int64Array: return None
@scalar(vectorized=True)
def a_list(x: pa.Int64Array) -> pa.Int64Array: return x.to_pylist()
"""


def test_the_vectorised_form_gets_whole_columns_with_their_nulls(db, load, gaps):
    load(VECTORIZED)
    assert db.query("SELECT p.double(x) FROM gaps").rows() == [(2.0,), (None,), (6.0,), (None,)]
    assert db.query("SELECT p.filled(x) FROM gaps").rows() == [(1.0,), (-1.0,), (3.0,), (-1.0,)]
    assert db.query("SELECT p.rows(x) FROM gaps").rows() == [(4,)] * 4
    assert db.query("SELECT p.in_chunks(x) FROM gaps").rows() == [(1,), (None,), (3,), (None,)]
    assert value_of(db, "SELECT p.moment(TIMESTAMP '2013-06-30T12:00:00.25')") == NOON


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("short", "returned 3 values for 4 rows"),
        ("narrow", "returned an array of int32; expected int64"),
        ("nothing", "returned None (NoneType); expected a pyarrow array of int64"),
        ("a_list", "returned [1, None, 3, None] (list); expected a pyarrow array of int64"),
    ],
)
def test_an_array_of_the_wrong_type_is_an_error_that_names_the_function(
    db, load, gaps, function, complaint
):
    load(VECTORIZED)
    with pytest.raises(FunctionError) as raised:
        db.query(f"SELECT p.{function}(x) FROM gaps").rows()
    assert str(raised.value) == f"p.{function} (plugin p 1.0) {complaint}"
    assert raised.value.function == f"p.{function}"


# --- broken promises -----------------------------------------------------------------------------

MISFITS = """
@scalar
def text_for_int(x: int) -> int: return "a" if x == 2 else x
@scalar
def float_for_int(x: int) -> int: return 1.5
@scalar
def int_for_text(x: int) -> str: return x
@scalar
def int_for_date(x: int) -> date: return x
@scalar
def text_for_bytes(x: int) -> bytes: return "a"
@scalar
def text_for_list(x: int) -> list[str]: return "ab"
@scalar
def too_large(x: int) -> int: return 2**63
@scalar
def stops(x: int) -> int:
    if x == 2:
        raise StopIteration
    return x
"""


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("text_for_int", "returned 'a' (str) for row 2 of 8192; expected BIGINT"),
        ("float_for_int", "returned 1.5 (float) for row 0 of 8192; expected BIGINT"),
        ("int_for_text", "returned 0 (int) for row 0 of 8192; expected VARCHAR"),
        ("int_for_date", "returned 0 (int) for row 0 of 8192; expected DATE"),
        ("text_for_bytes", "returned 'a' (str) for row 0 of 8192; expected BYTEA"),
        ("text_for_list", "returned 'ab' (str) for row 0 of 8192; expected VARCHAR[]"),
        ("too_large", "returned 9223372036854775808 (int) for row 0 of 8192; expected BIGINT"),
        ("stops", "raised StopIteration in row 2"),
    ],
)
def test_a_value_of_the_wrong_type_is_never_converted(db, load, function, complaint):
    load(MISFITS)
    db.register("t", numbers())
    with pytest.raises(FunctionError) as raised:
        db.query(f"SELECT p.{function}(n) FROM t").rows()
    assert str(raised.value) == f"p.{function} (plugin p 1.0) {complaint}"


# --- volatility ----------------------------------------------------------------------------------

COUNTING = """
CALLS = []
@scalar
def volatile(x: int) -> int:
    CALLS.append(x)
    return len(CALLS)
@scalar(volatility="stable")
def stable() -> int:
    CALLS.append(None)
    return len(CALLS)
@scalar(volatility="immutable")
def immutable(x: int) -> int:
    CALLS.append(x)
    return len(CALLS)
"""


def test_a_volatile_function_is_called_for_each_row_even_with_constants(db, load):
    load(COUNTING)
    db.register("t", numbers())
    assert value_of(db, "SELECT max(v) FROM (SELECT n, p.volatile(n) AS v FROM t)") == BATCH


@pytest.mark.parametrize("call", ["p.stable()", "p.immutable(1)"])
def test_a_stable_function_of_constants_is_called_once(db, load, call):
    load(COUNTING)
    db.register("t", numbers())
    assert set(db.query(f"SELECT {call} FROM t").rows()) == {(1,)}


# --- aggregates ----------------------------------------------------------------------------------

AGGREGATES = """
@aggregate
class mean:
    count: int = 0
    total: float = 0.0
    def update(self, value: float) -> None:
        self.count += 1
        self.total += value
    def retract(self, value: float) -> None:
        self.count -= 1
        self.total -= value
    def merge(self, other: "mean") -> None:
        self.count += other.count
        self.total += other.total
    def evaluate(self) -> float | None:
        return self.total / self.count if self.count else None

@aggregate
class distinct:
    "State that SQL has no type for."
    def __init__(self): self.seen = set()
    def update(self, value: str) -> None: self.seen.add(value)
    def merge(self, other): self.seen |= other.seen
    def state(self) -> list[str]: return sorted(self.seen)
    def restore(self, seen: list[str]) -> None: self.seen = set(seen)
    def evaluate(self) -> int: return len(self.seen)

@aggregate(vectorized=True)
class total:
    value: int = 0
    def update(self, column: pa.Int64Array) -> None: self.value += pc.sum(column).as_py() or 0
    def merge(self, other): self.value += other.value
    def evaluate(self) -> int: return self.value

@aggregate
class broken:
    value: int = 0
    def update(self, value: int) -> None: pass
    def merge(self, other): pass
    def evaluate(self) -> int: return "a"

@aggregate
class broken_state:
    value: int = 0
    def update(self, value: int) -> None: self.value = "a"
    def merge(self, other): pass
    def evaluate(self) -> int: return 1
"""


@pytest.fixture
def groups(db):
    count = 8 * BATCH
    db.register(
        "t",
        pa.table(
            {
                "n": pa.array(range(count), pa.int64()),
                "k": [f"k{n % 3}" for n in range(count)],
                "gap": [None if n % 2 else float(n) for n in range(count)],
            }
        ),
    )
    return count


def test_an_aggregate_agrees_with_the_engines_own_over_groups_and_parts(db, load, groups):
    load(AGGREGATES)
    sql = "SELECT k, {mean}(gap), {distinct}, {total}(n) FROM t GROUP BY k ORDER BY k"
    of_plugin = sql.format(mean="p.mean", distinct="p.distinct(k)", total="p.total")
    builtin = sql.format(mean="avg", distinct="count(DISTINCT k)", total="sum")
    assert db.query(of_plugin).rows() == db.query(builtin).rows()
    assert value_of(db, "SELECT p.distinct(k) FROM t") == 3


def test_an_aggregate_of_no_rows_is_that_of_a_fresh_instance(db, load, groups):
    load(AGGREGATES)
    assert db.query("SELECT p.mean(gap), p.total(n) FROM t WHERE n < 0").rows() == [(None, 0)]


def test_only_an_aggregate_with_retract_slides_over_a_window(db, load, groups):
    load(AGGREGATES)
    over = "OVER (ORDER BY n ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)"
    sql = "SELECT n, {}(n) {} FROM t WHERE n < 20 ORDER BY n"
    assert db.query(sql.format("p.mean", over)).rows() == db.query(sql.format("avg", over)).rows()
    with pytest.raises(QueryError, match=r"^p\.total cannot .* slides: it has no method retract"):
        db.query(sql.format("p.total", over)).rows()


@pytest.mark.parametrize(
    ("function", "complaint"),
    [("broken", "evaluated to 'a' (str)"), ("broken_state", "has value = 'a' (str)")],
)
def test_an_aggregate_that_returns_the_wrong_type_is_named(db, load, groups, function, complaint):
    load(AGGREGATES)
    with pytest.raises(FunctionError) as raised:
        db.query(f"SELECT k, p.{function}(n) FROM t GROUP BY k").rows()
    assert str(raised.value) == f"p.{function} (plugin p 1.0) {complaint}; expected BIGINT"


# --- window functions ----------------------------------------------------------------------------

WINDOWS = """
@window
def change(price: list[float]) -> list[float | None]:
    return [None, *(b - a for a, b in zip(price, price[1:]))]
@window(frame=True)
def span(price: list[float]) -> float: return max(price) - min(price)
@window(vectorized=True)
def upward(price: pa.DoubleArray) -> pa.DoubleArray: return pc.cumulative_max(price)
@window
def short(price: list[float]) -> list[float]: return price[1:]
@window
def single(price: list[float]) -> list[float]: return 1.0
"""


def test_a_window_function_gets_its_partition_in_order(db, load, groups):
    load(WINDOWS)
    over = "OVER (PARTITION BY k ORDER BY n)"
    rows = db.query(f"SELECT n, p.change(n) {over} FROM t WHERE n < 9 ORDER BY n").rows()
    assert rows == [(n, None if n < 3 else 3.0) for n in range(9)]
    rows = db.query(f"SELECT n, p.upward(9 - n) {over} FROM t WHERE n < 9 ORDER BY n").rows()
    assert rows == [(n, 9.0 - n % 3) for n in range(9)]


def test_a_window_function_of_frames_gets_each_rows_frame(db, load, groups):
    load(WINDOWS)
    over = "OVER (ORDER BY n ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)"
    rows = db.query(f"SELECT p.span(n) {over} FROM t WHERE n < 5 ORDER BY n").rows()
    assert rows == [(0.0,), (1.0,), (2.0,), (2.0,), (2.0,)]


def test_a_window_skips_rows_with_nulls(db, load, groups):
    load(WINDOWS)
    rows = db.query("SELECT p.change(gap) OVER (ORDER BY n) FROM t WHERE n < 6 ORDER BY n").rows()
    assert rows == [(None,), (None,), (2.0,), (None,), (2.0,), (None,)]


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("short", "returned 4 values for 5 rows"),
        ("single", "returned a float; expected a list"),
    ],
)
def test_a_window_function_that_returns_the_wrong_type_is_named(
    db, load, groups, function, complaint
):
    load(WINDOWS)
    with pytest.raises(FunctionError) as raised:
        db.query(f"SELECT p.{function}(n) OVER (ORDER BY n) FROM t WHERE n < 5").rows()
    assert str(raised.value) == f"p.{function} (plugin p 1.0) {complaint}"


# --- table functions -----------------------------------------------------------------------------

TABLES = """
class Square(NamedTuple):
    n: int
    square: int
class Entry(TypedDict):
    name: str
    size: float | None
@table_function
def squares(limit: int = 3, start: int = 0) -> Iterator[Square]:
    for n in range(start, start + limit):
        yield Square(n, n * n)
@table_function
def entries() -> list[Entry]: return [{"name": "a", "size": None}, {"name": "b", "size": 1.5}]
@table_function
def arrow(n: int) -> pa.Table: return pa.table({"a": list(range(n))})
@table_function
def wrong() -> list[Square]: return [Square(1, "a")]
@table_function
def no_table(n: int) -> pa.Table: return n
"""


@pytest.mark.parametrize(
    ("call", "params", "rows"),
    [
        ("p.squares()", None, [(0, 0), (1, 1), (2, 4)]),
        ("p.squares(1)", None, [(0, 0)]),
        ("p.squares(2, 5)", None, [(5, 25), (6, 36)]),
        ("p.squares($1)", [1], [(0, 0)]),
        ("P.Squares(1)", None, [(0, 0)]),
        ("p.squares(0)", None, []),
        ("p.entries()", None, [("a", None), ("b", 1.5)]),
        ("p.arrow(2)", None, [(0,), (1,)]),
        ("p.squares(2) AS s JOIN p.arrow(1) AS a ON s.n = a.a", None, [(0, 0, 0)]),
    ],
)
def test_a_table_function_is_a_table_in_from(db, load, call, params, rows):
    load(TABLES)
    assert db.query(f"SELECT * FROM {call}", params).rows() == rows


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        ("p.arrow()", QueryError, r"p\.arrow was given 0 arguments; it takes n"),
        ("p.arrow('x')", QueryError, r"p\.arrow: argument 'n' is 'x'; expected BIGINT"),
        ("p.arrow(NULL)", QueryError, r"p\.arrow: argument 'n' may not be null"),
        ("p.wrong()", FunctionError, r"p\.wrong .* returned in column 'square' 'a' \(str\)"),
        (
            "p.no_table(1)",
            FunctionError,
            r"p\.no_table .* returned a int; expected a pyarrow Table",
        ),
    ],
)
def test_a_table_function_with_bad_arguments_or_rows_is_named(db, load, call, error, complaint):
    load(TABLES)
    with pytest.raises(error, match=complaint):
        db.query(f"SELECT * FROM {call}")


# --- names ---------------------------------------------------------------------------------------

NAMES = """
@scalar
def distance(x: float) -> float: return x
@scalar(name="Mixed")
def mixed(x: float) -> float: return x
@window
def rank(x: list[float]) -> list[float]: return x
"""


@pytest.mark.parametrize(
    "name", ["geo.distance", "GEO.Distance", '"geo.distance"', "geo . distance"]
)
def test_function_names_follow_sqls_rules(db, load, name):
    load(NAMES, "geo")
    assert value_of(db, f"SELECT {name}(1.5)") == 1.5


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        ("geo.distanse(1)", r"no function 'geo\.distanse'; did you mean geo\.distance\?"),
        (
            "gea.distance(1)",
            r"no function 'gea\.distance'; plugin 'gea' is not loaded; loaded: geo",
        ),
        ("distance(1)", r"no function 'distance'; did you mean geo\.distance\?"),
        ("geo.rank(1)", r"geo\.rank is a window function: call it with OVER"),
    ],
)
def test_an_unknown_function_is_named_with_similar_names(db, load, call, advice):
    load(NAMES, "geo")
    with pytest.raises(QueryError, match=f"^{advice}"):
        db.query(f"SELECT {call}")


def test_functions_lists_every_sql_signature(db, load):
    load(TABLES + AGGREGATES)
    listed = db.functions()
    assert "p.mean(value DOUBLE) -> DOUBLE" in listed
    assert "p.squares([limit BIGINT], [start BIGINT]) -> TABLE(n BIGINT, square BIGINT)" in listed


@pytest.mark.parametrize("argument", ["1", "n"])
def test_a_function_that_queries_in_turn_is_told_why_it_cannot(db, load, monkeypatch, argument):
    monkeypatch.setitem(HOST, "db", db)
    load('@scalar\ndef f(x: int) -> int: return HOST["db"].query("SELECT 1").rows()[0][0]\n')
    db.register("t", numbers())
    with pytest.raises(FunctionError, match="cannot query in turn"):
        db.query(f"SELECT p.f({argument}) FROM t").rows()
    assert db.query("SELECT count(*) FROM t").rows() == [(BATCH,)]
