"""Codecs: how the values of a plugin's data types become stored values, and back.

A signature that names a data type has a `Codec` in its `ValueType`: the plugin's `encode` and
`decode`. `decoder_for` and `encoder_for` make functions of it for one place of a signature, such as
a parameter; they return None where nothing has to be done, so plain types cost nothing. All of this
is plugin code: it is read anew for each query, and nothing that outlives a query may keep it.
"""

from __future__ import annotations

import inspect
import json
import reprlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, get_args

from epochal._core.generation.kind import Kind, marks_of
from epochal.errors import format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from epochal.kinds.marker_types import ClassMarker
    from epochal.kinds.signature import ValueType

    Step = Callable[[Any], Any]

CODEC: Final = "__epochal_codec__"
"""The attribute in which a handle of another plugin's data type offers its codec."""


class CodecError(ValueError):
    """A value cannot be stored or read; the message names the place, the type and the value."""


class CodecKind(Kind[Any]):
    """A kind whose exports define how values are stored."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: ClassMarker  # type: ignore[assignment]  # overloads


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of a data type are stored. It holds plugin code, so do not keep it.

    Attributes:
        name: the type's name within its plugin.
        parameters: as JSON.
        storage: the `pyarrow.DataType` that the values are stored as.
        encode: value to storage.
        decode: storage to value.
        plugin: id of the plugin that exports the type; empty for the plugin that names it.
    """

    name: str
    parameters: str
    storage: Any
    encode: Step
    decode: Step
    plugin: str = ""

    def full_name(self, plugin: str) -> str:
        """Return the type's full name, as seen from a plugin that names it."""
        return f"{self.plugin or plugin}.{self.name}"


def codec_of(hint: Any) -> Codec | None:
    """Return the codec of a data type that an annotation names; None for anything else.

    Args:
        hint: a class that is marked as a data type, or the handle of another plugin's data type.
    """
    if not inspect.isclass(hint):
        codec = getattr(hint, CODEC, None)
        return codec if isinstance(codec, Codec) else None
    mark = next((mark for mark in marks_of(hint) if isinstance(mark.kind, CodecKind)), None)
    return None if mark is None else declared_codec(hint, mark.name or hint.__name__)


def declared_codec(cls: Any, name: str) -> Codec:
    """Return the codec that a class declares, whatever it is marked as."""
    encode = declared_step(cls, "encode") or _identity
    decode = declared_step(cls, "decode") or _identity
    return Codec(name, parameters_of(cls), cls.storage, encode, decode)


def declared_step(cls: Any, name: str) -> Step | None:
    """Return the function `name` that a class or its base defines; None if neither does.

    A built-in base does not count: `str` has an `encode` that is no codec.

    Raises:
        TypeError: the class has something of that name that cannot be called.
    """
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    if owner is None or owner.__module__ == "builtins":
        return None
    step: Step = getattr(cls, name)
    if not callable(step):
        raise TypeError(f"its {name!r} cannot be called")
    return step


def parameters_of(cls: Any) -> str:
    """Return the `parameters` of a class, as JSON.

    Raises:
        TypeError: they are not a mapping of JSON values.
    """
    given: Mapping[str, Any] = getattr(cls, "parameters", {})
    try:
        return json.dumps(dict(given), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise TypeError(f"its `parameters` are not a mapping of JSON values: {error}") from None


def _identity(value: Any) -> Any:
    return value


def data_types_in(hint: Any) -> Iterator[tuple[Kind[Any], Any]]:
    """Yield the classes in an annotation that are marked as data types, each with its kind."""
    if inspect.isclass(hint):
        marks = marks_of(hint)
        yield from ((mark.kind, hint) for mark in marks if isinstance(mark.kind, CodecKind))
    for inner in get_args(hint):  # includes the metadata of Annotated[…]
        yield from data_types_in(inner)


def decoder_for(value_type: ValueType, place: str) -> Step | None:
    """Return a function from stored values to the values that plugin functions get.

    Args:
        value_type: the type of the place.
        place: the place, for error messages: "parameter 'p'".

    Returns:
        None where stored values are passed as they are.
    """
    if value_type.codec is not None:
        codec: Codec = value_type.codec
        return _guarded(codec.decode, f"{place}: the data type {codec.name} cannot read")
    return for_each(decoder_for(value_type.element, place)) if value_type.element else None


def encoder_for(value_type: ValueType, place: str) -> Step | None:
    """Return a function from the values that plugin functions return to stored values.

    Args:
        value_type: the type of the place.
        place: the place, for error messages.

    Returns:
        None where values are stored as they are.
    """
    if value_type.codec is not None:
        codec: Codec = value_type.codec
        return _guarded(codec.encode, f"{place}: the data type {codec.name} cannot store")
    return for_each(encoder_for(value_type.element, place)) if value_type.element else None


def has_codec(value_types: Iterable[ValueType]) -> bool:
    """Return whether any of these types is, or contains, a data type."""
    return any(decoder_for(value_type, "") is not None for value_type in value_types)


def for_each(step: Step | None) -> Step | None:
    """Return a function that applies a step to every value of a list; None for no step."""
    return None if step is None else partial(_map, step)


def _map(step: Step, values: Any) -> Any:
    # A value that is not a list passes unchanged: the later check of its type reports it.
    return [step(value) for value in values] if isinstance(values, (list, tuple)) else values


def _guarded(step: Step, failure: str) -> Step:
    """Return a step that leaves None alone, and names the place when the plugin's code raises."""

    def guarded(value: Any) -> Any:
        if value is None:
            return None
        try:
            return step(value)
        except Exception as error:
            reason = format_error(error)
            raise CodecError(f"{failure} {reprlib.repr(value)}: {reason}") from error

    return guarded
