"""Conversion of columns to JSON."""

import math
from datetime import date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest

from epochal.errors import QueryError
from epochal.sql.json_values import json_column, json_columns, json_value

MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678_900)
UNITS = ("s", "ms", "us", "ns")


def moments(unit, zone):
    whole = MOMENT.replace(microsecond={"s": 0, "ms": 678_000}.get(unit, 678_900))
    return pa.array([whole, None, datetime(1969, 1, 1)], pa.timestamp(unit)).cast(
        pa.timestamp(unit, zone)
    )


ORDINARY = [
    *[moments(unit, zone) for unit in UNITS for zone in (None, "UTC", "Europe/Berlin", "-05:30")],
    *[pa.array([time(1, 2, 3), None, time(0)], pa.time32(unit)) for unit in ("s", "ms")],
    *[pa.array([time(1, 2, 3, 40), None, time(0)], pa.time64(unit)) for unit in ("us", "ns")],
    pa.array([date(2024, 1, 2), None, date(1, 1, 1)]),
    pa.array([date(2024, 1, 2), None, date(1, 1, 1)], pa.date64()),
    *[pa.array([1_000, None, 0], pa.int64()).cast(pa.duration(unit)) for unit in UNITS],
    pa.array([[MOMENT], None, [], [MOMENT, None]], pa.list_(pa.timestamp("us"))),
    *[
        pa.array([[1, 2], None, [3, 4], [5, None]], kind)
        for kind in (
            pa.list_(pa.int64()),
            pa.large_list(pa.int64()),
            pa.list_(pa.int64(), 2),
            pa.list_view(pa.int64()),
            pa.large_list_view(pa.int64()),
        )
    ],
    pa.array([[("a", 1), ("b", None)], None, [], [("c", 3)]], pa.map_(pa.string(), pa.int64())),
    pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    pa.array([{}, None, {}], pa.struct([])),
    pa.array([date(2024, 1, 2), None, date(2024, 1, 2)]).dictionary_encode(),
    pa.array([1.5, math.nan, None, math.inf]),
    pa.array([2**63 - 1, None]),
    pa.array([b"x", None, b""]),
    pa.array([Decimal("1.10"), None]),
    pa.array([pa.MonthDayNano([1, 2, 3]), None]),
    pa.nulls(3),
]


@pytest.mark.parametrize("column", ORDINARY, ids=lambda column: str(column.type))
def test_converting_a_column_equals_converting_its_values(column):
    for part in (column, column[1:], column[:2], column[1:2], column[:0]):
        assert json_column(part) == [json_value(value) for value in part.to_pylist()]


def of(values, kind, whole=None):
    return pa.array(values, whole or pa.int64()).cast(kind)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (of([1], pa.timestamp("ns", "UTC")), ["1970-01-01T00:00:00.000000001+00:00"]),
        (of([253402300800], pa.timestamp("s")), ["10000-01-01T00:00:00"]),
        (of([5_000_000], pa.date32(), pa.int32()), ["15659-07-15"]),
        (of([-1_000_000], pa.date32(), pa.int32()), ["-0768-02-04"]),
        (of([1], pa.time64("ns")), ["00:00:00.000000001"]),
        (of([86_400_000_000_000], pa.time64("ns")), ["<value out of range: 86400000000000>"]),
        (of([2**63 - 1], pa.timestamp("s")), [f"<value out of range: {2**63 - 1}>"]),
        (of([1], pa.duration("ns")), [1e-9]),
        (of([2**63 - 1], pa.duration("s")), [float(2**63)]),
        (
            pa.array([[{"at": 1}]], pa.list_(pa.struct([("at", pa.timestamp("ns"))]))),
            [[{"at": "1970-01-01T00:00:00.000000001"}]],
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_dates_beyond_pythons_range_are_converted(column, expected):
    assert json_column(column) == expected


def test_an_unreadable_value_is_an_error_that_names_its_column():
    column = of([0], pa.timestamp("ns", "Nowhere/Town"))
    with pytest.raises(QueryError, match=r"column 'at' .*Nowhere/Town"):
        json_columns(pa.record_batch({"fine": [1], "at": column}))
