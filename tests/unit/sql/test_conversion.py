"""Conversion of Python values to columns."""

import pyarrow as pa
import pytest

from epochal.kinds.signature import read_value
from epochal.sql.conversion import ResultColumn, ReturnTypeError, spread


@pytest.mark.parametrize(
    ("hint", "values"),
    [
        (int, [1, -(2**63), 2**63 - 1, True]),
        (float, [1.5, 2, float("inf")]),
        (int | None, [1, None]),
        (list[int], [[1], [], [2, 3]]),
        (list[int | None] | None, [[1, None], None]),
    ],
)
def test_valid_values_survive_a_round_trip(hint, values):
    assert ResultColumn(read_value(hint)).column(values).to_pylist() == values


def test_no_rows_make_an_empty_column_of_the_type():
    assert ResultColumn(read_value(int)).column([]).type == pa.int64()


def test_integers_are_copied_into_arrows_memory():
    """Any thread can free Arrow's memory; freeing Python's needs the interpreter, fatal at exit."""
    before = pa.total_allocated_bytes()
    column = ResultColumn(read_value(int)).column([7] * 100_000)
    assert pa.total_allocated_bytes() - before >= column.nbytes


def test_a_long_value_is_shortened_in_the_message():
    with pytest.raises(ReturnTypeError) as raised:
        ResultColumn(read_value(int)).column([["x" * 100] * 100])
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.list_(pa.int64())])
def test_spreading_puts_values_where_the_mask_is_true(kind):
    values = {"int64": [1, 2], "string": ["a", "b"]}.get(str(kind), [[1], [2, 3]])
    mask = pa.array([True, False, False, True])
    spreaded = spread(pa.array(values, kind), mask).to_pylist()
    assert spreaded == [values[0], None, None, values[1]]
