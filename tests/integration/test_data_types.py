"""Data types: a version that would misread stored values is refused."""

import gc
import pickle
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epochal import examples
from epochal.errors import ExportError, FunctionError, IncompatibleError, LinkError
from epochal.kinds import data_type
from epochal.sql import Database

POINT = """
import pyarrow as pa
from epochal.kinds import data_type, scalar

@data_type
class point:
    storage = pa.struct([("lat", pa.{width}()), ("lon", pa.{width}())])
    parameters = {parameters}
    samples = [(52.5, 13.5), (-33.75, 151.25)]
    @staticmethod
    def encode(value):
        return {encode}
    @staticmethod
    def decode(stored):
        return {decode}

@scalar
def at(lat: float, lon: float) -> point:
    return (lat, lon)

@scalar
def text(place: point | None) -> str:
    return f"{version} {{place}}"

@scalar
def north(a: point, b: point) -> bool:
    return a[0] > b[0]
"""


def write(plugins, version="1.0", **at):
    blocks = {
        "width": "float64",
        "parameters": {"datum": "WGS84"},
        "encode": '{"lat": value[0], "lon": value[1]}',
        "decode": '(stored["lat"], stored["lon"])',
        **at,
    }
    return plugins.write("geo", POINT.format(version=version, **blocks), version=version)


@pytest.fixture
def db(rt):
    with Database(rt) as database:
        yield database


def table(db, sql):
    with db.query(sql) as result:
        return result.to_table()


def test_functions_get_values_and_columns_name_their_type(rt, db, plugins):
    rt.load(write(plugins))
    result = table(db, "SELECT geo.at(52.5, 13.5) AS place, geo.text(geo.at(1, 2)) AS text")
    assert result["text"].to_pylist() == ["1.0 (1.0, 2.0)"]
    field = result.schema.field("place")
    assert field.metadata[b"ARROW:extension:name"] == b"geo.point"
    assert field.metadata[b"ARROW:extension:metadata"] == b'{"datum": "WGS84"}'
    assert table(db, "SELECT geo.north(geo.at(2, 0), geo.at(1, 0)) AS x")["x"].to_pylist() == [True]


def test_null_stays_null(rt, db, plugins):
    rt.load(write(plugins))
    db.register("t", pa.table({"lat": [1.0, None]}))
    result = table(db, "SELECT geo.text(geo.at(lat, 0.0)) AS x FROM t")
    assert result["x"].to_pylist() == ["1.0 (1.0, 0.0)", "1.0 None"]


def test_a_handle_converts_between_values_and_arrays(rt, plugins):
    rt.load(write(plugins))
    point = rt.epoch[data_type]["geo.point"]
    array = point.array([(1.0, 2.0), None])
    assert array.type.extension_name == "geo.point"
    assert point.values(array) == [(1.0, 2.0), None]
    del array, point
    assert rt.reload("geo", write(plugins, "2.0")).reclaimed


def through_nothing(table):
    return table


