"""Arrow extension types of plugins, as classes of the host's: they outlive every generation.

The problem: pyarrow keeps the *class* of an extension type and refers to its instances weakly.
Where an instance has gone, it makes a new one by `__arrow_ext_deserialize__`, of the storage type
and the serialised bytes, for as long as any array or table has the type. It is not told the name,
so there is one class for each name, in this process and for ever; it holds no plugin code.

This module needs pyarrow, so kinds import it only where a plugin has done so before.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa


class PluginType(pa.ExtensionType):  # type: ignore[misc]  # untyped
    """A plugin's data type; two of the same name, storage and parameters are one.

    Attributes:
        named: the extension's name, `plugin.type`; of the class.
    """

    named = ""

    def __init__(self, storage: pa.DataType, parameters: str) -> None:
        self._parameters: Final = parameters  # before the line below, which asks for them
        super().__init__(storage, self.named)

    def __arrow_ext_serialize__(self) -> bytes:
        return self._parameters.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> PluginType:
        return cls(storage, serialized.decode())

    def __reduce__(self) -> tuple[Any, ...]:
        return extension_type, (self.named, self.storage_type, self._parameters)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PluginType)
            and other.named == self.named
            and other.storage_type == self.storage_type
            and other.__arrow_ext_serialize__() == self.__arrow_ext_serialize__()
        )

    def __ne__(self, other: object) -> bool:
        return not self == other  # pyarrow's own knows nothing of parameters

    def __hash__(self) -> int:
        return hash((self.named, self._parameters))


_classes: Final[dict[str, type[PluginType]]] = {}
# Filled by any thread with `dict.setdefault`: of two that make the same class one wins. Never
# emptied: an array may have the type for as long as the process lives.


def extension_type(name: str, storage: Any, parameters: str) -> PluginType:
    """The extension type of a name, a storage type, and parameters as JSON."""
    found = _classes.get(name)
    if found is None:
        found = _classes.setdefault(name, type("PluginType", (PluginType,), {"named": name}))
    return found(storage, parameters)
