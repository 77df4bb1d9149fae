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
stores otherwise, has other parameters, or does not read back what the old one wrote of its samples,
is refused, and the error spells out the difference.

Whoever defines a type has imported pyarrow, so this module never does.

`epoch[data_type]["geo.point"]` has `type` (a `pyarrow.ExtensionType`), `array(values)` and
`values(array)`. A type is for the scalar functions of its own plugin, by row.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epochal._core.carry import carry
from epochal._core.kind import Export, Kind, marks_of
from epochal.kinds.signature import is_arrow_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from epochal._core.lease import Borrow, Lease


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of a type are stored; plugin code, so not to be kept.

    Attributes:
        name: the type's name within its plugin.
        parameters: as JSON.
        encode: value to storage.
        decode: storage to value.
    """

    name: str
    parameters: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def codec_of(cls: Any) -> Codec | None:
    """The codec of a class that is marked as a data type; None for anything else."""
    if not inspect.isclass(cls):
        return None
    mark = next((mark for mark in marks_of(cls) if mark.kind is data_type), None)
    if mark is None:
        return None
    encode = getattr(cls, "encode", _same)
    return Codec(
        mark.name or cls.__name__, parameters_of(cls), encode, getattr(cls, "decode", _same)
    )


class TypeHandle:
    """What an epoch offers of a data type.

    Attributes:
        type: the Arrow extension type.
    """

    def __init__(self, export: Export, lease: Lease | Borrow) -> None:
        codec = codec_of(export.target)
        assert codec is not None
        self._encode: Final = carry(codec.encode, lease)
        self._decode: Final = carry(codec.decode, lease)
        self.type: Final = _extension(export.name, export.target.storage, codec.parameters)

    def array(self, values: Iterable[Any]) -> Any:
        """An Arrow extension array of values; None is null."""
        pa: Any = sys.modules["pyarrow"]
        stored = [None if value is None else self._encode(value) for value in values]
        return pa.ExtensionArray.from_storage(self.type, pa.array(stored, self.type.storage_type))

    def values(self, array: Any) -> list[Any]:
        """The values of an array of this type, or of its storage."""
        stored = getattr(array, "storage", array).to_pylist()
        return [None if one is None else self._decode(one) for one in stored]

    def __repr__(self) -> str:
        return f"<data type {self.type.extension_name}>"


class DataType(Kind[Any]):
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
        if not getattr(cls, "samples", None):
            raise TypeError("it has no `samples`, which show that other versions read its values")
        if hasattr(cls, "encode") != hasattr(cls, "decode"):
            raise TypeError("it has one of encode(value) and decode(stored); expected both or none")
        parameters_of(cls)
        codec = codec_of(cls)
        assert codec is not None
        for sample, stored in zip(cls.samples, _stored(cls), strict=True):
            if (back := codec.decode(stored)) != sample:
                raise ValueError(f"sample {sample!r} is stored as {stored!r} and read as {back!r}")

    def compare(self, old: Export, new: Export) -> None:
        """Refuse a version that would not understand what is stored.

        Raises:
            ValueError: the difference, spelled out.
        """
        before, after = old.target, new.target
        if before.storage != after.storage:
            raise ValueError(
                f"values were stored as {before.storage}, and would be {after.storage}"
            )
        compare_parameters(parameters_of(before), parameters_of(after))
        codec = codec_of(after)
        assert codec is not None
        for sample, stored in zip(before.samples, _stored(before), strict=True):
            again = _as_stored(after, codec.encode(codec.decode(stored)))
            if again != stored:
                raise ValueError(
                    f"sample {sample!r} of the old version is stored as {stored!r}, which the new "
                    f"one reads and stores as {again!r}"
                )
        # A value that is read and written back alike may still mean another: where both versions
        # have a sample that reads the same, it must be stored the same.
        now = {
            repr(sample): stored
            for sample, stored in zip(after.samples, _stored(after), strict=True)
        }
        for sample, stored in zip(before.samples, _stored(before), strict=True):
            if (again := now.get(repr(sample), stored)) != stored:
                raise ValueError(
                    f"sample {sample!r} was stored as {stored!r}, and would be {again!r}"
                )

    def open(self, export: Export) -> Export:
        """Nothing to open: what is offered is made of the class."""
        return export

    def offer(self, instance: Export, lease: Lease | Borrow) -> TypeHandle:
        """Its Arrow type, and how values become arrays."""
        return TypeHandle(instance, lease)


def compare_parameters(before: str, after: str) -> None:
    """Compare two sets of parameters, as JSON.

    Raises:
        ValueError: they differ; it names each that does.
    """
    old, new = json.loads(before), json.loads(after)
    told = [
        f"{name} was {old.get(name, 'not there')!r}, and would be {new.get(name, 'not there')!r}"
        for name in sorted({*old, *new})
        if (name in old, old.get(name)) != (name in new, new.get(name))
    ]
    if told:
        raise ValueError(f"its parameters differ: {'; '.join(told)}")


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


def _stored(cls: Any) -> list[Any]:
    codec = codec_of(cls)
    assert codec is not None
    return [_as_stored(cls, codec.encode(sample)) for sample in cls.samples]


def _as_stored(cls: Any, encoded: Any) -> Any:
    """What Arrow makes of an encoded value: numbers of its width, the order of its fields."""
    pa: Any = sys.modules["pyarrow"]
    try:
        return pa.array([encoded], cls.storage)[0].as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{encoded!r} is not of the storage {cls.storage}: {error}") from None


def _extension(name: str, storage: Any, parameters: str) -> Any:
    from epochal.kinds.extension import extension_type  # needs pyarrow; the plugin has it

    return extension_type(name, storage, parameters)


data_type: Final = DataType("data_type", "an Arrow extension type")
