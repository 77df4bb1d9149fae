"""Mergeable states on trial: two versions do with samples what SQL will do with data.

A state that is kept meets the new version in four ways, and each must give the value that the old
version gives: it is restored; it is merged with states that the new version makes of rows; the new
version makes the value by itself; and after a rollback the old version restores what the new one
made. Rows, states and values go through Arrow on the way, as they do in a query.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.tracebacks import format_error
from epochal.kinds.codec import decoder_for
from epochal.kinds.toolkit.value_equality import values_equal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from epochal.kinds.aggregate import AggregateShape
    from epochal.kinds.signature import ValueType

    Rows = Sequence[tuple[Any, ...]]


class Trial:
    """One version of a mergeable state.

    Args:
        cls: the plugin's class.
        shape: what it is like.
        vectorized: whether it takes arrays.
    """

    __slots__ = ("_kept", "_shape", "_vectorized", "cls")

    def __init__(self, cls: Any, shape: AggregateShape, *, vectorized: bool) -> None:
        self.cls: Final = cls
        self._shape: Final = shape
        self._vectorized: Final = vectorized
        (self._kept,) = shape.state.values()

    def state(self, rows: Rows) -> Any:
        """The state of rows, as it is stored.

        Raises:
            ValueError: a row, or the state, is not of its type.
        """
        return _stored(self._fed(rows).state(), self._kept)

    def value(self, *states: Any) -> Any:
        """The value of states that are stored, merged."""
        whole = self.cls()
        for state in states:
            part = self.cls()
            part.restore(_read(state, self._kept))
            whole.merge(part)
        return self._value_of(whole)

    def value_of(self, rows: Rows) -> Any:
        """The value of rows that are taken in and never stored."""
        return self._value_of(self._fed(rows))

    def _value_of(self, instance: Any) -> Any:
        value = _stored(instance.evaluate(), self._shape.returns)
        return _read(value, self._shape.returns)

    def _fed(self, rows: Rows) -> Any:
        instance, stored = self.cls(), [self._row(row) for row in rows]
        kinds = [one.type for one in self._shape.update.parameters]
        if self._vectorized:
            instance.update(*_columns(stored, kinds))
            return instance
        for row in stored:
            pairs = list(zip(row, kinds, strict=True))
            if all(value is not None or kind.optional for value, kind in pairs):  # as SQL does
                instance.update(*[_read(value, kind) for value, kind in pairs])
        return instance

    def _row(self, row: tuple[Any, ...]) -> list[Any]:
        taken = self._shape.update.parameters
        if len(row) != len(taken):
            names = ", ".join(one.name for one in taken)
            raise ValueError(f"the row {row!r} is of {len(row)} values, and update takes {names}")
        return [_stored(value, one.type) for value, one in zip(row, taken, strict=True)]


def compare_states(old: Trial, new: Trial) -> None:
    """See that the new version makes of samples of the old one what that makes of them.

    Raises:
        ValueError: it does not; the message says for which sample and in which way.
    """
    kept: list[Any] = []
    mixed: list[Any] = []
    for number, rows in enumerate(old.cls.samples):
        with _about(f"sample {number}"):
            state, made = _compare_sample(old, new, rows)
        kept.append(state)
        mixed.append(made if number % 2 else state)
    with _about("all samples merged"):
        whole = old.value(*kept)
        _compare(new, whole, new.value(*kept), "out of the same states is")
        _compare(new, whole, new.value(*mixed), "with states of both versions would be")


def _compare_sample(old: Trial, new: Trial, rows: Rows) -> tuple[Any, Any]:
    """Compare what two versions make of a sample; returns the state that each makes of it."""
    was, state = old.value_of(rows), old.state(rows)
    _compare(new, was, new.value(state), "out of the same state is")
    _compare(new, was, new.value_of(rows), "out of the same rows would be")
    made = new.state(rows)
    _compare(new, was, old.value(made), "out of the new state, after a rollback, would be")
    twice = old.value(state, state)
    _compare(new, twice, new.value(state, made), "with half of it kept from before would be")
    return state, made


def _compare(new: Trial, was: Any, now: Any, how: str) -> None:
    if not values_equal(was, now, new.cls):
        raise ValueError(f"the value was {was!r}, and {how} {now!r}")


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Have an error say what it is about."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{what}: {error if isinstance(error, ValueError) else format_error(error)}"
        ) from error


def _columns(rows: list[list[Any]], kinds: Sequence[ValueType]) -> Iterable[Any]:
    from epochal.kinds.arrow import arrow_type, to_array  # vectorized: the plugin has pyarrow

    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return [to_array(list(c), arrow_type(kind)) for c, kind in zip(columns, kinds, strict=True)]


def _stored(value: Any, kind: ValueType) -> Any:
    try:
        from epochal.kinds.arrow import encode_value
    except ImportError:  # nothing is stored by SQL where there is no Arrow
        return value
    return encode_value(value, kind)


def _read(stored: Any, kind: ValueType) -> Any:
    if stored is None:
        return None
    read = decoder_for(kind, "a state")
    return stored if read is None else read(stored)
