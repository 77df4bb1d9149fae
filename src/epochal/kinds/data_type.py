"""Data types: Arrow extension types that plugins define, with a meaning of their own.

::

    @data_type
    class point:
        "A place on the earth."

        storage = pa.struct([("lat", pa.float64()), ("lon", pa.float64())])
        parameters = {"datum": "WGS84"}
        samples = [(52.52, 13.40), (-33.87, 151.21)]

        @staticmethod
        def encode(value): return {"lat": value[0], "lon": value[1]}

        @staticmethod
        def decode(stored): return (stored["lat"], stored["lon"])

    @scalar
    def north_of(a: point, b: point) -> bool: ...      # gets what `decode` gives

In SQL and in files a value is its storage; the column says `geo.point` and the parameters in its
metadata (`ARROW:extension:name`, the Arrow format's own). Data outlives code: so a version that
stores otherwise, has other parameters, or does not read what the old one wrote of its samples as
the old one reads it, is refused, and the error spells out the difference. So is one that leaves the
type out: `remove` and `load` is the way to break with what is stored, on purpose.

Two values are the same if they are equal, or made of the same things by the same names, whatever
their class is called (`epochal.kinds.toolkit.value_equality`); NaN is itself. A static `same(a, b)`
of the class decides instead, where it is there.

Whoever defines a type has imported pyarrow, so this module never does.

`epoch[data_type]["geo.point"]` has `type` (a `pyarrow.ExtensionType`), `array(values)` and
`values(array)`.

A type may stand wherever a SQL type may in the functions of its plugin: parameters and results,
columns of tables, what aggregates take, give and keep; as `point | None`, `list[point]`, and, to
please type checkers, `Annotated[Point, point]`. Vectorized functions get arrays of the storage, and
return these or arrays of the type. A plugin that requires this one takes it out of its context::

    @scalar
    def is_near(a: "point", b: "point") -> bool: ...

    def register(ctx):
        global point
        point = ctx.require("geo").point
"""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Union

from epochal._core.introspect.tracebacks import format_error
from epochal.kinds.codec import Codec, CodecKind, declared_codec, step_of
from epochal.kinds.signature import is_arrow_type
from epochal.kinds.toolkit.value_equality import values_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from epochal._core.generation.kind import Export
    from epochal._core.use.lease import Lease, RevocableLease


REMOVAL_REFUSED: Final = (
    "what is stored of it outlives a version, and a later one would not be compared with this; "
    "to break with it on purpose, remove the plugin and load the new version"
)
"""Why a reload may not leave out what says how something is stored."""