def through_ipc(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def through_parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return pq.read_table(pa.BufferReader(sink.getvalue()))


def through_pickle(table):
    return pickle.loads(pickle.dumps(table))


@pytest.mark.parametrize("through", [through_nothing, through_ipc, through_parquet, through_pickle])
def test_a_table_keeps_its_type_after_the_plugin_is_removed(rt, plugins, through):
    rt.load(write(plugins))
    places = pa.table({"place": rt.epoch[data_type]["geo.point"].array([(1.0, 2.0), None])})
    assert rt.reload("geo", write(plugins, "2.0")).reclaimed
    pa.register_extension_type(rt.epoch[data_type]["geo.point"].type)
    try:
        cut = rt.remove("geo")
        assert (cut.drained, cut.reclaimed) == (True, True)
        gc.collect()
        result = through(places)
        # This test holds no instance of the type, so pyarrow makes a new one.
        assert result.schema.field("place").type.extension_name == "geo.point"
        assert result["place"].type == places["place"].type
        assert result.to_pylist() == [{"place": {"lat": 1.0, "lon": 2.0}}, {"place": None}]
    finally:
        pa.unregister_extension_type("geo.point")


def test_types_of_two_versions_are_equal_if_their_parameters_are(rt, plugins):
    rt.load(write(plugins))
    places = pa.table({"place": rt.epoch[data_type]["geo.point"].array([(1.0, 2.0)])})
    rt.reload("geo", write(plugins, "2.0"))
    point = rt.epoch[data_type]["geo.point"]
    more = pa.table({"place": point.array([(3.0, 4.0)])})
    assert point.values(pa.concat_tables([places, more])["place"]) == [(1.0, 2.0), (3.0, 4.0)]
    del point
    rt.remove("geo")
    rt.load(write(plugins, "3.0", parameters={"datum": "ETRS89"}))
    assert rt.epoch[data_type]["geo.point"].type != places["place"].type


def test_a_query_runs_while_its_type_is_registered_with_pyarrow(rt, db, plugins):
    rt.load(write(plugins))
    pa.register_extension_type(rt.epoch[data_type]["geo.point"].type)
    try:
        db.register("places", table(db, "SELECT geo.at(1.5, 2.5) AS place"))
        result = table(db, "SELECT place, geo.text(place) AS text FROM places")
        assert result.schema.field("place").type.extension_name == "geo.point"
        assert result["text"].to_pylist() == ["1.0 (1.5, 2.5)"]
    finally:
        pa.unregister_extension_type("geo.point")


def test_a_new_version_reads_the_old_ones_stored_values(rt, db, plugins):
    rt.load(write(plugins))
    db.register("places", table(db, "SELECT geo.at(1.5, 2.5) AS place"))
    other = '__import__("types").SimpleNamespace(**stored).__dict__ and tuple(stored.values())'
    assert rt.reload("geo", write(plugins, "2.0", decode=other)).reclaimed
    result = table(db, "SELECT geo.text(place) AS x FROM places")
    assert result["x"].to_pylist() == ["2.0 (1.5, 2.5)"]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (
            {"width": "float32"},
            "stored as struct<lat: double, lon: double>, and would be struct<lat: float, lon",
        ),
        (
            {"parameters": {"datum": "ETRS89", "unit": "m"}},
            "datum was 'WGS84', and would be 'ETRS89'; unit was 'not there', and would be 'm'",
        ),
        (
            {
                "encode": '{"lat": value[1], "lon": value[0]}',
                "decode": '(stored["lon"], stored["lat"])',
            },
            r"sample \(52\.5, 13\.5\) of .* it reads as \(52\.5, 13\.5\), and the new one would "
            r"read as \(13\.5, 52\.5\)",
        ),
        (
            {"encode": '{"lat": value[0] or 0.0, "lon": round(value[1])}'},
            "sample",
        ),
    ],
)
def test_a_version_that_misreads_stored_values_is_refused(rt, db, plugins, at, message):
    rt.load(write(plugins))
    epoch = rt.epoch
    with pytest.raises((IncompatibleError, ExportError), match=message):
        rt.reload("geo", write(plugins, "2.0", **at))
    assert rt.epoch is epoch


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (
            {"decode": '(stored["lat"], min(stored["lon"], 90.0))'},
            r"stored as .*151\.25.*, which it reads as \(-33\.75, 151\.25\), and the new one would "
            r"read as \(-33\.75, 90\.0\)",
        ),
        (
            {"encode": '{"lat": value[0], "lon": min(value[1], 90.0)}'},
            r"stored as .*151\.25.*, which the new one reads as \(-33\.75, 151\.25\) and stores as "
            r".*90\.0",
        ),
    ],
)
def test_a_difference_in_a_sample_is_spelled_out(rt, plugins, at, message):
    rt.load(write(plugins))
    code = write(plugins, "2.0", **at).read_text().replace("(-33.75, 151.25)", "(1.0, 2.0)")
    path = plugins.root / "geo.py"
    path.write_text(code)
    with pytest.raises(IncompatibleError, match=rf"sample \(-33\.75, 151\.25\) of .*{message}"):
        rt.reload("geo", path)


