"""Aggregate functions: one SQL value out of many rows.

::

    @aggregate
    class mean:
        "Arithmetic mean; null where there are no rows."

        count: int = 0
        total: float = 0.0

        def update(self, value: float) -> None:
            self.count += 1
            self.total += value

        def merge(self, other: "mean") -> None:
            self.count += other.count
            self.total += other.total

        def evaluate(self) -> float | None:
            return self.total / self.count if self.count else None

There is one instance for each group. `update` is called for each row (`vectorized=True`: once for
each batch, with Arrow arrays); a row with a null in a parameter that is not optional is left out,
as SQL aggregates do.

An engine aggregates in parts, on several threads, and puts the parts together. For that, a part's
state travels through the engine as SQL values: the class's *annotated attributes are its state*.
They are read after a part is done and set on a fresh instance, which `merge` gets. State that is
not of SQL types (a set, say) is written and read by two methods of your own::

    def state(self) -> list[str]: return sorted(self.seen)      # or tuple[int, list[str]]
    def restore(self, seen: list[str]) -> None: self.seen = set(seen)

`evaluate` may be called more than once, between updates (a running total does that). `retract`,
optional, with the parameters of `update`, takes a row out again, so that the aggregate can be used
over a window frame that slides.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args, get_origin

from epochal._core.generation.kind import Export, Kind
from epochal.kinds.codec import has_codec
from epochal.kinds.signature import (
    AnnotationError,
    Faults,
    Signature,
    ValueType,
    annotations_of,
    data_types_of,
    read_array,
    read_signature,
    read_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class AggregateShape:
    """What an aggregate class is like.

    Attributes:
        update: the parameters that SQL passes.
        returns: what `evaluate` gives.
        state: the types of its state, by attribute; by position where the class writes it itself.
        has_own_state: whether the class has `state` and `restore`.
        retracts: whether it has `retract`.
    """

    update: Signature
    returns: ValueType
    state: Mapping[str, ValueType]
    has_own_state: bool
    retracts: bool

    @property
    def has_codec(self) -> bool:
        """Whether a data type is in any of it."""
        taken = (one.type for one in self.update.parameters)
        return has_codec([*taken, self.returns, *self.state.values()])


class AggregateKind(Kind["type[Any]"]):
    """The kind of aggregate functions; its one instance is `epochal.kinds.aggregate`."""

    __slots__ = ()

    def options(self, *, vectorized: bool = False, **unknown: Any) -> Mapping[str, Any]:
        """What the marker takes.

        Args:
            vectorized: `update` (and `retract`) take Arrow arrays, a batch at a time.
            **unknown: refused.

        Raises:
            TypeError: an option that is not known.
        """
        if unknown:
            raise TypeError(
                f"aggregate does not know the options {sorted(unknown)}; "
                "it takes vectorized and name"
            )
        return {"vectorized": bool(vectorized)}

    def validate(self, export: Export) -> None:
        """Check that the class can aggregate: its methods, their annotations, its state.

        Raises:
            TypeError: it cannot; the message names each method, parameter or attribute.
        """
        self.shape(export)

    def dependencies(self, export: Export) -> Iterator[tuple[Kind[Any], Any]]:
        """The data types of its plugin that it names."""
        return _data_types(export.target)

    def shape(self, export: Export) -> AggregateShape:
        """What the class is like.

        Raises:
            TypeError: as `validate`.
        """
        cls = export.target
        if not inspect.isclass(cls):
            raise TypeError(
                "is not a class; an aggregate is a class with update, merge and evaluate"
            )
        faults = Faults()
        _check_class(cls, faults)
        read = read_array if export.options["vectorized"] else read_value
        update = _method(cls, "update", faults, read, returns=False)
        evaluate = _method(cls, "evaluate", faults, read_value)
        _check_merge(cls, faults)
        _check_retract(cls, update, faults, read)
        has_own_state = hasattr(cls, "state")
        state = _own_state(cls, faults) if has_own_state else _attributes(cls, faults)
        if not update.parameters and not faults.messages:
            faults.check("update has no parameters; an aggregate needs a value to look at")
        faults.raise_any()
        return AggregateShape(
            update,
            evaluate.returns or ValueType(None),
            state,
            has_own_state,
            hasattr(cls, "retract"),
        )


def _data_types(cls: type) -> Iterator[tuple[Kind[Any], Any]]:
    methods = [getattr(cls, name) for name in ("update", "evaluate", "state") if hasattr(cls, name)]
    yield from data_types_of(*methods, *cls.__mro__)


_NOTHING: Final = Signature((), None)


def _method(
    cls: type,
    name: str,
    faults: Faults,
    read: Callable[[Any], ValueType],
    *,
    read_return: Callable[[Any], ValueType] | None = None,
    returns: bool = True,
) -> Signature:
    method = inspect.getattr_static(cls, name, None)
    if not inspect.isfunction(method):
        faults.check(f"has no method {name}(self, …)")
        return _NOTHING
    try:
        return read_signature(method, read, read_return=read_return, returns=returns, method=True)
    except AnnotationError as error:
        faults.add(f"{name}: ", error)
        return _NOTHING


def _check_class(cls: type, faults: Faults) -> None:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        faults.check(
            f"{cls.__name__}() must work without arguments, to make a group's state: {error}"
        )
    if not cls.__weakrefoffset__:
        faults.check("its __slots__ lack '__weakref__', by which its use is known")


def _check_merge(cls: type, faults: Faults) -> None:
    merge = inspect.getattr_static(cls, "merge", None)
    if not inspect.isfunction(merge):
        faults.check("has no method merge(self, other), which adds another part of the group")
        return
    try:
        inspect.signature(merge).bind(None, None)
    except TypeError:
        faults.check("merge must take one argument, the other part: merge(self, other)")


def _check_retract(
    cls: type, update: Signature, faults: Faults, read: Callable[[Any], ValueType]
) -> None:
    if not hasattr(cls, "retract"):
        return
    retract = _method(cls, "retract", faults, read, returns=False)
    if [one.type for one in retract.parameters] != [one.type for one in update.parameters]:
        faults.check("retract must take the parameters of update")


def _attributes(cls: type, faults: Faults) -> dict[str, ValueType]:
    state: dict[str, ValueType] = {}
    for base in reversed(cls.__mro__):
        try:
            hints = annotations_of(base)
        except AnnotationError as error:
            faults.add("", error)
            continue
        for name in hints:
            if get_origin(hints[name]) is ClassVar or hints[name] is ClassVar:
                continue
            kind = faults.read(f"state attribute {name!r}", name, hints, read_value)
            if kind is not None:
                state[name] = kind
            if isinstance(vars(base).get(name), (list, dict, set)):
                faults.check(
                    f"state attribute {name!r} is shared by all groups; set it in __init__"
                )
    if not state and not faults.messages:
        faults.check(
            "has no state: annotate its attributes (count: int = 0), or give it state and restore"
        )
    return state


def _own_state(cls: type, faults: Faults) -> dict[str, ValueType]:
    restore = _method(cls, "restore", faults, read_value, returns=False)
    read: list[ValueType] = []

    def read_state(hint: Any) -> ValueType:
        parts = get_args(hint) if get_origin(hint) is tuple else (hint,)
        read.extend(read_value(part) for part in parts)
        return ValueType(None)

    written = _method(cls, "state", faults, read_value, read_return=read_state)
    if written.parameters:
        faults.check("state must take no arguments")
    if [one.type for one in restore.parameters] != read and not faults.messages:
        faults.check("restore must take what state returns, each with the same annotation")
    return {f"state{index}": kind for index, kind in enumerate(read)}


aggregate: Final = AggregateKind("aggregate", "one SQL value out of many rows")
