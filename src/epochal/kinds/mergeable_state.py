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
`parameters`, is refused; and so is one that does not get the same value out of the states that the
old one wrote of its `samples` (a list of groups of rows), each by itself and all merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from epochal.kinds.aggregate import Aggregate, AggregateShape
from epochal.kinds.codec import parameters_of
from epochal.kinds.data_type import compare_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from epochal._core.kind import Export

STATE: Final = "_state"
"""What the name of the function adds that gives a state."""

MERGE: Final = "_merge"
"""What the name of the function adds that merges states."""


class MergeableState(Aggregate):
    """The kind of mergeable state; its one instance is `epochal.kinds.mergeable_state`."""

    __slots__ = ()

    def shape(self, export: Export) -> AggregateShape:
        """What the class is like.

        Raises:
            TypeError: it is no aggregate with one value as its state, or has no samples.
        """
        shape = super().shape(export)
        if not shape.own_state or len(shape.state) != 1:
            raise TypeError("it must write its state as one value: state(self) -> bytes, say")
        return shape

    def validate(self, export: Export) -> None:
        """Check that it can aggregate, has samples, and that its own states come back.

        Raises:
            TypeError: it cannot, or something is missing.
            ValueError: what it restores has another value than what it wrote.
        """
        self.shape(export)
        cls = export.target
        parameters_of(cls)
        if not getattr(cls, "samples", None):
            raise TypeError("it has no `samples`, which show that other versions read its states")
        _compare_states(cls, cls)

    def compare(self, old: Export, new: Export) -> None:
        """Refuse a version that would make something else of the states that are kept.

        Raises:
            ValueError: the difference, spelled out.
        """
        (before,) = self.shape(old).state.values()
        (after,) = self.shape(new).state.values()
        if before != after:
            raise ValueError(f"its state was {_said(before)}, and would be {_said(after)}")
        compare_parameters(parameters_of(old.target), parameters_of(new.target))
        _compare_states(old.target, new.target)


def _compare_states(old: Any, new: Any) -> None:
    groups = [_fed(old, rows) for rows in old.samples]
    read = [_restored(new, group.state()) for group in groups]
    for number, (one, again) in enumerate(zip(groups, read, strict=True)):
        _compare_values(f"sample {number}", one, again)
    for one, again in zip(groups[1:], read[1:], strict=True):
        groups[0].merge(one)
        read[0].merge(again)
    _compare_values("all samples merged", groups[0], read[0])


def _compare_values(what: str, one: Any, again: Any) -> None:
    before, after = one.evaluate(), again.evaluate()
    if before != after:
        raise ValueError(
            f"{what}: the value was {before!r}, and out of the same state is {after!r}"
        )


def _fed(cls: Any, rows: Iterable[tuple[Any, ...]]) -> Any:
    instance = cls()
    for row in rows:
        instance.update(*row)
    return instance


def _restored(cls: Any, state: Any) -> Any:
    instance = cls()
    instance.restore(state)
    return instance


def _said(kind: Any) -> str:
    return str(kind.arrow or getattr(kind.python, "__name__", kind.python))


mergeable_state: Final = MergeableState("mergeable_state", "an aggregate whose state is kept")
