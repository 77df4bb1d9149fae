"""Mergeable state: an aggregate whose state is kept, and merged with others later.

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
`web.visitors_state(user)`              their state, to be kept in a column
`web.visitors_merge(state)`             the value of kept states, merged
======================================  =======================================================

A function of the plugin's own that has one of these names makes a call of it an error.

Kept states outlive the code that wrote them. So a version with another type of state, or other
`parameters`, is refused; and so is one that does not get the same value as the old one out of its
`samples`, a list of groups of rows: out of the states that the old one wrote of them, out of the
same rows, out of both merged (a hash that changed would count one user twice), and for the old
one, after a rollback, out of the states that the new one writes. NaN is the same as itself; a
static `same(a, b)` of the class says how near two estimates must be. A version that leaves the
state out is refused too; `remove` and `load` break with what is kept, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from epochal.kinds.aggregate import AggregateKind, AggregateShape
from epochal.kinds.codec import parameters_of
from epochal.kinds.data_type import REMOVAL_REFUSED, compare_parameters, freeze_samples
from epochal.kinds.toolkit.state_compat import Trial, compare_states

if TYPE_CHECKING:
    from epochal._core.generation.kind import Export
    from epochal.kinds.signature import ValueType

STATE_SUFFIX: Final = "_state"
"""What the name of the function adds that gives a state."""

MERGE_SUFFIX: Final = "_merge"
"""What the name of the function adds that merges states."""


class MergeableStateKind(AggregateKind):
    """The kind of mergeable state; its one instance is `epochal.kinds.mergeable_state`."""

    __slots__ = ()

    def shape(self, export: Export) -> AggregateShape:
        """What the class is like.

        Raises:
            TypeError: it is no aggregate with one value as its state, or has no samples.
        """
        shape = super().shape(export)
        if not shape.has_own_state or len(shape.state) != 1:
            raise TypeError("it must write its state as one value: state(self) -> bytes, say")
        return shape

    def validate(self, export: Export) -> None:
        """Check that it can aggregate, has samples, and that its own states come back.

        Raises:
            TypeError: it cannot, or something is missing.
            ValueError: what it restores has another value than what it wrote.
        """
        trial = _trial(export, self.shape(export))
        parameters_of(export.target)
        _keep_rows(export.target)
        compare_states(trial, trial)

    def compare(self, old: Export, new: Export) -> None:
        """Refuse a version that would make something else of the states that are kept.

        Raises:
            ValueError: the difference, spelled out.
        """
        shapes = self.shape(old), self.shape(new)
        (before,), (after,) = (shape.state.values() for shape in shapes)
        if _plainly(before) != _plainly(after):
            raise ValueError(f"its state was {_said(before)}, and would be {_said(after)}")
        compare_parameters(parameters_of(old.target), parameters_of(new.target))
        compare_states(_trial(old, shapes[0]), _trial(new, shapes[1]))

    def check_removed(self, old: Export) -> None:
        """Refuse a version without it, as for a data type.

        Raises:
            ValueError: always.
        """
        raise ValueError(REMOVAL_REFUSED)


def _trial(export: Export, shape: AggregateShape) -> Trial:
    return Trial(export.target, shape, vectorized=export.options["vectorized"])


def _keep_rows(cls: Any) -> None:
    """Keep `samples` as groups of rows on the class, each a tuple.

    Raises:
        TypeError: they are none.
    """
    for group in freeze_samples(cls):
        if isinstance(group, (str, bytes, Mapping)):
            raise TypeError(f"of its `samples`, {group!r} is no list of rows")
    cls.samples = tuple(tuple(group) for group in cls.samples)
    rows = [row for group in cls.samples for row in group]
    if wrong := [row for row in rows if not isinstance(row, (tuple, list))]:
        raise TypeError(f"of its `samples`, {wrong[0]!r} is no row, which is a tuple of values")
    if not rows:
        raise TypeError("it has no `samples`, which show that other versions read its states")


def _plainly(kind: ValueType) -> ValueType:
    """The type without a version's own code: a data type by its name and parameters."""
    codec, element = kind.codec, kind.element
    return replace(
        kind,
        codec=codec and (codec.name, codec.parameters),
        element=element and _plainly(element),
    )


def _said(kind: Any) -> str:
    return str(kind.arrow or getattr(kind.python, "__name__", kind.python))


mergeable_state: Final = MergeableStateKind("mergeable_state", "an aggregate whose state is kept")
