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
    def north_of(a: point, b: point) -> bool: ...      # gets the values that `decode` returns

In SQL and in files a value is its storage; the column's metadata name the type, `geo.point`, and
its parameters (`ARROW:extension:name`, from the Arrow format).

Data outlives code. A new version is therefore refused if it stores values as another Arrow type,
has other parameters, or reads the old version's stored samples as other values; the error spells
out the difference. A version that leaves the type out is refused too: to break with stored data on
purpose, `remove` the plugin and `load` the new version.

Two values are the same if they are equal, or have the same contents under the same names, whatever
their classes are called (`epochal.kinds.toolkit.value_equality`); NaN is the same as NaN. A static
`same(a, b)` of the class decides instead, where there is one.

A plugin that defines a type has imported pyarrow, so this module never does.

`epoch[data_type]["geo.point"]` has `type` (a `pyarrow.ExtensionType`), `array(values)` and
`values(array)`.

A type may stand wherever a SQL type may in the functions of its plugin: parameters and results,
columns of tables, parameters, state and results of aggregates; as `point | None`, `list[point]`,
and, to please type checkers, `Annotated[Point, point]`. Vectorized functions get arrays of the
storage, and return these or arrays of the type. A plugin that requires this one gets the type from
its context::

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

from epochal.errors import format_error
from epochal.kinds.codec import Codec, CodecKind, declared_codec, declared_step
from epochal.kinds.signature import is_arrow_type
from epochal.kinds.toolkit.value_equality import values_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from epochal._core.generation.kind import Export
    from epochal._core.use.lease import Lease, RevocableLease


REMOVAL_REFUSED: Final = (
    "stored values of it outlive a version, and a later version would not be compared with this "
    "one; to break with them on purpose, remove the plugin and load the new version"
)
"""Why a reload may not leave out an export that defines how values are stored."""


class TypeHandle:
    """The handle that an epoch offers for a data type.

    Attributes:
        type: the Arrow extension type.
    """

    # A call of a method has this handle in its frame, and with it the lease.

    def __init__(self, export: Export, lease: Lease | RevocableLease) -> None:
        from epochal.kinds.arrow import storage_type
        from epochal.kinds.extension import extension_type

        self._lease: Final = lease
        self._codec: Final = declared_codec(export.target, export.name.partition(".")[2])
        storage = storage_type(self._codec.storage)
        self.type: Final[Any] = extension_type(export.name, storage, self._codec.parameters)

    # In the annotations of a plugin that requires this one, the handle stands where a class would.
    # `typing` accepts as a type only an object that can be called and can be part of a union.

    @property
    def __epochal_codec__(self) -> Codec:
        plugin, _, _ = self.type.full_name.partition(".")
        return replace(self._codec, plugin=plugin)

    def __or__(self, other: Any) -> Any:
        return Union[self, other]  # noqa: UP007  # `self | other` would call this method

    __ror__ = __or__

    def __call__(self, *_: Any) -> Any:
        """Refuse: the handle makes no single values.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{self!r} cannot be called; its array(values) makes an Arrow array")

    def array(self, values: Iterable[Any]) -> Any:
        """Return an Arrow extension array of values; None becomes null."""
        from epochal.kinds.arrow import storage_array, to_array

        stored = [None if value is None else self._codec.encode(value) for value in values]
        return self.type.wrap_array(storage_array(to_array(stored, self._codec.storage)))

    def values(self, array: Any) -> list[Any]:
        """Return the values of an array, chunked array or column of this type or its storage."""
        from epochal.kinds.arrow import to_pylist

        stored = to_pylist(array, self._codec.storage)
        return [None if value is None else self._codec.decode(value) for value in stored]

    def __repr__(self) -> str:
        return f"<data type {self.type.extension_name}>"


class DataTypeKind(CodecKind):
    """The kind of data types; its one instance is `epochal.kinds.data_type`."""

    __slots__ = ()

    is_local = False  # What it opens is a record.

    def validate(self, export: Export) -> None:
        """Require a storage type, and samples that are read back as they were.

        Raises:
            TypeError: the class lacks something.
            ValueError: a sample is read back as another value.
        """
        if not inspect.isclass(export.target):
            raise TypeError(f"expected a class, not {export.target!r}")
        cls: Any = export.target
        if not is_arrow_type(getattr(cls, "storage", None)):
            raise TypeError("it has no `storage`, the pyarrow type that its values are stored as")
        if not freeze_samples(cls):
            raise TypeError("it has no `samples`, which show that other versions read its values")
        if (declared_step(cls, "encode") is None) != (declared_step(cls, "decode") is None):
            raise TypeError("it has one of encode(value) and decode(stored); expected both or none")
        codec = declared_codec(cls, export.name)
        for sample in cls.samples:
            stored = _encode(codec, sample)
            read = _decode(codec, stored)
            if not values_equal(sample, read, cls):
                raise ValueError(f"sample {sample!r} is stored as {stored!r} and read as {read!r}")

    def compare(self, old: Export, new: Export) -> None:
        """Refuse a version that would not understand stored values.

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
        """Refuse a version without the type: a later one could give stored values another meaning.

        Raises:
            ValueError: always.
        """
        raise ValueError(REMOVAL_REFUSED)

    def open(self, export: Export) -> Export:
        """Return the export itself: the handle is made of the class, which needs no opening."""
        return export

    def wrap(self, instance: Export, lease: Lease | RevocableLease) -> TypeHandle:
        """Return a handle with the Arrow type, which converts between values and arrays."""
        return TypeHandle(instance, lease)


