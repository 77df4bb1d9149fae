"""Arrow extension types of plugins, as classes of the host: they outlive every generation.

The problem: pyarrow keeps the *class* of an extension type, and refers to its instances weakly. For
as long as any array or table has the type, pyarrow makes a new instance when it needs one, by
`__arrow_ext_deserialize__`, which gets the storage type and the serialised bytes but not the name.
So there is one class for each name, in this process and for ever; it holds no plugin code.

This module imports pyarrow, so kinds import it only where a plugin has imported pyarrow before.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa


class PluginType(pa.ExtensionType):  # type: ignore[misc]  # untyped
    """A plugin's data type; two of the same name, storage and parameters are equal.

    Attributes:
        full_name: the extension's name, `plugin.type`; an attribute of the class.
    """

    full_name = ""

    def __init__(self, storage: pa.DataType, parameters: str) -> None:
        # Must precede `super().__init__`, which calls `__arrow_ext_serialize__`.
        self._parameters: Final = parameters
        super().__init__(storage, self.full_name)

    def __arrow_ext_serialize__(self) -> bytes:
        return self._parameters.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> PluginType:
        return cls(storage, serialized.decode())

    def __reduce__(self) -> tuple[Any, ...]:
        return extension_type, (self.full_name, self.storage_type, self._parameters)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PluginType)
            and other.full_name == self.full_name
            and other.storage_type == self.storage_type
            and other.__arrow_ext_serialize__() == self.__arrow_ext_serialize__()
        )

    def __ne__(self, other: object) -> bool:
        return not self == other  # pyarrow's own `!=` ignores the parameters

    def __hash__(self) -> int:
        return hash((self.full_name, self._parameters))


_classes: Final[dict[str, type[PluginType]]] = {}
# Any thread adds by `dict.setdefault`: of two threads that make the same class, one wins. Nothing
# is removed: an array may have the type for as long as the process lives.


def extension_type(name: str, storage: Any, parameters: str) -> PluginType:
    """Return the extension type of a full name, a storage type, and parameters as JSON."""
    cls = _classes.get(name)
    if cls is None:
        cls = _classes.setdefault(name, type("PluginType", (PluginType,), {"full_name": name}))
    return cls(storage, parameters)
