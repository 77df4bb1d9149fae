"""Data types in the signatures of functions of every kind, and of other plugins."""

import gc

import pyarrow as pa
import pytest

from epochal.errors import ExportError, FunctionError, QueryError
from epochal.kinds import data_type
from epochal.sql import Database

GEO = """
from dataclasses import dataclass
from typing import Annotated, Any, Iterator, NamedTuple, TypedDict
import pyarrow as pa
from epochal.kinds import (
    aggregate, data_type, index, mergeable_state, scalar, table_function, window
)

class Point:
    "Of a class that SQL knows nothing of: whatever gets a mapping instead, fails."
    def __init__(self, lat, lon):
        self.lat, self.lon = lat, lon

@data_type
class point:
    storage = pa.struct([("lat", pa.float64()), ("lon", pa.float64())])
    samples = [Point(1.5, 2.5)]
    encode = staticmethod(lambda value: {"lat": value.lat, "lon": value.lon})
    decode = staticmethod(lambda stored: Point(**stored))

@scalar
def at(lat: float, lon: float) -> point: return Point(lat, lon)
@scalar
def lat(p: point) -> float: return p.lat
@scalar
def or_zero(p: point | None) -> Annotated[Point, point]: return p or Point(0.0, 0.0)
@scalar
def none(p: Annotated[point, "a place"]) -> point | None: return None
@scalar
def line(lat: float, n: int) -> list[point]: return [Point(lat, float(i)) for i in range(n)]
@scalar
def length(line: list[point | None]) -> float: return sum(p.lon for p in line if p)
@scalar
def nested(line: list[list[point]]) -> list[list[point]]: return [one[::-1] for one in line]
@scalar(vectorized=True)
def east(p: point) -> pa.DoubleArray: return p.field("lon")
@scalar(vectorized=True)
def same(p: point) -> point: return p
@scalar
def broken(x: float) -> point: return "nope"
@scalar
def wrong(x: float) -> point: return Point("north", x)

@aggregate
class centre:
    n: int = 0
    lat: float = 0.0
    lon: float = 0.0
    def update(self, p: point) -> None:
        self.n += 1; self.lat += p.lat; self.lon += p.lon
    def retract(self, p: point) -> None:
        self.n -= 1; self.lat -= p.lat; self.lon -= p.lon
    def merge(self, other) -> None:
        self.n += other.n; self.lat += other.lat; self.lon += other.lon
    def evaluate(self) -> point | None:
        return Point(self.lat / self.n, self.lon / self.n) if self.n else None

@aggregate
class furthest:
    place: point | None = None
    def update(self, p: point) -> None:
        if self.place is None or p.lon > self.place.lon: self.place = p
    def merge(self, other) -> None:
        if other.place is not None: self.update(other.place)
    def evaluate(self) -> point | None: return self.place

@aggregate(vectorized=True)
class total:
    lon: float = 0.0
    def update(self, p: point) -> None: self.lon += sum(p.field("lon").to_pylist())
    def merge(self, other) -> None: self.lon += other.lon
    def evaluate(self) -> point: return Point(0.0, self.lon)

@mergeable_state
class outline:
    samples = [[(Point(1.0, 2.0),)], [(Point(3.0, 4.0),)]]
    def __init__(self): self.seen = []
    def update(self, p: point) -> None: self.seen.append(p)
    def merge(self, other) -> None: self.seen += other.seen
    def evaluate(self) -> int: return len({(p.lat, p.lon) for p in self.seen})
    def state(self) -> list[point]: return self.seen
    def restore(self, state: list[point]) -> None: self.seen = list(state)

@window
def moved(p: list[point]) -> list[point]: return [Point(one.lat + 1, one.lon) for one in p]
@window(frame=True)
def first(p: list[point]) -> point: return p[0]
@window(vectorized=True)
def kept(p: point) -> point: return p

class Place(NamedTuple):
    name: str
    where: point

@dataclass
class Seen:
    where: point | None
    line: list[point]

class Known(TypedDict):
    where: point

@table_function
def places(n: int) -> Iterator[Place]:
    for i in range(n): yield Place(f"p{i}", Point(float(i), 0.0))
@table_function
def seen(p: point, q: float = 0.0) -> list[Seen]: return [Seen(p, [p]), Seen(None, [])]
@table_function
def known() -> list[Known]: return [{"where": Point(9.0, 9.0)}]

@index
class near:
    def build(self, rows): self.rows = [row for batch in rows for row in batch.to_pylist()]
    def persist(self, folder): ...
    def open(self, folder): self.rows = []
    def search(self, n: int) -> list[Place]:
        return [Place("found", Point(row["x"], 0.0)) for row in self.rows[:n]]
"""


