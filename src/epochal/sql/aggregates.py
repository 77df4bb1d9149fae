"""Aggregate functions in the engine: one instance of the plugin's class for each group.

The engine aggregates in parts, on several threads. It asks one part for its state, as Arrow
scalars, and another part's instance to merge that state. The state is read from the instance's
annotated attributes, or returned by its own `state`. To merge, a fresh instance is made of the
state and passed to the plugin's `merge`.

The query's `Execution` holds the instances, not the engine's objects: an instance keeps its plugin
in use, and the engine drops its objects at an unknown time.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import pyarrow as pa
from datafusion import SessionContext
from datafusion.user_defined import Accumulator, AggregateUDF

from epochal.kinds.arrow import arrow_type, storage_array, storage_type
from epochal.kinds.mergeable_state import MERGE_SUFFIX, STATE_SUFFIX
from epochal.kinds.signature import Parameter, Signature, ValueType
from epochal.sql.codec_adapters import CodecClass
from epochal.sql.conversion import ResultColumn
from epochal.sql.engine_refs import EngineRef
from epochal.sql.function import Function, encode_types
from epochal.sql.scalars import RowCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from epochal import Export, Generation
    from epochal.kinds.aggregate import AggregateKind, AggregateShape
    from epochal.sql.call_slot import CallSlot
    from epochal.sql.execution import Execution

T = TypeVar("T")

PART_SUFFIX: Final = "$state"
"""The end of the name of the SQL function that returns a group's state, for other processes."""

WHOLE_SUFFIX: Final = "$merge"
"""The end of the name of the SQL function that merges such states. No plugin can have the names."""

_group_numbers: Final = itertools.count(1)
"""Numbers the groups of all queries: `next` is one step under the interpreter lock."""


class GroupCalls(RowCalls, Protocol):
    """Calls an instance for each row of a group, as long as the query has not ended."""

    def raise_if_ended(self) -> None:
        """Raise an error if it has."""


class AggregateFunction(Function):
    """One aggregate of an epoch.

    Attributes:
        retracts: whether rows can be removed again, for window frames that slide.
    """

    deregister = SessionContext.deregister_udaf

    def __init__(self, export: Export, generation: Generation) -> None:
        shape = self._shape(export)
        super().__init__(export, generation, shape.update.parameters, shape.has_codec)
        self.retracts: Final = shape.retracts
        self._result: Final = ResultColumn(shape.returns)
        self._state: Final = {name: ResultColumn(kind) for name, kind in shape.state.items()}
        self._own_state: Final = shape.has_own_state or shape.has_codec
        self._vectorized: bool = export.options["vectorized"]

    def _shape(self, export: Export) -> AggregateShape:
        return cast("AggregateKind", export.kind).shape(export)

    def _wrapped(self, function: Any, export: Export) -> Any:
        shape = cast("AggregateKind", self.kind).shape(export)
        return CodecClass(function, shape, vectorized=export.options["vectorized"])

    def install(self, context: SessionContext, execution: Execution, _: CallSlot) -> None:
        """Register it in a planning context, for one query."""
        make = execution.track(partial(Group, self, execution))
        kinds, result = self.parameters.kinds, self._result.kind
        state = [column.kind for column in self._state.values()]
        context.register_udaf(AggregateUDF(self.name, make, kinds, result, state, "immutable"))

    @property
    def returns(self) -> pa.DataType:
        """The type of its results."""
        return self._result.kind

    def stub(self) -> dict[str, Any]:
        """Its name and types."""
        return {
            "kind": "aggregate",
            "name": self.name,
            "fields": encode_types([*self.parameters.kinds, self._result.kind]),
            "state": encode_types([column.kind for column in self._state.values()]),
        }

    # --- a group's work, which `Execution.call` runs with the group's instance ------------------

    def update(self, instance: Any, execution: GroupCalls, columns: Sequence[pa.Array]) -> None:
        """Add rows."""
        self._feed(instance.update, execution, columns)

    def retract(self, instance: Any, execution: GroupCalls, columns: Sequence[pa.Array]) -> None:
        """Remove rows."""
        self._feed(instance.retract, execution, columns)

    def merge(self, instance: Any, execution: GroupCalls, states: Sequence[pa.Array]) -> None:
        """Merge the states of other parts into an instance."""
        for state in zip(*[column.to_pylist() for column in states], strict=True):
            execution.raise_if_ended()
            other = instance.fresh() if self._has_codec else type(instance)()
            if self._own_state:
                other.restore(*state)
            else:
                for name, value in zip(self._state, state, strict=True):
                    setattr(other, name, value)
            instance.merge(other)

    def state(self, instance: Any) -> list[pa.Scalar]:
        """The state that another part merges."""
        if not self._own_state:
            return [
                column.scalar(getattr(instance, name), f"has {name} =")
                for name, column in self._state.items()
            ]
        returned = instance.state()
        state = returned if len(self._state) > 1 else (returned,)
        return [
            column.scalar(value, "gave as state")
            for column, value in zip(self._state.values(), state, strict=True)
        ]

    def evaluate(self, instance: Any) -> pa.Scalar:
        """Compute the group's result."""
        return self._result.scalar(instance.evaluate(), "evaluated to")

    def _feed(
        self, consume: Callable[..., object], execution: GroupCalls, columns: Sequence[pa.Array]
    ) -> None:
        columns = self.parameters.received(columns)
        if self._vectorized:
            consume(*columns)
            return
        execution.call_rows(consume, self.parameters.drop_incomplete(columns))


