"""Mergeable state: an aggregate whose state is stored, and merged with other states later.

::

    @mergeable_state
    class visitors:
        "About how many distinct visitors."

        parameters = {"lg_k": 12}
        samples = [[("alice",), ("bob",)], [("bob",), ("carol",)]]

        def update(self, user: str) -> None: ...
        def merge(self, other: "visitors") -> None: ...
        def evaluate(self) -> float: ...
        def state(self) -> bytes: ...
        def restore(self, state: bytes) -> None: ...

It is an aggregate (`epochal.kinds.aggregate`) with `state` and `restore` of one value, and SQL
calls it in three ways:

======================================  =======================================================
`web.visitors(user)`                    the value of these rows
`web.visitors_state(user)`              their state, to be stored in a column
`web.visitors_merge(state)`             the value of stored states, merged
======================================  =======================================================

If the plugin has a function of its own under one of these names, a call of the name is an error.

Stored states outlive the code that wrote them. A new version is therefore refused if its state has
another type, its `parameters` differ, or it does not get the old version's value out of the old
version's `samples`, a list of groups of rows, in each of four ways: out of the states that the old
version made of them, out of the same rows, out of both merged (a hash that changed would count one
user twice), and, for a rollback, by the old version out of the states that the new one makes. NaN
is the same as NaN; a static `same(a, b)` of the class can say how near two estimates must be. A
version that leaves the state out is refused too; `remove` and `load` break with stored states on
purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from epochal.kinds.aggregate import AggregateKind, AggregateShape
from epochal.kinds.codec import parameters_of
from epochal.kinds.data_type import REMOVAL_REFUSED, compare_parameters, freeze_samples
from epochal.kinds.toolkit.state_compat import StateVersion, compare_states

if TYPE_CHECKING:
    from epochal._core.generation.kind import Export
    from epochal.kinds.signature import ValueType

STATE_SUFFIX: Final = "_state"
"""The end of the name of the SQL function that returns a state."""

MERGE_SUFFIX: Final = "_merge"
"""The end of the name of the SQL function that merges states."""


class MergeableStateKind(AggregateKind):
    """The kind of mergeable state; its one instance is `epochal.kinds.mergeable_state`."""

    __slots__ = ()

    def shape(self, export: Export) -> AggregateShape:
        """Return the types of the class's parameters, state and value.

        Raises:
            TypeError: the class is not an aggregate with one value as its state.
        """
        shape = super().shape(export)
        if not shape.has_own_state or len(shape.state) != 1:
            raise TypeError("it must write its state as one value, such as state(self) -> bytes")
        return shape

    def validate(self, export: Export) -> None:
        """Require an aggregate with samples, and the same value from restored states.

        Raises:
            TypeError: the class is no such aggregate, or lacks something.
            ValueError: a restored state has another value than the one that was written.
        """
        version = _version(export, self.shape(export))
        parameters_of(export.target)
        _freeze_rows(export.target)
        compare_states(version, version)

    def compare(self, old: Export, new: Export) -> None:
        """Refuse a version that would get other values out of stored states.

        Raises:
            ValueError: the difference, spelled out.
        """
        shapes = self.shape(old), self.shape(new)
        (before,), (after,) = (shape.state.values() for shape in shapes)
        if _without_code(before) != _without_code(after):
            was, now = _type_name(before), _type_name(after)
            raise ValueError(f"its state was {was}, and would be {now}")
        compare_parameters(parameters_of(old.target), parameters_of(new.target))
        compare_states(_version(old, shapes[0]), _version(new, shapes[1]))

    def check_removed(self, old: Export) -> None:
        """Refuse a version without the state, as for a data type.

        Raises:
            ValueError: always.
        """
        raise ValueError(REMOVAL_REFUSED)


def _version(export: Export, shape: AggregateShape) -> StateVersion:
    return StateVersion(export.target, shape, vectorized=export.options["vectorized"])


def _freeze_rows(cls: Any) -> None:
    """Replace the `samples` of a class by a tuple of groups of rows.

    Raises:
        TypeError: they are not groups of rows, or there is no row.
    """
    for group in freeze_samples(cls):
        if isinstance(group, (str, bytes, Mapping)):
            raise TypeError(f"its `samples` hold {group!r}, which is not a list of rows")
    cls.samples = tuple(tuple(group) for group in cls.samples)
    rows = [row for group in cls.samples for row in group]
    for row in rows:
        if not isinstance(row, (tuple, list)):
            raise TypeError(f"its `samples` hold {row!r}, which is not a row: a tuple of values")
    if not rows:
        raise TypeError("it has no `samples`, which show that other versions read its states")


def _without_code(value_type: ValueType) -> ValueType:
    """Return the type without a version's own code: a data type by its name and parameters."""
    codec, element = value_type.codec, value_type.element
    return replace(
        value_type,
        codec=codec and (codec.name, codec.parameters),
        element=element and _without_code(element),
    )


def _type_name(value_type: Any) -> str:
    python = value_type.python
    return str(value_type.arrow or getattr(python, "__name__", python))


mergeable_state: Final = MergeableStateKind(
    "mergeable_state", "an aggregate with a state that is stored and merged later"
)