@pytest.fixture
def db(rt, plugins):
    with Database(rt) as database:
        rt.load(plugins.write("geo", GEO))
        database.register("n", pa.table({"a": [1.0, 2.0, None, 4.0], "k": [1, 2, 3, 4]}))
        yield database


def table(db, sql, params=None):
    with db.query(sql, params) as result:
        return result.to_table()


def first_column(db, sql, params=None):
    return table(db, sql, params).column(0).to_pylist()


def place(lat, lon):
    return {"lat": lat, "lon": lon}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT geo.lat(geo.at(a, 0)) FROM n", [1.0, 2.0, None, 4.0]),
        ("SELECT geo.lat(geo.or_zero(geo.at(a, 0))) FROM n", [1.0, 2.0, 0.0, 4.0]),
        ("SELECT geo.none(geo.at(1, 2))", [None]),
        ("SELECT geo.length(geo.line(1, 4))", [6.0]),
        ("SELECT geo.length([geo.at(1, 2), geo.none(geo.at(1, 2)), geo.at(1, 3)])", [5.0]),
        ("SELECT geo.length(array_agg(geo.at(1, a))) FROM n", [7.0]),
        ("SELECT geo.nested([geo.line(1, 2)])", [[[place(1.0, 1.0), place(1.0, 0.0)]]]),
        ("SELECT geo.east(geo.at(0, a)) FROM n", [1.0, 2.0, None, 4.0]),
        ("SELECT geo.lat(geo.same(geo.at(a, 0))) FROM n", [1.0, 2.0, None, 4.0]),
        ("SELECT geo.centre(geo.at(a, k)) FROM n WHERE k < 3", [place(1.5, 1.5)]),
        ("SELECT geo.centre(geo.at(a, k)) FROM n WHERE k > 9", [None]),
        ("SELECT geo.lat(geo.furthest(geo.at(k, a))) FROM n", [4.0]),
        ("SELECT geo.furthest(geo.at(k, a)) FROM n GROUP BY k > 9", [place(4.0, 4.0)]),
        ("SELECT geo.total(geo.at(0, k)) FROM n", [place(0.0, 10.0)]),
        ("SELECT geo.outline(geo.at(a, 0)) FROM n", [3]),
        (
            "SELECT geo.outline_merge(s) FROM (SELECT geo.outline_state(geo.at(a, 0)) AS s FROM n "
            "GROUP BY k)",
            [3],
        ),
        (
            "SELECT geo.lat(geo.centre(geo.at(k, 0)) OVER (ORDER BY k ROWS 1 PRECEDING)) FROM n",
            [1.0, 1.5, 2.5, 3.5],
        ),
        ("SELECT geo.lat(geo.moved(geo.at(a, 0)) OVER (ORDER BY k)) FROM n", [2.0, 3.0, None, 5.0]),
        ("SELECT geo.lat(geo.kept(geo.at(a, 0)) OVER (ORDER BY k)) FROM n", [1.0, 2.0, None, 4.0]),
        (
            "SELECT geo.first(geo.at(k, 0)) OVER (ORDER BY k ROWS 1 PRECEDING) FROM n LIMIT 2",
            [place(1.0, 0.0), place(1.0, 0.0)],
        ),
        ('SELECT geo.lat(where_) FROM (SELECT "where" AS where_ FROM geo.places(3))', [0, 1, 2]),
        ('SELECT geo.lat("where") FROM geo.known()', [9.0]),
    ],
)
def test_functions_of_every_kind_take_and_return_values(db, sql, expected):
    assert first_column(db, sql) == expected


def test_table_functions_take_values_as_parameters(db):
    given = pa.scalar(place(1.0, 2.0))
    result = table(db, "SELECT * FROM geo.seen($1)", [given])
    assert result["where"].to_pylist() == [place(1.0, 2.0), None]
    assert result["line"].to_pylist() == [[place(1.0, 2.0)], []]