PLACE = """
import pyarrow as pa
from epochal.kinds import data_type, scalar
{head}
@data_type
class point:
    storage = pa.struct([("lat", pa.float64()), ("lon", pa.float64())])
    samples = [{samples}]
    encode = staticmethod(lambda value: {encode})
    decode = staticmethod(lambda stored: {decode})
    {more}
"""
TUPLE = "from typing import NamedTuple\nclass {name}(NamedTuple):\n    lat: float\n    lon: float"
DATACLASS = (
    "from dataclasses import dataclass\n@dataclass\nclass {name}:\n    lat: float\n    lon: float"
)
PLAIN = "class {name}:\n    def __init__(self, lat, lon):\n        self.lat, self.lon = lat, lon"
SLOTTED = PLAIN.replace("    def", '    __slots__ = ("lat", "lon")\n    def', 1)
SAYING = PLAIN + (
    "\n    def __eq__(self, other):"
    "\n        return isinstance(other, {name}) and vars(self) == vars(other)"
)


def write_place(plugins, head, name="Point", *, samples=("52.5, 13.5",), swapped=False, more=""):
    """A type whose values are of a class of its own."""
    lat, lon = ("lon", "lat") if swapped else ("lat", "lon")
    code = PLACE.format(
        head=head.format(name=name),
        samples=", ".join(f"{name}({sample})" for sample in samples),
        encode=f'{{"lat": value.{lat}, "lon": value.{lon}}}',
        decode=f'{name}(stored["{lat}"], stored["{lon}"])',
        more=more,
    )
    return plugins.write("geo", code)


@pytest.mark.parametrize("head", [TUPLE, DATACLASS, PLAIN, SLOTTED, SAYING])
@pytest.mark.parametrize("name", ["Point", "Place"])
@pytest.mark.parametrize("samples", [("52.5, 13.5",), ("1.0, 2.0", "3.0, 4.0")])
def test_a_values_contents_are_compared_and_not_its_class(rt, plugins, head, name, samples):
    rt.load(write_place(plugins, head))
    assert rt.reload("geo", write_place(plugins, head, name, samples=samples)).reclaimed
    epoch = rt.epoch
    with pytest.raises(IncompatibleError, match="the new one would read as"):
        rt.reload("geo", write_place(plugins, head, name, samples=("7.0, 7.0",), swapped=True))
    assert rt.epoch is epoch


def test_values_without_equality_need_a_same_method(rt, plugins):
    path = write_place(plugins, PLAIN)
    path.write_text(path.read_text().replace("lambda stored: ", "lambda stored: object() or "))
    with pytest.raises(ExportError, match="read as <object object at"):
        rt.load(path)
    opaque = PLAIN.replace("class {name}:", "class {name}:\n    __slots__ = ()").replace(
        "self.lat, self.lon = lat, lon", "KEPT[id(self)] = (lat, lon); ALL.append(self)"
    )
    opaque = f"KEPT, ALL = {{{{}}}}, []\n{opaque}"
    for name in ("lat", "lon"):
        index = ("lat", "lon").index(name)
        opaque += f"\n    {name} = property(lambda self: KEPT[id(self)][{index}])"
    with pytest.raises(
        ExportError, match=r"two values of Point are the same: give .* same\(a, b\)"
    ):
        rt.load(write_place(plugins, opaque))
    same = "same = staticmethod(lambda a, b: (a.lat, a.lon) == (b.lat, b.lon))"
    rt.load(write_place(plugins, opaque, more=same))
    rt.reload("geo", write_place(plugins, opaque, "Place", more=same))
    with pytest.raises(IncompatibleError, match="would read as"):
        rt.reload("geo", write_place(plugins, opaque, swapped=True, more=same))


ODD = """
import pyarrow as pa
import uuid
import numpy as np
from epochal.kinds import data_type
@data_type
class t{bases}:
    storage = {storage}
    samples = {samples}
    {more}
"""


