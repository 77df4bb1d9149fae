"""Whether two versions of a plugin read the same value, though each has classes of its own.

The problem: `==` answers that within one version. Two generations of `class Point` are two classes,
so their equal points are not equal to Python; a class may have no `__eq__` at all; and NaN is not
equal to itself.

The idea: containers and objects of the plugins' classes are compared by what is in them, by name
where they have names; `==` decides on everything else. A class may be renamed, but what its values
are made of may not. Where nothing decides, that is said, and the plugin's own `same(a, b)` may.
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

    def __init__(self, a: object) -> None:
        super().__init__(
            f"nothing says whether two values of {type(a).__qualname__} are the same: give the "
            "class that is exported a static same(a, b), or the values' class an __eq__"
        )


def values_equal(a: Any, b: Any, owner: Any = None) -> bool:
    """Whether two values are the same.

    Args:
        a: a value, mostly of the old version.
        b: another, of the new one.
        owner: the exported class, whose `same(a, b)` decides if it has one.

    Raises:
        ValueError: nothing decides, or what should raised.
    """
    same = getattr(owner, "same", None)
    try:
        return bool(same(a, b)) if callable(same) else _alike(a, b)
    except UndecidedError:
        raise
    except Exception as error:
        what = "same(a, b)" if callable(same) else "comparing them"
        raise ValueError(
            f"{what} raised {type(error).__name__}: {error} for {a!r} and {b!r}"
        ) from error


def _alike(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    match a, b:
        case Enum(), Enum():
            return a.name == b.name and _alike(a.value, b.value)
        case tuple(), tuple():
            return _names_agree(a, b) and _all_alike(a, b)
        case list(), list():
            return _all_alike(a, b)
        case Mapping(), Mapping():
            return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if _is_array(a) and _is_array(b):
        return _alike(a.tolist(), b.tolist())
    if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
        return _fields_alike(a, b)
    return _leaves_alike(a, b)


def _all_alike(a: Iterable[Any], b: Iterable[Any]) -> bool:
    ours, theirs = list(a), list(b)
    return len(ours) == len(theirs) and all(map(_alike, ours, theirs))


def _names_agree(a: Any, b: Any) -> bool:
    """Of named tuples, that positions mean the same; a plain tuple has no names to differ."""
    none: tuple[str, ...] = ()
    ours, theirs = getattr(a, "_fields", none), getattr(b, "_fields", none)
    return not ours or not theirs or ours == theirs


def _fields_alike(a: Any, b: Any) -> bool:
    ours, theirs = _compared(a), _compared(b)
    return ours.keys() == theirs.keys() and all(_alike(ours[key], theirs[key]) for key in ours)


def _compared(value: Any) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.compare}


def _leaves_alike(a: Any, b: Any) -> bool:
    if bool(a == b) or (bool(a != a) and bool(b != b)):  # NaN is itself
        return True
    if type(a) is type(b) and _compares(a):
        return False
    ours, theirs = _attributes(a), _attributes(b)
    if ours and ours.keys() == theirs.keys():
        return all(_alike(ours[key], theirs[key]) for key in ours)
    if ours or theirs or (_compares(a) and _compares(b)):
        return False
    raise UndecidedError(a)


def _compares(value: Any) -> bool:
    """Whether its class says what is equal."""
    return getattr(type(value), "__eq__", None) is not object.__eq__


def _attributes(value: Any) -> dict[str, Any]:
    slots = [
        name
        for cls in type(value).__mro__
        for name in _slots(vars(cls).get("__slots__", ()))
        if name not in _NO_SLOTS and hasattr(value, name)
    ]
    return {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}


_NO_SLOTS: Final = ("__dict__", "__weakref__")


def _slots(named: Any) -> tuple[str, ...]:
    return (named,) if isinstance(named, str) else tuple(named)


def _is_array(value: Any) -> bool:
    """Whether it is an array of NumPy's kind, whose `==` gives an array."""
    return hasattr(value, "dtype") and hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0
