"""Compatibility of mergeable states: two versions do with samples what SQL will do with data.

A stored state meets the new version in four ways, and each must give the value that the old version
gives: the new version restores it; merges it with states that it makes of rows itself; makes the
value of rows by itself; and after a rollback the old version restores a state that the new one
made. Rows, states and values go through Arrow on the way, as they do in a query.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from epochal.errors import format_error
from epochal.kinds.codec import decoder_for
from epochal.kinds.toolkit.value_equality import values_equal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from epochal.kinds.aggregate import AggregateShape
    from epochal.kinds.signature import ValueType

    Rows = Sequence[tuple[Any, ...]]


class StateVersion:
    """One version of a mergeable state, to be run on samples.

    Args:
        cls: the plugin's class.
        shape: the types of its parameters, state and value.
        vectorized: whether `update` takes arrays.
    """

    __slots__ = ("_shape", "_state_type", "_vectorized", "cls")

    def __init__(self, cls: Any, shape: AggregateShape, *, vectorized: bool) -> None:
        self.cls: Final = cls
        self._shape: Final = shape
        self._vectorized: Final = vectorized
        (self._state_type,) = shape.state.values()

    def state_of(self, rows: Rows) -> Any:
        """Return the state of rows, as it is stored.

        Raises:
            ValueError: a row, or the state, is not of its type.
        """
        return _encode(self._updated(rows).state(), self._state_type)

    def merged_value(self, *states: Any) -> Any:
        """Return the value of stored states, merged."""
        whole = self.cls()
        for state in states:
            part = self.cls()
            part.restore(_decode(state, self._state_type))
            whole.merge(part)
        return self._evaluate(whole)

    def value_of(self, rows: Rows) -> Any:
        """Return the value of rows, without storing their state."""
        return self._evaluate(self._updated(rows))

    def _evaluate(self, instance: Any) -> Any:
        value = _encode(instance.evaluate(), self._shape.returns)
        return _decode(value, self._shape.returns)

    def _updated(self, rows: Rows) -> Any:
        instance, stored = self.cls(), [self._encode_row(row) for row in rows]
        types = [parameter.type for parameter in self._shape.update.parameters]
        if self._vectorized:
            instance.update(*_columns(stored, types))
            return instance
        for row in stored:
            pairs = list(zip(row, types, strict=True))
            if all(value is not None or type_.optional for value, type_ in pairs):  # as SQL does
                instance.update(*[_decode(value, type_) for value, type_ in pairs])
        return instance

    def _encode_row(self, row: tuple[Any, ...]) -> list[Any]:
        parameters = self._shape.update.parameters
        if len(row) != len(parameters):
            names = ", ".join(parameter.name for parameter in parameters)
            raise ValueError(f"the row {row!r} has {len(row)} values, and update takes {names}")
        return [
            _encode(value, parameter.type) for value, parameter in zip(row, parameters, strict=True)
        ]


def compare_states(old: StateVersion, new: StateVersion) -> None:
    """Check that the new version makes the same of the old one's samples as the old one does.

    Raises:
        ValueError: it does not; the message names the sample and the way.
    """
    states: list[Any] = []
    mixed: list[Any] = []
    for number, rows in enumerate(old.cls.samples):
        with _errors_about(f"sample {number}"):
            old_state, new_state = _compare_sample(old, new, rows)
        states.append(old_state)
        mixed.append(new_state if number % 2 else old_state)
    with _errors_about("all samples merged"):
        whole = old.merged_value(*states)
        _compare(new, whole, new.merged_value(*states), "out of the same states is")
        _compare(new, whole, new.merged_value(*mixed), "with states of both versions would be")


def _compare_sample(old: StateVersion, new: StateVersion, rows: Rows) -> tuple[Any, Any]:
    """Compare the values of one sample; returns the old version's state of it, and the new's."""
    was, state = old.value_of(rows), old.state_of(rows)
    _compare(new, was, new.merged_value(state), "out of the same state is")
    _compare(new, was, new.value_of(rows), "out of the same rows would be")
    new_state = new.state_of(rows)
    after_rollback = old.merged_value(new_state)
    _compare(new, was, after_rollback, "out of the new state, after a rollback, would be")
    twice = old.merged_value(state, state)
    both = new.merged_value(state, new_state)
    _compare(new, twice, both, "with half of it kept from before would be")
    return state, new_state


def _compare(new: StateVersion, was: Any, now: Any, how: str) -> None:
    if not values_equal(was, now, new.cls):
        raise ValueError(f"the value was {was!r}, and {how} {now!r}")


@contextmanager
def _errors_about(subject: str) -> Iterator[None]:
    """Put the subject in front of an error's message."""
    try:
        yield
    except Exception as error:
        reason = error if isinstance(error, ValueError) else format_error(error)
        raise ValueError(f"{subject}: {reason}") from error


def _columns(rows: list[list[Any]], types: Sequence[ValueType]) -> Iterable[Any]:
    from epochal.kinds.arrow import arrow_type, to_array  # vectorized: the plugin has pyarrow

    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    return [to_array(list(c), arrow_type(type_)) for c, type_ in zip(columns, types, strict=True)]


def _encode(value: Any, value_type: ValueType) -> Any:
    try:
        from epochal.kinds.arrow import encode_value
    except ImportError:  # without Arrow, SQL stores nothing
        return value
    return encode_value(value, value_type)


def _decode(stored: Any, value_type: ValueType) -> Any:
    if stored is None:
        return None
    decode = decoder_for(value_type, "a state")
    return stored if decode is None else decode(stored)
