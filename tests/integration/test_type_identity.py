"""A function for one data type refuses a column of another, though their storage is the same."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epochal.errors import QueryError
from epochal.kinds import data_type
from epochal.sql import Database

POINT = """
import pyarrow as pa
from epochal.kinds import data_type, scalar

@data_type
class point:
    storage = pa.struct([("lat", pa.float64()), ("lon", pa.float64())])
    parameters = {parameters}
    samples = [(1.5, 2.5)]
    encode = staticmethod(lambda value: dict(zip(("lat", "lon"), value)))
    decode = staticmethod(lambda stored: tuple(stored.values()))

@scalar
def at(lat: float, lon: float) -> point: return (lat, lon)
@scalar
def lat(p: point) -> float: return p[0]
@scalar
def both(n: float, p: point) -> float: return p[0]
"""


def write(plugins, plugin, parameters="{}"):
    return plugins.write(plugin, POINT.format(parameters=parameters))


@pytest.fixture
def db(rt, plugins):
    with Database(rt) as database:
        rt.load(write(plugins, "geo", {"datum": "WGS84"}))
        rt.load(write(plugins, "mars"))
        database.register("n", pa.table({"a": [1.0], "k": [1]}))
        yield database


def rows(db, sql):
    with db.query(sql) as result:
        return result.rows()


def marked(name, parameters):
    place = pa.array([{"lat": 1.0, "lon": 2.0}], STORAGE)
    metadata = {"ARROW:extension:name": name}
    if parameters is not None:
        metadata["ARROW:extension:metadata"] = parameters
    field = pa.field("p", STORAGE, metadata=metadata)
    return pa.Table.from_arrays([place], schema=pa.schema([field]))


STORAGE = pa.struct([("lat", pa.float64()), ("lon", pa.float64())])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT geo.lat(mars.at(1, 2))",
        "SELECT geo.both(1, mars.at(1, 2))",
        "SELECT -geo.lat(mars.at(a, a)) AS x FROM n",
        "SELECT CASE WHEN a > 0 THEN geo.lat(mars.at(a, a)) END IN (1, 2) FROM n",
        "SELECT a FROM n WHERE geo.lat(mars.at(a, a)) > 0",
        "SELECT a FROM n ORDER BY geo.lat(mars.at(a, a))",
        "SELECT sum(geo.lat(mars.at(a, a))) FROM n",
        "SELECT count(*) FROM n GROUP BY geo.lat(mars.at(a, a))",
        "SELECT sum(a) OVER (PARTITION BY geo.lat(mars.at(a, a))) FROM n",
        "SELECT lag(geo.lat(mars.at(a, a))) OVER (ORDER BY a) FROM n",
        "SELECT 1 FROM n x JOIN n y ON geo.lat(mars.at(x.a, y.a)) > x.a",
        "SELECT geo.lat(q) FROM (SELECT p AS q FROM (SELECT mars.at(a, a) AS p FROM n) LIMIT 1)",
        "WITH w AS (SELECT mars.at(a, a) AS p FROM n) SELECT geo.lat(p) FROM w UNION SELECT 1",
    ],
)
def test_another_type_is_refused_when_the_query_is_planned(db, sql):
    with pytest.raises(QueryError, match=r'takes a geo\.point {"datum": "WGS84"} as \'p\', and .*'):
        db.query(sql)


def test_the_refusal_names_the_arguments_type(db):
    message = r"geo\.lat takes .*, and mars\.at\(.*\) is a mars\.point: the two types share a"
    with pytest.raises(QueryError, match=message):
        db.query("SELECT geo.lat(mars.at(1, 2))")


@pytest.mark.parametrize(
    ("name", "parameters", "fine"),
    [
        ("geo.point", '{"datum": "WGS84"}', True),
        ("geo.point", '{"datum":"WGS84"}', True),  # the same JSON
        ("geo.point", None, True),  # no parameters named
        ("geo.point", '{"datum": "ETRS89"}', False),
        ("geo.point", "not JSON", False),
        ("mars.point", '{"datum": "WGS84"}', False),
    ],
)
def test_parameters_are_part_of_the_type(db, name, parameters, fine):
    db.register("places", marked(name, parameters))
    if fine:
        assert rows(db, "SELECT geo.lat(p) FROM places") == [(1.0,)]
        return
    with pytest.raises(QueryError, match="share a storage format but not a meaning"):
        db.query("SELECT geo.lat(p) FROM places")


@pytest.mark.parametrize(
    "argument",
    [
        "named_struct('lat', 1.0::double, 'lon', 2.0::double)",
        # The engine makes these columns anew, without metadata.
        "CASE WHEN a > 0 THEN mars.at(a, a) END",
        "coalesce(mars.at(a, a))",
        "(SELECT max(mars.at(a, a)) FROM n)",
    ],
)
def test_a_column_without_a_named_type_is_accepted(db, argument):
    assert rows(db, f"SELECT geo.lat({argument}) FROM n") == [(1.0,)]


def test_arrays_from_the_handle_are_of_the_type(rt, db):
    for plugin in ("geo", "mars"):
        place = rt.epoch[data_type][f"{plugin}.point"].array([(1.0, 2.0)])
        db.register(plugin, pa.table({"p": place}))
    assert rows(db, "SELECT geo.lat(p) FROM geo") == [(1.0,)]
    with pytest.raises(QueryError, match=r"n?p is a mars\.point"):
        db.query("SELECT geo.lat(p) FROM mars")


def test_a_parquet_file_keeps_its_types(db, tmp_path):
    with db.query("SELECT mars.at(1, 2) AS p, 1 AS n") as result:
        made = result.to_table()
    for folder in ("same", "other"):
        (tmp_path / folder).mkdir()
        pq.write_table(made, tmp_path / folder / "1.parquet")
    pq.write_table(made, tmp_path / "same" / "2.parquet")
    pq.write_table(
        made.replace_schema_metadata({"by": "another"}), tmp_path / "other" / "2.parquet"
    )
    pq.write_table(
        made.replace_schema_metadata({"by": "somebody"}), tmp_path / "other" / "3.parquet"
    )
    db.register("single", tmp_path / "same" / "1.parquet")
    db.register("same", tmp_path / "same")
    db.register("other", tmp_path / "other")  # the engine drops metadata that differ between files
    for name in ("single", "same"):
        assert rows(db, f"SELECT mars.lat(p) FROM {name}")[0] == (1.0,)
        with pytest.raises(QueryError, match="share a storage format"):
            db.query(f"SELECT geo.lat(p) FROM {name}")
    assert rows(db, "SELECT geo.lat(p) FROM other") == [(1.0,)] * 3
