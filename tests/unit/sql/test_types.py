"""The table of SQL types is the one place that lists them."""

from datetime import time

import pyarrow as pa
import pytest

from epochal import Export
from epochal.kinds import scalar, sql_types
from epochal.kinds.arrow import arrow_type, family_of
from epochal.kinds.signature import AnnotationError, read_array, read_value
from epochal.kinds.sql_types import FAMILIES, SQL_TYPES, SqlType
from epochal.sql import sql_signature
from epochal.sql.conversion import ResultColumn, ReturnTypeError
from epochal.sql.json_values import FORMS, json_column
from epochal.sql.types import sql_name


def at(x: time) -> time:
    return x


@pytest.fixture
def _own_types():
    yield
    sql_types.annotated_types.cache_clear()


@pytest.mark.usefixtures("_own_types")
def test_one_row_adds_a_type(monkeypatch):
    """Annotation, array class, SQL name, checked conversion and JSON all follow from the row."""
    with pytest.raises(AnnotationError, match=r"Decimal, list\[\.\.\.\]"):
        read_value(time)
    sql_types.annotated_types.cache_clear()

    row = SqlType("CLOCK", "time32", ("s",), python=time, array="Time32Array")
    monkeypatch.setattr(sql_types, "SQL_TYPES", (*SQL_TYPES, row))
    monkeypatch.setattr("epochal.sql.types.SQL_TYPES", (*SQL_TYPES, row))

    value = read_value(time)
    assert arrow_type(value) == read_array(pa.Time32Array).arrow == pa.time32("s")
    export = Export(scalar, "p.at", "p", scalar.options(), at)
    assert sql_signature(export) == "p.at(x CLOCK) -> CLOCK"
    column = ResultColumn(value).column([time(1, 2, 3)])
    assert column.type == pa.time32("s")
    assert json_column(column) == ["01:02:03"]
    with pytest.raises(ReturnTypeError, match="expected CLOCK"):
        ResultColumn(value).column([1.5])
    with pytest.raises(AnnotationError, match=r"Decimal, time, list\[\.\.\.\]"):
        read_value(set)


@pytest.mark.parametrize("row", SQL_TYPES, ids=lambda row: row.arrow)
def test_each_row_names_an_arrow_type_and_its_array_class(row):
    kind = row.make(pa)
    assert sql_name(kind) == (row.sql or str(kind))
    if row.array:
        assert type(pa.array([], kind)).__name__ == row.array


def test_no_annotation_and_no_array_class_stands_in_two_rows():
    annotations = [row.python for row in SQL_TYPES if row.python]
    arrays = [row.array for row in SQL_TYPES if row.array]
    assert len(annotations) == len(set(annotations)) == 8
    assert len(arrays) == len(set(arrays)) == 18


def test_each_family_recognises_types_of_its_own_and_has_a_form_of_json():
    kinds = [pa.int8(), pa.float16(), pa.string(), pa.large_string(), pa.string_view()]
    kinds += [pa.bool_(), pa.binary(), pa.large_binary(), pa.timestamp("ns", "UTC"), pa.date32()]
    kinds += [pa.date64(), pa.time64("ns"), pa.duration("s"), pa.month_day_nano_interval()]
    kinds += [make(pa.int8()) for make in (pa.list_, pa.large_list)] + [pa.list_(pa.int8(), 2)]
    kinds += [pa.list_view(pa.int8()), pa.large_list_view(pa.int8())]
    kinds += [pa.map_(pa.int8(), pa.int8()), pa.struct([]), pa.dictionary(pa.int8(), pa.int8())]
    assert [family_of(kind) for kind in kinds] == list(FAMILIES)
    assert {family.json for family in FAMILIES} == {"", *FORMS}