def test_index_searches_return_values(db):
    db.build_index("geo.near", "SELECT a AS x FROM n WHERE a > 1")
    assert first_column(db, 'SELECT geo.lat("where") FROM geo.near(5)') == [2.0, 4.0]


@pytest.mark.parametrize(
    ("sql", "listed"),
    [
        ("SELECT geo.at(1, 2) AS x", False),
        ("SELECT geo.same(geo.at(1, 2)) AS x", False),
        ('SELECT "where" AS x FROM geo.places(1)', False),
        ("SELECT geo.line(1, 2) AS x", True),
    ],
)
def test_columns_name_their_data_type(db, sql, listed):
    field = table(db, sql).schema.field("x")
    field = field.type.value_field if listed else field
    assert field.metadata[b"ARROW:extension:name"] == b"geo.point"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT geo.broken(1)",
            r"geo\.broken \(plugin geo 1\.0\), the result: the data type point cannot store 'nope'"
            ": AttributeError",
        ),
        ("SELECT geo.wrong(1)", r"geo\.wrong \(plugin geo 1\.0\) returned .*'north'"),
        (
            "SELECT geo.lat(arrow_cast(NULL, 'Int64'))",
            "cannot call geo.lat",
        ),
    ],
)
def test_a_codec_error_names_its_place(db, sql, message):
    with pytest.raises((FunctionError, QueryError), match=message):
        table(db, sql)


def test_an_undecodable_value_is_an_error_that_names_the_parameter(rt, db, plugins):
    code = GEO.replace("Point(**stored))", "Point(**stored) if stored['lat'] < 90 else 1 / 0)")
    rt.reload("geo", plugins.write("geo", code))
    message = (
        r"geo\.lat \(.*\), parameter 'p': the data type point cannot read {'lat': 99.0, .*Zero"
    )
    with pytest.raises(FunctionError, match=message) as raised:
        table(db, "SELECT geo.lat(geo.at(99, 0))")
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    del raised  # its frames hold the plugin
    rt.reload("geo", plugins.write("geo", GEO.replace('f"p{i}", Point(float(i), 0.0)', '"p", i')))
    message = r"geo\.places \(.*\), column 'where': the data type point cannot store 0: Attribute"
    with pytest.raises(FunctionError, match=message):
        table(db, "SELECT * FROM geo.places(1)")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "@window\ndef w(p: point) -> list[float]: return []",
            "point is a data type, and not a column; expected list",
        ),
        (
            "@scalar\ndef f(p: Annotated[point, pa.int64()]) -> float: return 1.0",
            "point is a data type, which has a storage type of its own",
        ),
        (
            "@scalar\ndef f(p: Point) -> float: return 1.0",
            "data types: classes marked with @data_type",
        ),
    ],
)
def test_a_type_in_an_invalid_place_is_refused_with_the_reason(rt, plugins, code, message):
    with pytest.raises(ExportError, match=message):
        rt.load(plugins.write("geo", f"{GEO}\n{code}\n"))


@pytest.mark.parametrize("marker", ["aggregate", "mergeable_state", "window", "table_function"])
def test_functions_of_every_kind_may_use_only_exported_types(rt, plugins, marker):
    inner = "class Types:\n    " + GEO[GEO.index("@data_type") : GEO.index("@scalar")].replace(
        "\n", "\n    "
    )
    head = GEO[: GEO.index("@data_type")]
    code = {
        "aggregate": GEO[GEO.index("@aggregate\nclass furthest") : GEO.index("@aggregate(v")],
        "mergeable_state": GEO[GEO.index("@mergeable_state\n") : GEO.index("@window")],
        "window": GEO[GEO.index("@window\n") : GEO.index("@window(frame")],
        "table_function": GEO[GEO.index("class Known") : GEO.index("@table_function")]
        + GEO[GEO.index("@table_function\ndef known") : GEO.index("@index")],
    }[marker].replace("point", "Types.point")
    with pytest.raises(ExportError, match=r"names the data_type Types\.point, which plugin 'geo'"):
        rt.load(plugins.write("geo", f"{head}{inner}\n{code}"))


# --- of other plugins ---------------------------------------------------------------------------

