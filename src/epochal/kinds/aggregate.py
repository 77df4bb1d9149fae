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

An engine aggregates in parts, on several threads, and merges the parts. For that, a part's state
travels through the engine as SQL values: the class's *annotated attributes are its state*. They are
read after a part is done and set on a fresh instance, which is passed to `merge`. State that is not
of SQL types (such as a set) is written and read by two methods of your own::

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

    from epochal.kinds.marker_types import AggregateMarker

    Read = Callable[[Any], ValueType]


@dataclass(frozen=True, slots=True)
class AggregateShape:
    """The SQL types of an aggregate class.

    Attributes:
        update: the parameters that SQL passes.
        returns: the result of `evaluate`.
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
        """Whether any of these types is, or contains, a data type."""
        parameters = (parameter.type for parameter in self.update.parameters)
        return has_codec([*parameters, self.returns, *self.state.values()])


class AggregateKind(Kind["type[Any]"]):
    """The kind of aggregate functions; its one instance is `epochal.kinds.aggregate`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: AggregateMarker  # type: ignore[assignment]  # overloads

    def options(self, *, vectorized: bool = False, **unknown: Any) -> Mapping[str, Any]:
        """Check the marker's options.

        Args:
            vectorized: `update` (and `retract`) take Arrow arrays, a batch at a time.
            **unknown: refused.

        Raises:
            TypeError: the kind has no such option.
        """
        if unknown:
            raise TypeError(
                f"aggregate does not know the options {sorted(unknown)}; "
                "it takes vectorized and name"
            )
        return {"vectorized": bool(vectorized)}

    def validate(self, export: Export) -> None:
        """Require a class that can aggregate, by its methods, their annotations and its state.

        Raises:
            TypeError: it cannot; the message names each method, parameter or attribute.
        """
        self.shape(export)

    def dependencies(self, export: Export) -> Iterator[tuple[Kind[Any], Any]]:
        """Return the plugin's own data types that the class's annotations name."""
        cls = export.target
        names = ("update", "evaluate", "state")
        methods = [getattr(cls, name) for name in names if hasattr(cls, name)]
        return data_types_of(*methods, *cls.__mro__)

    def shape(self, export: Export) -> AggregateShape:
        """Return the types of the class's parameters, result and state.

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
        update = _read_method(cls, "update", faults, read, returns=False)
        evaluate = _read_method(cls, "evaluate", faults, read_value)
        _check_merge(cls, faults)
        _check_retract(cls, update, faults, read)
        own_state = hasattr(cls, "state")
        state = _read_own_state(cls, faults) if own_state else _read_attributes(cls, faults)
        if not update.parameters and not faults.messages:
            faults.add("update has no parameters; an aggregate needs a value to look at")
        faults.raise_any()
        returns = evaluate.returns or ValueType(None)
        return AggregateShape(update, returns, state, own_state, hasattr(cls, "retract"))


_NOTHING: Final = Signature((), None)


def _read_method(
    cls: type,
    name: str,
    faults: Faults,
    read: Read,
    *,
    read_return: Read | None = None,
    returns: bool = True,
) -> Signature:
    method = inspect.getattr_static(cls, name, None)
    if not inspect.isfunction(method):
        faults.add(f"has no method {name}(self, …)")
        return _NOTHING
    try:
        return read_signature(method, read, read_return=read_return, returns=returns, method=True)
    except AnnotationError as error:
        faults.add_error(f"{name}: ", error)
        return _NOTHING


def _types_of(signature: Signature) -> list[ValueType]:
    return [parameter.type for parameter in signature.parameters]


def _check_class(cls: type, faults: Faults) -> None:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        faults.add(
            f"{cls.__name__}() must work without arguments, to make a group's state: {error}"
        )
    if not cls.__weakrefoffset__:
        faults.add("its __slots__ lack '__weakref__', by which its use is known")


def _check_merge(cls: type, faults: Faults) -> None:
    merge = inspect.getattr_static(cls, "merge", None)
    if not inspect.isfunction(merge):
        faults.add("has no method merge(self, other), which adds another part of the group")
        return
    try:
        inspect.signature(merge).bind(None, None)
    except TypeError:
        faults.add("merge must take one argument, the other part: merge(self, other)")


def _check_retract(cls: type, update: Signature, faults: Faults, read: Read) -> None:
    if hasattr(cls, "retract"):
        retract = _read_method(cls, "retract", faults, read, returns=False)
        if _types_of(retract) != _types_of(update):
            faults.add("retract must take the parameters of update")


def _read_attributes(cls: type, faults: Faults) -> dict[str, ValueType]:
    """Read the state from the annotated attributes of a class and its bases."""
    state: dict[str, ValueType] = {}
    for base in reversed(cls.__mro__):
        try:
            hints = annotations_of(base)
        except AnnotationError as error:
            faults.add_error("", error)
            continue
        for name, hint in hints.items():
            if get_origin(hint) is ClassVar or hint is ClassVar:
                continue
            value_type = faults.read(f"state attribute {name!r}", name, hints, read_value)
            if value_type is not None:
                state[name] = value_type
            if isinstance(vars(base).get(name), (list, dict, set)):
                faults.add(f"state attribute {name!r} is shared by all groups; set it in __init__")
    if not state and not faults.messages:
        faults.add(
            "has no state: annotate its attributes (count: int = 0), or give it state and restore"
        )
    return state


def _read_own_state(cls: type, faults: Faults) -> dict[str, ValueType]:
    """Read the state from the annotations of `state` and `restore`, which must agree."""
    restore = _read_method(cls, "restore", faults, read_value, returns=False)
    types: list[ValueType] = []

    def read_state(hint: Any) -> ValueType:
        parts = get_args(hint) if get_origin(hint) is tuple else (hint,)
        types.extend(read_value(part) for part in parts)
        return ValueType(None)

    method = _read_method(cls, "state", faults, read_value, read_return=read_state)
    if method.parameters:
        faults.add("state must take no arguments")
    if _types_of(restore) != types and not faults.messages:
        faults.add("restore must take what state returns, each with the same annotation")
    return {f"state{index}": value_type for index, value_type in enumerate(types)}


aggregate: Final = AggregateKind("aggregate", "one SQL value out of many rows")
