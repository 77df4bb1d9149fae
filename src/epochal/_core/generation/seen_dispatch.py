"""What a new version sees in a `functools.singledispatch` function of the host.

A version that registers only if there is nothing (`if dict not in render.registry`), or that calls
the implementation before its own (`render.dispatch(dict)`), would find its predecessor's. While it
links and initialises, its thread sees the function's `registry` and `dispatch` without the
implementations of versions that retire or drain. What it registers is in the registry at once, for
every thread. Calls of the function go by the registry as it is.

Belongs to the thread of the change; other threads that read the two attributes meanwhile find the
function's own behind them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.watched_table import ABSENT, store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from epochal._core.generation.host_names import DispatchNames

_find_impl: Final[Any] = functools._find_impl  # type: ignore[attr-defined]  # noqa: SLF001  its only name


class DispatchCell:
    """A function whose registry has implementations of versions that retire or drain.

    Args:
        names: its registry.
    """

    __slots__ = ("_attributes", "_hidden", "_names", "_thread")

    def __init__(self, names: DispatchNames) -> None:
        self._names: Final = names
        self._hidden: Final[list[tuple[Any, object, object]]] = []
        self._attributes: dict[str, Any] = {}
        self._thread = 0

    def hide(self, key: Any, value: object, found: object) -> None:
        """Show, for a class, what the versions had found in place of an implementation."""
        self._hidden.append((key, value, found))

    def show(self, thread: int) -> None:
        """Have a thread see the registry without what is hidden, until `end`."""
        attributes = vars(self._names.owner)
        own = {name: attributes[name] for name in ("registry", "dispatch") if name in attributes}
        if len(own) == 2:
            self._thread, self._attributes = thread, own
            attributes["registry"] = _Registry(self)
            attributes["dispatch"] = self.dispatch

    def end(self) -> None:
        """Have the thread see the function as it is again. Idempotent."""
        own, self._attributes = self._attributes, {}
        vars(self._names.owner).update(own)

    def registry(self) -> Mapping[Any, Any]:
        """The implementations by class, as this thread sees them."""
        table = self._names.table()
        if threading.get_ident() != self._thread:
            return table
        seen = dict(table)
        for key, value, found in self._hidden:
            if seen.get(key, ABSENT) is value:
                store(seen, key, found)
        return seen

    def dispatch(self, cls: Any) -> Any:
        """The implementation for a class, as this thread sees it."""
        own = self._attributes.get("dispatch")
        if own is not None and threading.get_ident() != self._thread:
            return own(cls)
        return _find_impl(cls, self.registry())


class _Registry(Mapping[Any, Any]):
    """In the place of a function's registry: for one thread, another one."""

    def __init__(self, cell: DispatchCell) -> None:
        self._cell: Final = cell

    def __getitem__(self, key: Any) -> Any:
        return self._cell.registry()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cell.registry())

    def __len__(self) -> int:
        return len(self._cell.registry())