TRIPS = """
from typing import Annotated, Any, Iterator, NamedTuple
from epochal.kinds import aggregate, scalar, table_function

@scalar
def north(p: 'point', q: 'point | None') -> bool: return q is None or p.lat > q.lat
@scalar
def mirrored(p: 'Annotated[Any, point]') -> 'point': return type(p)(-p.lat, p.lon)
@scalar
def first(p: 'list[point]') -> 'point': return p[0]
@aggregate
class last:
    place: 'point | None' = None
    def update(self, p: 'point') -> None: self.place = p
    def merge(self, other) -> None: self.place = other.place or self.place
    def evaluate(self) -> 'point | None': return self.place

class Stop(NamedTuple):
    where: 'point'

@table_function
def stops(p: 'point') -> Iterator[Stop]: yield Stop(p)

def register(ctx):
    global point
    point = ctx.require("geo").point
"""


def test_a_plugin_uses_types_of_a_plugin_that_it_requires(rt, db, plugins):
    rt.load(plugins.write("trips", TRIPS, requires=["geo"]))
    assert first_column(db, "SELECT trips.north(geo.at(2, 0), geo.at(1, 0))") == [True]
    assert first_column(db, "SELECT geo.lat(trips.mirrored(trips.first(geo.line(7, 2))))") == [-7.0]
    assert first_column(db, "SELECT geo.lat(trips.last(geo.at(k, 0))) FROM n WHERE k = 2") == [2.0]
    result = table(db, "SELECT * FROM trips.stops($p)", {"p": pa.scalar(place(1.0, 2.0))})
    for field in (
        result.schema.field("where"),
        table(db, "SELECT trips.mirrored(geo.at(1, 2))").schema.field(0),
    ):
        assert field.metadata[b"ARROW:extension:name"] == b"geo.point"
    rt.load(plugins.write("mars", GEO))
    with pytest.raises(QueryError, match=r"trips\.mirrored takes a geo\.point as 'p', and .*mars"):
        db.query("SELECT trips.mirrored(mars.at(1, 2))")


def test_a_reload_of_either_plugin_leaks_nothing(rt, db, plugins):
    rt.load(plugins.write("trips", TRIPS, requires=["geo"]))
    stored = table(db, "SELECT trips.mirrored(geo.at(a, 0)) AS p, geo.line(a, 2) AS l FROM n")
    arrays = pa.table({"p": rt.epoch[data_type]["geo.point"].array([])})
    running = db.query("SELECT trips.mirrored(geo.at(a, 0)) AS p FROM n")
    cut = rt.reload("geo", plugins.write("geo", GEO + "# 2\n"), drain_timeout=0.0)
    assert not cut.drained  # the query goes on with what it began with
    assert running.to_table()["p"].to_pylist()[0] == place(-1.0, 0.0)
    for plugin, code, requires in (("geo", GEO, ()), ("trips", TRIPS, ["geo"])):
        cut = rt.reload(plugin, plugins.write(plugin, code, requires=requires))
        assert (cut.drained, cut.reclaimed) == (True, True), cut.swaps
    db.register("stored", stored)
    assert first_column(db, "SELECT trips.north(p, NULL) FROM stored") == [True, True, None, True]
    rt.remove("trips")
    cut = rt.remove("geo")
    assert (cut.drained, cut.reclaimed) == (True, True), cut.swaps
    gc.collect()
    assert arrays["p"].type.extension_name == "geo.point"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT geo.lat(geo.at(a, 0)) FROM n",
        "SELECT geo.furthest(geo.at(a, k)) FROM n",
        "SELECT geo.outline_state(geo.at(a, k)) FROM n",
        "SELECT geo.moved(geo.at(a, k)) OVER (ORDER BY k) FROM n",
        "SELECT * FROM geo.places(3)",
    ],
)
def test_a_query_of_each_kind_releases_its_code_at_its_end(rt, db, plugins, sql):
    result = db.query(sql)
    stored = result.to_table()
    cut = rt.reload("geo", plugins.write("geo", GEO + "# 2\n"))
    assert (cut.drained, cut.reclaimed) == (True, True), cut.swaps
    half = db.query(sql)
    assert not rt.reload("geo", plugins.write("geo", GEO), drain_timeout=0.0).drained
    half.close()
    cut = rt.reload("geo", plugins.write("geo", GEO + "# 4\n"))
    assert (cut.drained, cut.reclaimed) == (True, True), cut.swaps
    assert stored.num_rows