class StateFunction(AggregateFunction):
    """The function that returns a mergeable state, to be stored in a column."""

    suffix = STATE_SUFFIX

    def _shape(self, export: Export) -> AggregateShape:
        shape = super()._shape(export)
        (state,) = shape.state.values()
        return replace(shape, returns=state)

    def evaluate(self, instance: Any) -> pa.Scalar:
        """Return the group's state."""
        return self.state(instance)[0]


class MergeFunction(AggregateFunction):
    """The function that merges stored states and returns their value."""

    suffix = MERGE_SUFFIX

    def __init__(self, export: Export, generation: Generation) -> None:
        super().__init__(export, generation)
        self._vectorized = False

    def _shape(self, export: Export) -> AggregateShape:
        shape = super()._shape(export)
        (state,) = shape.state.values()
        update = Signature((Parameter("state", state),), None)
        return replace(shape, update=update, retracts=False)

    def update(self, instance: Any, execution: GroupCalls, columns: Sequence[pa.Array]) -> None:
        """Merge stored states."""
        (states,) = columns
        self.merge(instance, execution, [states.drop_null()])


class PartFunction(AggregateFunction):
    """The function that returns a group's state as one value, to be merged in another process."""

    suffix = PART_SUFFIX

    def _shape(self, export: Export) -> AggregateShape:
        shape = super()._shape(export)
        return replace(shape, returns=_state_value(shape))

    def evaluate(self, instance: Any) -> pa.Scalar:
        """Return the group's state."""
        columns = [storage_array(pa.array([value], value.type)) for value in self.state(instance)]
        return pa.StructArray.from_arrays(columns, [*self._state])[0]


class WholeFunction(AggregateFunction):
    """The function that merges groups' states and returns the value."""

    suffix = WHOLE_SUFFIX

    def _shape(self, export: Export) -> AggregateShape:
        shape = super()._shape(export)
        update = Signature((Parameter("state", _state_value(shape)),), None)
        return replace(shape, update=update, retracts=False)

    def update(self, instance: Any, execution: GroupCalls, columns: Sequence[pa.Array]) -> None:
        """Merge states."""
        (states,) = columns
        self.merge(instance, execution, states.drop_null().flatten())


def _state_value(shape: AggregateShape) -> ValueType:
    kinds = {name: storage_type(arrow_type(kind)) for name, kind in shape.state.items()}
    return ValueType(None, arrow=pa.struct(kinds))


class Group(Accumulator):
    """The engine's object for one group."""

    __slots__ = ("_execution", "_function", "_key", "_ref")

    def __init__(self, function: AggregateFunction, execution: Execution) -> None:
        self._function: Final = function
        self._execution: Final = execution
        self._key: Final = next(_group_numbers)
        self._ref: EngineRef | None = execution.track(EngineRef())
        self._call(function.key, self._open)

    def _open(self, make: Callable[[], Any]) -> None:
        self._execution.hold(self._key, make())

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_exiting():
            self._execution.release(self._key)

    def update(self, *values: pa.Array) -> None:
        """Add rows."""
        self._call(self._key, self._function.update, self._execution, values)

    def merge(self, states: list[pa.Array]) -> None:
        """Merge the states of other parts."""
        self._call(self._key, self._function.merge, self._execution, states)

    def state(self) -> list[pa.Scalar]:
        """The state that another part merges."""
        return self._call(self._key, self._function.state)

    def evaluate(self) -> pa.Scalar:
        """Compute the group's result."""
        return self._call(self._key, self._function.evaluate)

    def supports_retract_batch(self) -> bool:
        """Whether `retract_batch` works."""
        return self._function.retracts

    def retract_batch(self, *values: pa.Array) -> None:
        """Remove rows."""
        self._call(self._key, self._function.retract, self._execution, values)

    def _call(self, key: Hashable, work: Callable[..., T], *args: Any) -> T:
        try:
            return self._execution.call(self._function, key, work, *args)
        except BaseException:
            self._ref = None  # a traceback may keep this group
            raise
