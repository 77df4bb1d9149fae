"""A plugin's callables between the codecs of their data types.

What a query calls is in its own table, and goes with the query (`epochal.sql.execution`). Where a
function has a data type in its signature, what stands there is one of these in its place: it reads
what is stored, calls, and writes what it is given. So the adapters that plans hold know of storage
alone, and a function of plain types is called as it is.

Functions that take whole arrays get them as they are stored, and may return arrays of the storage
or of the data type: there is no value to read or write, and no step in Python for each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from epochal.kinds.codec import decoder_for, encoder_for, for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from epochal.kinds.aggregate import AggregateShape
    from epochal.kinds.codec import Step
    from epochal.kinds.signature import Parameter, Signature
    from epochal.kinds.table_function import TableShape

    Steps = Sequence[Step | None]


class CodedCall:
    """A function, called by row, by column or by frame."""

    __slots__ = ("_function", "_readers", "_write")

    def __init__(self, function: Callable[..., Any], readers: Steps, write: Step | None) -> None:
        self._function: Final = function
        self._readers: Final = readers
        self._write: Final = write

    def __call__(self, *given: Any) -> Any:
        """Call it with what is stored; returns what is to be stored."""
        result = self._function(*_through(self._readers, given))
        return result if self._write is None else self._write(result)


def coded_scalar(function: Callable[..., Any], signature: Signature) -> CodedCall:
    """A scalar function, which gets the values of a row."""
    assert signature.returns is not None
    return CodedCall(
        function, _readers(signature.parameters), encoder_for(signature.returns, "the result")
    )


def coded_window(
    function: Callable[..., Any], signature: Signature, *, vectorized: bool, by_frame: bool
) -> CodedCall:
    """A window function, which gets columns and returns one, or a value."""
    assert signature.returns is not None
    readers = [] if vectorized else [for_each(one) for one in _readers(signature.parameters)]
    write = encoder_for(signature.returns, "the result")
    if not by_frame:
        write = None if vectorized else for_each(write)
    return CodedCall(function, readers, write)


class CodedTable:
    """A function that returns rows; these become mappings of what is stored."""

    __slots__ = ("_function", "_mappings", "_readers", "_writers")

    def __init__(self, function: Callable[..., Any], shape: TableShape) -> None:
        self._function: Final = function
        self._readers: Final = _readers(shape.signature.parameters)
        self._mappings: Final = shape.has_mapping_rows
        self._writers: Final = {
            name: encoder_for(kind, f"column {name!r}")
            for name, kind in (shape.columns or {}).items()
        }

    def __call__(self, *given: Any) -> Any:
        """Call it with what is stored; returns rows of what is to be stored."""
        result = self._function(*_through(self._readers, given))
        return self._rows(result) if self._writers else result

    def _rows(self, rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
        read = dict.__getitem__ if self._mappings else getattr
        for row in rows:
            values = [read(row, name) for name in self._writers]
            yield dict(zip(self._writers, _through([*self._writers.values()], values), strict=True))


class CodedClass:
    """An aggregate's class."""

    __slots__ = ("_make", "read_state", "readers", "shape", "write", "write_state")

    def __init__(self, make: Callable[[], Any], shape: AggregateShape, *, vectorized: bool) -> None:
        self._make: Final = make
        self.shape: Final = shape
        self.readers: Final = [] if vectorized else _readers(shape.update.parameters)
        self.write: Final = encoder_for(shape.returns, "the result")
        state = [(kind, _place(name, shape)) for name, kind in shape.state.items()]
        self.read_state: Final = [decoder_for(*one) for one in state]
        self.write_state: Final = [encoder_for(*one) for one in state]

    def __call__(self) -> CodedGroup:
        """Make an instance, for one group."""
        return CodedGroup(self._make(), self)


class CodedGroup:
    """An instance of an aggregate's class; whatever its state is, it writes and restores it."""

    __slots__ = ("_coded", "_instance")

    def __init__(self, instance: Any, coded: CodedClass) -> None:
        self._instance: Final = instance
        self._coded: Final = coded

    def another(self) -> CodedGroup:
        """A fresh one, to be merged with this."""
        return CodedGroup(type(self._instance)(), self._coded)

    def update(self, *values: Any) -> None:
        """Take a row in."""
        self._instance.update(*_through(self._coded.readers, values))

    def retract(self, *values: Any) -> None:
        """Take a row out."""
        self._instance.retract(*_through(self._coded.readers, values))

    def merge(self, other: CodedGroup) -> None:
        """Take another part in."""
        self._instance.merge(other._instance)  # of its own class

    def evaluate(self) -> Any:
        """What is stored of the result."""
        value = self._instance.evaluate()
        return value if self._coded.write is None else self._coded.write(value)

    def state(self) -> Any:
        """What is stored of the state: one value, or a tuple of several."""
        names = [*self._coded.shape.state]
        if not self._coded.shape.has_own_state:
            given = tuple(getattr(self._instance, name) for name in names)
        else:
            own = self._instance.state()
            given = own if len(names) > 1 else (own,)
        stored = tuple(_through(self._coded.write_state, given))
        return stored if len(names) > 1 else stored[0]

    def restore(self, *state: Any) -> None:
        """Read what is stored of a state."""
        values = _through(self._coded.read_state, state)
        if self._coded.shape.has_own_state:
            self._instance.restore(*values)
            return
        for name, value in zip(self._coded.shape.state, values, strict=True):
            setattr(self._instance, name, value)


def _place(name: str, shape: AggregateShape) -> str:
    return "the state" if shape.has_own_state else f"state attribute {name!r}"


def _readers(parameters: Iterable[Parameter]) -> Steps:
    return [decoder_for(one.type, f"parameter {one.name!r}") for one in parameters]


def _through(steps: Steps, values: Sequence[Any]) -> Sequence[Any]:
    """Values, each after its step; as they are where there are no steps."""
    if not steps:
        return values
    pairs = zip(steps, values, strict=False)  # arguments with a default may be left out
    return [value if step is None else step(value) for step, value in pairs]
