"""Which objects are a generation's: its modules' functions, classes and their instances.

Asked of any object of the process, and refers to none but the modules' names. A class refers to the
very string that its module is named by; the names of another generation's modules are equal.
"""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.object_names import dict_of_type

if TYPE_CHECKING:
    from collections.abc import Iterable


class Ownership:
    """Tells which objects belong to a generation.

    Args:
        globals_ids: the `id` of each namespace of its modules.
        root_ids: those, and the `id` of each of its modules.
        names: the names of its modules, the very strings.
    """

    __slots__ = ("_name_ids", "_names", "_root_ids", "globals_ids")

    def __init__(
        self, globals_ids: frozenset[int], root_ids: frozenset[int], names: Iterable[Any]
    ) -> None:
        self.globals_ids: Final = globals_ids
        self._root_ids: Final = root_ids
        self._names: Final = tuple(names)  # kept: the `id` of a dropped one may be any other's
        self._name_ids: Final = frozenset(map(id, self._names))

    def includes(self, obj: Any) -> bool:
        """Whether an object is the generation's; a bound method is if its function is."""
        cls = type(obj)
        if cls is MethodType:
            return self.includes(obj.__func__)
        if cls is FunctionType:
            return id(obj.__globals__) in self.globals_ids
        return id(obj) in self._root_ids or self.has_class(obj if issubclass(cls, type) else cls)

    def has_class(self, cls: type) -> bool:
        """Whether a class is the generation's."""
        return id(dict_of_type(cls).get("__module__")) in self._name_ids