class TypeHandle:
    """What an epoch offers of a data type.

    Attributes:
        type: the Arrow extension type.
    """

    # Whoever is inside of a method has this handle in its frame, and so the lease.

    def __init__(self, export: Export, lease: Lease | RevocableLease) -> None:
        from epochal.kinds.arrow import storage_type
        from epochal.kinds.extension import extension_type

        self._lease: Final = lease
        self._codec: Final = declared_codec(export.target, export.name.partition(".")[2])
        storage = storage_type(self._codec.storage)
        self.type: Final[Any] = extension_type(export.name, storage, self._codec.parameters)

    # What a plugin gets of one that it requires stands in its annotations as a class does; `typing`
    # takes for a type only what can be called, and made one of several.

    @property
    def __epochal_codec__(self) -> Codec:
        plugin, _, _ = self.type.named.partition(".")
        return replace(self._codec, plugin=plugin)

    def __or__(self, other: Any) -> Any:
        return Union[self, other]  # noqa: UP007  # which would ask this method

    __ror__ = __or__

    def __call__(self, *_: Any) -> Any:
        """Refuse: it makes no values.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{self!r} cannot be called; its array(values) makes an Arrow array")

    def array(self, values: Iterable[Any]) -> Any:
        """An Arrow extension array of values; None is null."""
        from epochal.kinds.arrow import storage_array, to_array

        stored = [None if value is None else self._codec.encode(value) for value in values]
        return self.type.wrap_array(storage_array(to_array(stored, self._codec.storage)))

    def values(self, array: Any) -> list[Any]:
        """The values of an array, chunked array or column of this type, or of its storage."""
        from epochal.kinds.arrow import to_pylist

        stored = to_pylist(array, self._codec.storage)
        return [None if one is None else self._codec.decode(one) for one in stored]

    def __repr__(self) -> str:
        return f"<data type {self.type.extension_name}>"


class DataTypeKind(CodecKind):
    """The kind of data types; its one instance is `epochal.kinds.data_type`."""

    __slots__ = ()

    def validate(self, export: Export) -> None:
        """Ask for a storage type, samples, and that these come back as they were.

        Raises:
            TypeError: something is missing.
            ValueError: a sample does not come back.
        """
        if not inspect.isclass(export.target):
            raise TypeError(f"expected a class, not {export.target!r}")
        cls: Any = export.target
        if not is_arrow_type(getattr(cls, "storage", None)):
            raise TypeError("it has no `storage`, the pyarrow type that its values are stored as")
        if not freeze_samples(cls):
            raise TypeError("it has no `samples`, which show that other versions read its values")
        if (step_of(cls, "encode") is None) != (step_of(cls, "decode") is None):
            raise TypeError("it has one of encode(value) and decode(stored); expected both or none")
        codec = declared_codec(cls, export.name)
        for sample in cls.samples:
            stored = _stored(codec, sample)
            back = _read(codec, stored)
            if not values_equal(sample, back, cls):
                raise ValueError(f"sample {sample!r} is stored as {stored!r} and read as {back!r}")

    def compare(self, old: Export, new: Export) -> None:
        """Refuse a version that would not understand what is stored.

        Raises:
            ValueError: the difference, spelled out.
        """
        before, after = declared_codec(old.target, old.name), declared_codec(new.target, new.name)
        if before.storage != after.storage:
            raise ValueError(
                f"values were stored as {before.storage}, and would be {after.storage}"
            )
        compare_parameters(before.parameters, after.parameters)
        for sample in old.target.samples:
            _compare_sample(sample, before, after, new.target)

    def check_removed(self, old: Export) -> None:
        """Refuse a version without it: what is stored could come back to another meaning.

        Raises:
            ValueError: always.
        """
        raise ValueError(REMOVAL_REFUSED)

    def open(self, export: Export) -> Export:
        """Nothing to open: what is offered is made of the class."""
        return export

    def wrap(self, instance: Export, lease: Lease | RevocableLease) -> TypeHandle:
        """Its Arrow type, and how values become arrays."""
        return TypeHandle(instance, lease)


def _compare_sample(sample: Any, before: Codec, after: Codec, owner: Any) -> None:
    """What the old version stored of a sample means the same to the new one, and is stored so."""
    stored = _stored(before, sample)
    was, now = _read(before, stored), _read(after, stored)
    told = f"sample {sample!r} of the old version is stored as {stored!r}, which"
    if not values_equal(was, now, owner):
        raise ValueError(f"{told} it reads as {was!r}, and the new one would read as {now!r}")
    if not values_equal(stored, again := _stored(after, now)):
        raise ValueError(f"{told} the new one reads as {now!r} and stores as {again!r}")


def compare_parameters(before: str, after: str) -> None:
    """Compare two sets of parameters, as JSON.

    Raises:
        ValueError: they differ; it names each that does.
    """
    if before == after:  # NaN too
        return
    old, new = json.loads(before), json.loads(after)
    told = [
        f"{name} was {old.get(name, 'not there')!r}, and would be {new.get(name, 'not there')!r}"
        for name in sorted({*old, *new})
        if (name in old, old.get(name)) != (name in new, new.get(name))
    ]
    if told:
        raise ValueError(f"its parameters differ: {'; '.join(told)}")


def freeze_samples(cls: Any) -> tuple[Any, ...]:
    """The `samples` of a class, kept there as a tuple: an iterator would be empty at a second look.

    Raises:
        TypeError: they are no samples.
    """
    try:
        cls.samples = tuple(getattr(cls, "samples", ()))
    except TypeError as error:
        raise TypeError(f"its `samples` are no list of values: {error}") from None
    kept: tuple[Any, ...] = cls.samples
    return kept


def _stored(codec: Codec, value: Any) -> Any:
    from epochal.kinds.arrow import round_trip

    return round_trip(_called(codec.encode, "encode", value), codec.storage)


def _read(codec: Codec, stored: Any) -> Any:
    return _called(codec.decode, "decode", stored)


def _called(step: Callable[[Any], Any], name: str, value: Any) -> Any:
    try:
        return step(value)
    except Exception as error:
        raise ValueError(f"{name}({value!r}) raised {format_error(error)}") from error


data_type: Final = DataTypeKind("data_type", "an Arrow extension type")