@pytest.mark.parametrize(
    ("storage", "samples", "more"),
    [
        ("pa.float64()", "[float('nan'), 1.0]", ""),
        ("pa.struct([('a', pa.float64())])", "[{'a': float('nan')}]", ""),
        (
            "pa.list_(pa.float32(), 2)",
            "[np.array([1, 2], dtype='f4')]",
            "encode = staticmethod(lambda v: v.tolist())\n"
            "    decode = staticmethod(lambda s: np.array(s, dtype='f4'))",
        ),
        ("pa.int64()", "np.array([1, 2])", ""),
        ("pa.int64()", "(n for n in [1, 2])", ""),
        ("pa.string()", "[uuid.UUID(int=5)]", "encode = str\n    decode = uuid.UUID"),
        ("pa.uuid()", "[uuid.UUID(int=5)]", ""),
        ("pa.list_(pa.int64())", "[(1, 2)]", "encode = list\n    decode = tuple"),
        ("pa.int64()", "[1]", "parameters = {'x': float('nan')}"),
    ],
)
def test_sensible_types_load_and_reload(rt, plugins, storage, samples, more):
    code = ODD.format(bases="", storage=storage, samples=samples, more=more)
    rt.load(plugins.write("odd", code))
    assert rt.reload("odd", plugins.write("odd", code + "# 2\n")).reclaimed
    handle = rt.epoch[data_type]["odd.t"]
    values = [UUID(int=1)] if "UUID" in samples else handle.values(handle.array([]))
    array = handle.array([*values, None])
    assert handle.values(array) == [*values, None]
    assert handle.values(array.storage) == [*values, None]
    assert array.type == handle.type


@pytest.mark.parametrize(("base", "sample"), [("str", "'a'"), ("bytes", "b'a'")])
def test_methods_of_builtin_bases_are_not_a_codec(rt, plugins, base, sample):
    storage = {"str": "pa.string()", "bytes": "pa.binary()"}[base]
    code = ODD.format(bases=f"({base})", storage=storage, samples=f"[{sample}]", more="")
    rt.load(plugins.write("odd", code))
    handle = rt.epoch[data_type]["odd.t"]
    assert handle.values(handle.array([eval(sample)])) == [eval(sample)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("samples = [1]", "no `storage`"),
        ("storage = pa.int64()", "no `samples`"),
        ("storage = pa.int64()\n    samples = ['x']", "'x' is not of the type int64"),
        ("storage = pa.int64()\n    samples = [1]\n    parameters = 7", "not a mapping of JSON"),
        (
            "storage = pa.int64()\n    samples = [1]\n    encode = staticmethod(lambda v: v)",
            "expected both or none",
        ),
        (
            "storage = pa.int64()\n    samples = [1]\n    encode = staticmethod(lambda v: v + 1)\n"
            "    decode = staticmethod(lambda s: s)",
            "sample 1 is stored as 2 and read as 2",
        ),
        ("storage = pa.int64()\n    samples = [1.5]", "1.5 is not of the type int64"),
        ("storage = pa.int64()\n    samples = 7", "`samples` are not a list of values"),
        (
            "storage = pa.int64()\n    samples = [1]\n    encode = decode = 7",
            "'encode' cannot be called",
        ),
        (
            "storage = pa.int64()\n    samples = [1]\n    encode = staticmethod(lambda v: v)\n"
            "    decode = staticmethod(lambda s: {}[s])",
            r"decode\(1\) raised KeyError: 1",
        ),
    ],
)
def test_an_invalid_data_type_is_refused(rt, plugins, body, message):
    head = "import pyarrow as pa\nfrom epochal.kinds import data_type\n"
    code = f"{head}@data_type\nclass t:\n    {body}\n"
    with pytest.raises((ExportError, LinkError), match=message):
        rt.load(plugins.write("bad", code))


