"""How the values of a plugin's data types become what is stored, and back.

A signature that names a data type has its `Codec` in the `ValueType`: the plugin's `encode` and
`decode`. `reader` and `writer` make functions of it for one place of a signature, a parameter say:
None where nothing is to be done, so plain functions cost nothing. All of this is plugin code: it is
read anew for each query, and nothing that outlives a query may keep it.
"""

from __future__ import annotations

import inspect
import json
import reprlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, get_args

from epochal._core.generation.kind import Kind, marks_of
from epochal._core.introspect.tracebacks import format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from epochal.kinds.signature import ValueType

    Step = Callable[[Any], Any]

CODEC: Final = "__epochal_codec__"
"""The attribute under which what stands for a data type of another plugin has its codec."""


class CodecError(ValueError):
    """A value cannot be stored or read; the message says which, where, and of what type."""


class CodecKind(Kind[Any]):
    """A kind whose exports say how values are stored."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of a type are stored; plugin code, so not to be kept.

    Attributes:
        name: the type's name within its plugin.
        parameters: as JSON.
        storage: the `pyarrow.DataType` that they are stored as.
        encode: value to storage.
        decode: storage to value.
        plugin: whose type it is; empty for the plugin's own that names it.
    """

    name: str
    parameters: str
    storage: Any
    encode: Step
    decode: Step
    plugin: str = ""

    def full_name(self, plugin: str) -> str:
        """The extension's name, where a plugin names it."""
        return f"{self.plugin or plugin}.{self.name}"


def codec_of(hint: Any) -> Codec | None:
    """The codec of what an annotation names, if it is a data type; None for anything else.

    Args:
        hint: a class that is marked as one, or what a plugin got of another that it requires.
    """
    if not inspect.isclass(hint):
        codec = getattr(hint, CODEC, None)
        return codec if isinstance(codec, Codec) else None
    mark = next((mark for mark in marks_of(hint) if isinstance(mark.kind, CodecKind)), None)
    return None if mark is None else declared_codec(hint, mark.name or hint.__name__)


def declared_codec(cls: Any, name: str) -> Codec:
    """The codec that a class declares, whatever it is marked as."""
    encode, decode = step_of(cls, "encode") or _same, step_of(cls, "decode") or _same
    return Codec(name, parameters_of(cls), cls.storage, encode, decode)


def step_of(cls: Any, name: str) -> Step | None:
    """The function that a class, or a base of it, gives a name; not what `str` and the like have.

    Raises:
        TypeError: it cannot be called.
    """
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    if owner is None or owner.__module__ == "builtins":
        return None
    step: Step = getattr(cls, name)
    if not callable(step):
        raise TypeError(f"its {name!r} cannot be called")
    return step


def parameters_of(cls: Any) -> str:
    """The `parameters` of a class, as JSON.

    Raises:
        TypeError: they are no mapping of JSON values.
    """
    given: Mapping[str, Any] = getattr(cls, "parameters", {})
    try:
        return json.dumps(dict(given), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise TypeError(f"its `parameters` are no mapping of JSON values: {error}") from None


def _same(value: Any) -> Any:
    return value


def data_types_in(hint: Any) -> Iterator[tuple[Kind[Any], Any]]:
    """The classes in an annotation that are marked as data types, each with the kind it has."""
    if inspect.isclass(hint):
        yield from (
            (mark.kind, hint) for mark in marks_of(hint) if isinstance(mark.kind, CodecKind)
        )
    for inner in get_args(hint):  # of Annotated[…], what stands behind the type too
        yield from data_types_in(inner)


def decoder_for(kind: ValueType, where: str) -> Step | None:
    """Makes of what is stored what functions get; None where that is the same.

    Args:
        kind: the type of the place.
        where: the place, for messages: "parameter 'p'".
    """
    if kind.codec is not None:
        return _reading(kind.codec, where)
    return for_each(decoder_for(kind.element, where)) if kind.element is not None else None


def encoder_for(kind: ValueType, where: str) -> Step | None:
    """Makes of what functions give what is stored; None where that is the same.

    Args:
        kind: the type of the place.
        where: the place, for messages.
    """
    if kind.codec is not None:
        return _writing(kind.codec, where)
    return for_each(encoder_for(kind.element, where)) if kind.element is not None else None


def has_codec(kinds: Iterable[ValueType]) -> bool:
    """Whether a data type is in any of these."""
    return any(decoder_for(kind, "") is not None for kind in kinds)


def for_each(step: Step | None) -> Step | None:
    """A step for every value of a list."""
    return None if step is None else partial(_map, step)


def _map(step: Step, values: Any) -> Any:
    # What is no list is for whoever checks the type, who says so.
    return [step(value) for value in values] if isinstance(values, (list, tuple)) else values


def _reading(codec: Codec, where: str) -> Step:
    decode = codec.decode

    def read(stored: Any) -> Any:
        if stored is None:
            return None
        try:
            return decode(stored)
        except Exception as error:
            text = f"the data type {codec.name} cannot read {reprlib.repr(stored)}"
            raise CodecError(f"{where}: {text}: {format_error(error)}") from error

    return read


def _writing(codec: Codec, where: str) -> Step:
    encode = codec.encode

    def write(value: Any) -> Any:
        if value is None:
            return None
        try:
            return encode(value)
        except Exception as error:
            text = f"the data type {codec.name} cannot store {reprlib.repr(value)}"
            raise CodecError(f"{where}: {text}: {format_error(error)}") from error

    return write
