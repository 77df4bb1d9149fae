"""Whether two versions of a plugin read the same value, though each has classes of its own.

The problem: `==` answers that within one version. Two generations of `class Point` are two classes,
so their equal points are not equal to Python; a class may have no `__eq__` at all; and NaN is not
equal to itself.

The idea: containers and objects of the plugins' classes are compared by their contents, by name
where the contents have names; `==` decides on everything else. A class may be renamed, its fields
may not. Where neither decides, the comparison raises `UndecidedError`, and the exported class can
have a static `same(a, b)` that decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class UndecidedError(ValueError):
    """Two values cannot be compared."""

    def __init__(self, value: object) -> None:
        super().__init__(
            f"it is undecided whether two values of {type(value).__qualname__} are the same: give "
            "the exported class a static same(a, b), or the values' class an __eq__"
        )


def values_equal(a: Any, b: Any, owner: Any = None) -> bool:
    """Return whether two values are the same.

    Args:
        a: a value, mostly of the old version.
        b: another, of the new one.
        owner: the exported class, whose `same(a, b)` decides if it has one.

    Raises:
        UndecidedError: neither `same`, nor `==`, nor the contents decide.
        ValueError: `same` or a comparison raised.
    """
    same = getattr(owner, "same", None)
    try:
        return bool(same(a, b)) if callable(same) else _equal(a, b)
    except UndecidedError:
        raise
    except Exception as error:
        step = "same(a, b)" if callable(same) else "comparing them"
        raise ValueError(
            f"{step} raised {type(error).__name__}: {error} for {a!r} and {b!r}"
        ) from error


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    match a, b:
        case Enum(), Enum():
            return a.name == b.name and _equal(a.value, b.value)
        case tuple(), tuple():
            return _field_names_agree(a, b) and _all_equal(a, b)
        case list(), list():
            return _all_equal(a, b)
        case Mapping(), Mapping():
            return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if _is_array(a) and _is_array(b):
        return _equal(a.tolist(), b.tolist())
    if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
        return _equal(_compared_fields(a), _compared_fields(b))
    return _leaves_equal(a, b)


def _all_equal(a: Iterable[Any], b: Iterable[Any]) -> bool:
    ours, theirs = list(a), list(b)
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _field_names_agree(a: Any, b: Any) -> bool:
    """Whether two tuples mean the same by a position; a plain tuple has no names to differ."""
    none: tuple[str, ...] = ()
    ours, theirs = getattr(a, "_fields", none), getattr(b, "_fields", none)
    return not ours or not theirs or ours == theirs


def _compared_fields(value: Any) -> dict[str, Any]:
    fields = dataclasses.fields(value)
    return {field.name: getattr(value, field.name) for field in fields if field.compare}


def _leaves_equal(a: Any, b: Any) -> bool:
    if bool(a == b) or (bool(a != a) and bool(b != b)):  # NaN is the same as NaN
        return True
    if type(a) is type(b) and _has_eq(a):
        return False
    ours, theirs = _attributes(a), _attributes(b)
    if ours and ours.keys() == theirs.keys():
        return all(_equal(ours[key], theirs[key]) for key in ours)
    if ours or theirs or (_has_eq(a) and _has_eq(b)):
        return False
    raise UndecidedError(a)


def _has_eq(value: Any) -> bool:
    """Whether the value's class defines equality."""
    return getattr(type(value), "__eq__", None) is not object.__eq__


def _attributes(value: Any) -> dict[str, Any]:
    slots = [
        name
        for cls in type(value).__mro__
        for name in _slot_names(vars(cls).get("__slots__", ()))
        if name not in _NO_SLOTS and hasattr(value, name)
    ]
    return {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}


_NO_SLOTS: Final = ("__dict__", "__weakref__")


def _slot_names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_array(value: Any) -> bool:
    """Whether the value is an array as NumPy has them: its `==` returns an array."""
    return hasattr(value, "dtype") and hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0
