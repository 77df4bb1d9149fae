"""Aggregate functions in the engine: one instance of the plugin's class for each group.

The engine aggregates in parts, on several threads. It asks a part for its state, as Arrow scalars,
and has another instance merge it. Here the state is read from the instance's annotated attributes
(or written by its own `state`), and merging makes a fresh instance of it and hands that to `merge`.

The instances are in the query's `Execution`, not in what the engine holds: an instance keeps its
plugin in use, and the engine drops what it holds when it pleases.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from datafusion.user_defined import Accumulator, AggregateUDF

from epochal.kinds.mergeable_state import MERGE_SUFFIX, STATE_SUFFIX
from epochal.kinds.signature import Parameter, Signature
from epochal.sql.codec_adapters import CodedClass
from epochal.sql.conversion import (
    ResultColumn,
    complete_rows,
    inputs_of,
    kept,
    received,
    typed_fields,
)
from epochal.sql.engine_refs import EngineRef
from epochal.sql.function import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import pyarrow as pa
    from datafusion import SessionContext

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Export
    from epochal.kinds.aggregate import AggregateKind, AggregateShape
    from epochal.sql.execution import Execution

T = TypeVar("T")

_groups: Final = itertools.count(1)
"""Numbers groups over all queries: its `next` is one step under the interpreter lock."""


class AggregateFunction(Function):
    """One aggregate of an epoch.

    Attributes:
        retracts: whether rows can be taken out again, for window frames that slide.
    """

    __slots__ = (
        "_inputs",
        "_is_coded",
        "_own_state",
        "_result",
        "_state",
        "_vectorized",
        "retracts",
    )

    def __init__(
        self, export: Export, generation: Generation, shape: AggregateShape, suffix: str = ""
    ) -> None:
        super().__init__(export, generation, suffix)
        self.retracts: Final = shape.retracts
        self._inputs: Final = inputs_of(shape.update.parameters, export.plugin)
        self.takes = typed_fields(self._inputs)
        self._result: Final = ResultColumn(shape.returns)
        self._state: Final = {name: ResultColumn(kind) for name, kind in shape.state.items()}
        self._is_coded: Final = shape.has_codec
        self._own_state: Final = shape.has_own_state or shape.has_codec
        self._vectorized: bool = export.options["vectorized"]

    def callable_of(self, epoch: Epoch) -> Any:
        """The class; where it has data types, between their codecs."""
        make = super().callable_of(epoch)
        if not self._is_coded:
            return make
        export = epoch.export(self.kind, self.exported)
        shape = cast("AggregateKind", self.kind).shape(export)
        return CodedClass(make, shape, vectorized=export.options["vectorized"])

    def install(self, context: SessionContext, execution: Execution) -> None:
        """Put it into a planning context, for this one query."""
        state = [slot.kind for slot in self._state.values()]
        make = execution.track(partial(Group, self, execution))
        context.register_udaf(
            AggregateUDF(
                self.name,
                make,
                [one.kind for one in self._inputs],
                self._result.kind,
                state,
                "immutable",
            )
        )

    def uninstall(self, context: SessionContext) -> None:
        """Take it out of a planning context again."""
        context.deregister_udaf(self.name)

    # --- what a group does, each run by `Execution.call` with the group's instance -------------

    def update(self, instance: Any, columns: Sequence[pa.Array]) -> None:
        """Take rows in."""
        self._feed(instance.update, columns)

    def retract(self, instance: Any, columns: Sequence[pa.Array]) -> None:
        """Take rows out."""
        self._feed(instance.retract, columns)

    def merge(self, instance: Any, states: Sequence[pa.Array]) -> None:
        """Take other parts in."""
        for state in zip(*[column.to_pylist() for column in states], strict=True):
            other = instance.another() if self._is_coded else type(instance)()
            if self._own_state:
                other.restore(*state)
            else:
                for name, value in zip(self._state, state, strict=True):
                    setattr(other, name, value)
            instance.merge(other)

    def state(self, instance: Any) -> list[pa.Scalar]:
        """What another part needs to know."""
        if not self._own_state:
            return [
                slot.scalar(getattr(instance, name), f"has {name} =")
                for name, slot in self._state.items()
            ]
        given = instance.state()
        state = given if len(self._state) > 1 else (given,)
        return [
            slot.scalar(value, "gave as state")
            for slot, value in zip(self._state.values(), state, strict=True)
        ]

    def evaluate(self, instance: Any) -> pa.Scalar:
        """The group's result."""
        return self._result.scalar(instance.evaluate(), "evaluated to")

    def _feed(self, take: Callable[..., object], columns: Sequence[pa.Array]) -> None:
        columns = received(self._inputs, columns)
        if self._vectorized:
            take(*columns)
            return
        mask = complete_rows(self._inputs, columns)
        if mask is not None:
            columns = kept(columns, mask)
        for values in zip(*[column.to_pylist() for column in columns], strict=True):
            take(*values)


class StateFunction(AggregateFunction):
    """A mergeable state itself, to be kept in a column."""

    __slots__ = ()

    def __init__(self, export: Export, generation: Generation, shape: AggregateShape) -> None:
        (kept,) = shape.state.values()
        super().__init__(export, generation, replace(shape, returns=kept), STATE_SUFFIX)

    def evaluate(self, instance: Any) -> pa.Scalar:
        """The group's state."""
        return self.state(instance)[0]


class MergeFunction(AggregateFunction):
    """The value of states that were kept in a column, merged."""

    __slots__ = ()

    def __init__(self, export: Export, generation: Generation, shape: AggregateShape) -> None:
        (kept,) = shape.state.values()
        update = Signature((Parameter("state", kept),), None)
        taken = replace(shape, update=update, retracts=False)
        super().__init__(export, generation, taken, MERGE_SUFFIX)
        self._vectorized = False

    def update(self, instance: Any, columns: Sequence[pa.Array]) -> None:
        """Take kept states in."""
        (states,) = columns
        self.merge(instance, [states.drop_null()])


class Group(Accumulator):
    """What the engine holds of one group."""

    __slots__ = ("_execution", "_function", "_key", "_lent")

    def __init__(self, function: AggregateFunction, execution: Execution) -> None:
        self._function: Final = function
        self._execution: Final = execution
        self._key: Final = next(_groups)
        self._lent: EngineRef | None = execution.track(EngineRef())
        self._call(function.key, self._open)

    def _open(self, make: Callable[[], Any]) -> None:
        self._execution.hold(self._key, make())

    def __del__(self) -> None:
        self._execution.release(self._key)

    def update(self, *values: pa.Array) -> None:
        """Take rows in."""
        self._call(self._key, self._function.update, values)

    def merge(self, states: list[pa.Array]) -> None:
        """Take the states of other parts in."""
        self._call(self._key, self._function.merge, states)

    def state(self) -> list[pa.Scalar]:
        """What another part needs to know."""
        return self._call(self._key, self._function.state)

    def evaluate(self) -> pa.Scalar:
        """The group's result."""
        return self._call(self._key, self._function.evaluate)

    def supports_retract_batch(self) -> bool:
        """Whether `retract_batch` works."""
        return self._function.retracts

    def retract_batch(self, *values: pa.Array) -> None:
        """Take rows out again."""
        self._call(self._key, self._function.retract, values)

    def _call(self, key: Hashable, work: Callable[..., T], *args: Any) -> T:
        try:
            return self._execution.call(self._function, key, work, *args)
        except BaseException:
            self._lent = None  # a traceback may keep this group
            raise