def test_the_example_measures_the_earth(rt, db):
    rt.load(examples.path("geo_types"))
    sql = "SELECT geo_types.kilometres(geo_types.at(52.52, 13.4), geo_types.at(48.86, 2.35)) AS km"
    assert table(db, sql)["km"].to_pylist() == [pytest.approx(877.5, abs=1.0)]
    with pytest.raises(FunctionError, match="there is no place at"):
        table(db, "SELECT geo_types.at(91, 0)")


@pytest.mark.parametrize(
    ("storage", "value"),
    [
        ("pa.dictionary(pa.int32(), pa.string())", "str(k)"),
        ("pa.string_view()", "str(k)"),
        ("pa.binary_view()", "b'%d' % k"),
        ("pa.duration('us')", "timedelta(k)"),
        ("pa.uuid()", "UUID(int=k)"),
        ("pa.list_(pa.string_view())", "[str(k)]"),
        ("pa.large_string()", "str(k)"),
        ("pa.map_(pa.string(), pa.int64())", "[('a', k)]"),
        ("pa.float16()", "float(k)"),
        ("pa.month_day_nano_interval()", "pa.MonthDayNano([1, 2, k])"),
    ],
)
def test_every_storage_type_passes_through_sql_with_nulls(rt, db, plugins, storage, value):
    code = f"""
import pyarrow as pa
from datetime import timedelta
from uuid import UUID
from epochal.kinds import data_type, scalar
@data_type
class t:
    storage = {storage}
    samples = [(lambda k: {value})(1)]
@scalar
def make(k: int) -> t: return {value}
@scalar
def number(x: t, k: int) -> bool: return x == {value}
"""
    rt.load(plugins.write("odd", code))
    db.register("n", pa.table({"k": [1, None, 3]}))
    made = table(db, "SELECT odd.make(k) AS x FROM n")
    assert made["x"].is_valid().to_pylist() == [True, False, True]
    assert made.schema.field("x").metadata[b"ARROW:extension:name"] == b"odd.t"
    result = table(db, "SELECT odd.number(odd.make(k), k) AS x FROM n")
    assert result["x"].to_pylist() == [True, None, True]
    handle = rt.epoch[data_type]["odd.t"]
    assert handle.values(handle.array(handle.values(made["x"]))) == handle.values(made["x"])


# --- a type that a function names is exported, and stays ------------------------------------------

INNER = """
import pyarrow as pa
from epochal.kinds import {marker}, data_type

class Types:
    @data_type
    class point:
        storage = pa.int64()
        samples = [1]
{code}
"""
NAMING = {
    "scalar": "@scalar\ndef f(x: {type}) -> int: return 1",
    "scalar result": "@scalar\ndef f(x: int) -> {type} | None: return 1",
}


# A mark within a class is taken for a method's, and none is exported by it.
@pytest.mark.filterwarnings("ignore:plugin 'geo'. methods of Types:UserWarning")
@pytest.mark.parametrize("which", NAMING)
def test_a_function_names_only_types_that_its_plugin_exports(rt, plugins, which):
    code = INNER.format(marker=which.split()[0], code=NAMING[which].format(type="Types.point"))
    message = r"geo\.f names the data_type Types\.point, which plugin 'geo' does not export"
    with pytest.raises(ExportError, match=message):
        rt.load(plugins.write("geo", code))
    rt.load(plugins.write("geo", f"{code}\npoint = Types.point\n"))
    rt.remove("geo")
    asked = "def register(ctx):\n    ctx.export(data_type, Types.point)\n"
    rt.load(plugins.write("geo", f"{code}\n{asked}"))


def test_a_version_without_the_type_is_refused_but_removal_is_not(rt, plugins):
    rt.load(write(plugins))
    epoch = rt.epoch
    message = r"geo#1 cannot leave out data_type geo\.point of geo#0: .* remove the plugin and load"
    with pytest.raises(IncompatibleError, match=message):
        rt.reload("geo", plugins.write("geo", "x = 1", version="2.0"))
    assert rt.epoch is epoch
    del epoch
    rt.remove("geo")
    rt.load(write(plugins, "3.0", width="float32"))