def _compare_sample(sample: Any, before: Codec, after: Codec, owner: Any) -> None:
    """Check that the new version reads the old one's stored sample alike, and stores it so."""
    stored = _encode(before, sample)
    was, now = _decode(before, stored), _decode(after, stored)
    prefix = f"sample {sample!r} of the old version is stored as {stored!r}, which"
    if not values_equal(was, now, owner):
        raise ValueError(f"{prefix} it reads as {was!r}, and the new one would read as {now!r}")
    if not values_equal(stored, again := _encode(after, now)):
        raise ValueError(f"{prefix} the new one reads as {now!r} and stores as {again!r}")


def compare_parameters(before: str, after: str) -> None:
    """Compare two sets of parameters, as JSON.

    Raises:
        ValueError: they differ; the message names each parameter that does.
    """
    if before == after:  # also where a parameter is NaN
        return
    old, new = json.loads(before), json.loads(after)
    differences = [
        f"{name} was {old.get(name, 'not there')!r}, and would be {new.get(name, 'not there')!r}"
        for name in sorted({*old, *new})
        if (name in old, old.get(name)) != (name in new, new.get(name))
    ]
    if differences:
        raise ValueError(f"its parameters differ: {'; '.join(differences)}")


def freeze_samples(cls: Any) -> tuple[Any, ...]:
    """Replace the `samples` of a class by a tuple, and return it.

    An iterator would be empty the second time.

    Raises:
        TypeError: `samples` cannot be iterated.
    """
    try:
        cls.samples = tuple(getattr(cls, "samples", ()))
    except TypeError as error:
        raise TypeError(f"its `samples` are not a list of values: {error}") from None
    samples: tuple[Any, ...] = cls.samples
    return samples


def _encode(codec: Codec, value: Any) -> Any:
    from epochal.kinds.arrow import round_trip

    return round_trip(_call(codec.encode, "encode", value), codec.storage)


def _decode(codec: Codec, stored: Any) -> Any:
    return _call(codec.decode, "decode", stored)


def _call(step: Callable[[Any], Any], name: str, value: Any) -> Any:
    try:
        return step(value)
    except Exception as error:
        raise ValueError(f"{name}({value!r}) raised {format_error(error)}") from error


data_type: Final = DataTypeKind("data_type", "an Arrow extension type")
