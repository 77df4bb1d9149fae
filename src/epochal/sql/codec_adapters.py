"""Wraps a plugin's callables in the codecs of the data types in their signatures.

The engine stores a value of a data type in its storage format. A wrapper decodes the arguments,
calls the plugin, and encodes the result. It takes the place of the callable in the query's own
table (`epochal.sql.execution`) and goes with the query, so that plans know storage alone, and a
function of plain types is called without a wrapper.

Vectorized functions get arrays as they are stored, and may return arrays of the storage or of the
data type: no value is decoded or encoded, and no row costs a step in Python.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epochal.kinds.codec import decoder_for, encoder_for, for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from epochal.kinds.aggregate import AggregateShape
    from epochal.kinds.codec import Step
    from epochal.kinds.signature import Parameter, Signature
    from epochal.kinds.table_function import TableShape

    Steps = Sequence[Step | None]


class CodecCall:
    """Wraps a function."""

    __slots__ = ("_decoders", "_encode", "_function")

    def __init__(self, function: Callable[..., Any], decoders: Steps, encode: Step | None) -> None:
        self._function: Final = function
        self._decoders: Final = decoders
        self._encode: Final = encode

    def __call__(self, *stored: Any) -> Any:
        """Call the function with stored values; returns a value to store."""
        result = self._function(*_apply(self._decoders, stored))
        return result if self._encode is None else self._encode(result)


def wrap_scalar(function: Callable[..., Any], signature: Signature) -> CodecCall:
    """Wrap a scalar function, which gets the values of a row."""
    assert signature.returns is not None
    return CodecCall(
        function, _decoders(signature.parameters), encoder_for(signature.returns, "the result")
    )


def wrap_window(
    function: Callable[..., Any], signature: Signature, *, vectorized: bool, by_frame: bool
) -> CodecCall:
    """Wrap a window function, which gets columns and returns a column, or a value by frame."""
    assert signature.returns is not None
    decoders = [] if vectorized else [for_each(step) for step in _decoders(signature.parameters)]
    encode = encoder_for(signature.returns, "the result")
    if not by_frame:
        encode = None if vectorized else for_each(encode)
    return CodecCall(function, decoders, encode)


def wrap_table(function: Callable[..., Any], shape: TableShape) -> CodecCall:
    """Wrap a function that returns rows; each row becomes a mapping of values to store."""
    encoders = {
        name: encoder_for(kind, f"column {name!r}") for name, kind in (shape.columns or {}).items()
    }
    read: Callable[[Any, str], Any] = dict.__getitem__ if shape.has_mapping_rows else getattr
    encode = partial(_encode_rows, encoders, read) if encoders else None
    return CodecCall(function, _decoders(shape.signature.parameters), encode)


def _encode_rows(
    encoders: Mapping[str, Step | None], read: Callable[[Any, str], Any], rows: Iterable[Any]
) -> Iterator[dict[str, Any]]:
    steps = [*encoders.values()]
    for row in rows:
        values = _apply(steps, [read(row, name) for name in encoders])
        yield dict(zip(encoders, values, strict=True))


class CodecClass:
    """Wraps the class of an aggregate."""

    __slots__ = ("_make", "decode_state", "decoders", "encode", "encode_state", "shape")

    def __init__(self, make: Callable[[], Any], shape: AggregateShape, *, vectorized: bool) -> None:
        self._make: Final = make
        self.shape: Final = shape
        self.decoders: Final = [] if vectorized else _decoders(shape.update.parameters)
        self.encode: Final = encoder_for(shape.returns, "the result")
        places = [
            (kind, "the state" if shape.has_own_state else f"state attribute {name!r}")
            for name, kind in shape.state.items()
        ]
        self.decode_state: Final = [decoder_for(*place) for place in places]
        self.encode_state: Final = [encoder_for(*place) for place in places]

    def __call__(self) -> CodecInstance:
        """Make an instance, for one group."""
        return CodecInstance(self._make(), self)


class CodecInstance:
    """Wraps an instance of an aggregate's class; it always has a `state` and a `restore`."""

    __slots__ = ("_codecs", "_instance")

    def __init__(self, instance: Any, codecs: CodecClass) -> None:
        self._instance: Final = instance
        self._codecs: Final = codecs

    def fresh(self) -> CodecInstance:
        """A new instance, to be merged into this one."""
        return CodecInstance(type(self._instance)(), self._codecs)

    def update(self, *values: Any) -> None:
        """Add a row."""
        self._instance.update(*_apply(self._codecs.decoders, values))

    def retract(self, *values: Any) -> None:
        """Remove a row."""
        self._instance.retract(*_apply(self._codecs.decoders, values))

    def merge(self, other: CodecInstance) -> None:
        """Merge another part."""
        self._instance.merge(other._instance)  # of its own class

    def evaluate(self) -> Any:
        """The result, to be stored."""
        value = self._instance.evaluate()
        return value if self._codecs.encode is None else self._codecs.encode(value)

    def state(self) -> Any:
        """The state, to be stored: one value, or a tuple of several."""
        names = [*self._codecs.shape.state]
        if not self._codecs.shape.has_own_state:
            values = tuple(getattr(self._instance, name) for name in names)
        else:
            returned = self._instance.state()
            values = returned if len(names) > 1 else (returned,)
        stored = tuple(_apply(self._codecs.encode_state, values))
        return stored if len(names) > 1 else stored[0]

    def restore(self, *state: Any) -> None:
        """Take over a stored state."""
        values = _apply(self._codecs.decode_state, state)
        if self._codecs.shape.has_own_state:
            self._instance.restore(*values)
            return
        for name, value in zip(self._codecs.shape.state, values, strict=True):
            setattr(self._instance, name, value)


def _decoders(parameters: Iterable[Parameter]) -> Steps:
    return [
        decoder_for(parameter.type, f"parameter {parameter.name!r}") for parameter in parameters
    ]


def _apply(steps: Steps, values: Sequence[Any]) -> Sequence[Any]:
    """Apply its step to each value; without steps, the values stay as they are."""
    if not steps:
        return values
    pairs = zip(steps, values, strict=False)  # arguments with a default may be left out
    return [value if step is None else step(value) for step, value in pairs]
