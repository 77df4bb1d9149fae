"""Values of two versions, each with its own classes: the same, different, or undecided."""

import math
from dataclasses import dataclass, field, make_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID

import numpy as np
import pytest

from epochal.kinds.toolkit.value_equality import UndecidedError, values_equal


def tuples(name, *fields):
    return NamedTuple(name, [(field, float) for field in fields])


def slotted(*names):
    cls = type("Slotted", (), {"__slots__": names})

    def make(*values):
        made = cls()
        for name, value in zip(names, values, strict=True):
            setattr(made, name, value)
        return made

    return make


def records(*names):
    return make_dataclass("Record", names)


class Bare:
    """Has neither equality nor attributes."""


class Cached:
    def __init__(self, x):
        self.x = x


@dataclass
class Noted:
    x: int
    note: str = field(compare=False, default="")


NAN = float("nan")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (NAN, NAN),
        (np.float64("nan"), NAN),
        (Decimal("NaN"), Decimal("NaN")),
        ({"a": [NAN, (1, NAN)]}, {"a": [NAN, (1, NAN)]}),
        (tuples("A", "lat", "lon")(1, 2), tuples("B", "lat", "lon")(1, 2)),
        (tuples("A", "lat", "lon")(1, 2), (1, 2)),
        (records("lat", "lon")(1, 2), records("lat", "lon")(1, 2)),
        (slotted("lat", "lon")(1, 2), slotted("lat", "lon")(1, 2)),
        (SimpleNamespace(a=1, b=NAN), SimpleNamespace(a=1, b=NAN)),
        (Cached(slotted("x")(1)), Cached(slotted("x")(1))),
        (np.array([[1.0, NAN]]), np.array([[1.0, NAN]])),
        (Enum("Colour", "RED BLUE").RED, Enum("Colour", "RED BLUE").RED),
        (UUID(int=1), UUID(int=1)),
        (Noted(1, "a"), Noted(1, "b")),
    ],
)
def test_same_values(a, b):
    assert values_equal(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 2),
        (1, "1"),
        (1.0, NAN),
        (None, 0),
        ([1], [1, 2]),
        ([1], (1,)),
        ({"a": 1}, {"b": 1}),
        # The same positions, under other names.
        (tuples("A", "lat", "lon")(1, 2), tuples("A", "lon", "lat")(1, 2)),
        (tuples("A", "lat", "lon")(1, 2), tuples("A", "lat", "lon")(2, 1)),
        (records("lat", "lon")(1, 2), records("lat", "lon")(2, 1)),
        (records("lat", "lon")(1, 2), records("lat")(1)),
        (slotted("lat", "lon")(1, 2), slotted("lat", "lon")(2, 1)),
        (slotted("lat")(1), Cached(1)),
        (np.array([1.0, 2.0]), np.array([2.0, 1.0])),
        (Enum("Colour", "RED BLUE").RED, Enum("Colour", "BLUE RED").RED),
        (date(2020, 1, 1), date(2020, 1, 2)),
        (UUID(int=1), UUID(int=2)),
    ],
)
def test_different_values(a, b):
    assert not values_equal(a, b)


def test_undecided_values_raise():
    with pytest.raises(UndecidedError, match=r"two values of Bare .* same\(a, b\)"):
        values_equal([Bare()], [Bare()])


def test_the_class_s_same_method_decides():
    close = SimpleNamespace(same=lambda a, b: math.isclose(a, b, rel_tol=0.1))
    assert values_equal(1.0, 1.05, close)
    assert not values_equal(1.0, 1.2, close)
    broken = SimpleNamespace(same=lambda a, b: 1 / 0)
    with pytest.raises(ValueError, match=r"same\(a, b\) raised ZeroDivisionError"):
        values_equal(1, 1, broken)


def test_an_error_in_a_comparison_is_reported():
    class Sulking:
        def __eq__(self, other):
            raise OSError("no")

        __hash__ = None

    with pytest.raises(ValueError, match="comparing them raised OSError: no"):
        values_equal(Sulking(), Sulking())
