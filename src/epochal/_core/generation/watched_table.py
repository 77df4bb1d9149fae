"""Tables of the process that plugin code may alter: how to look at one, and undo an entry.

A table is looked at before and after plugin code runs (`now`). The difference of two looks
(`changed`), and the entries that belong to a plugin by their code (`owned`), are `Entry` objects
that know how to take themselves out. Whether two things are the same is always asked by identity:
their `__eq__`, `__hash__` and `__repr__` may be foreign code.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import compress, islice, repeat
from operator import is_, is_not
from types import BuiltinFunctionType, FunctionType, MappingProxyType, ModuleType
from typing import Any, Final, Protocol, TypeAlias

from epochal._core.introspect.object_names import is_a, type_name
from epochal._core.sync.forks import free_in_child
from epochal._core.sync.weak_registry import WeakRegistry

Owns: TypeAlias = Callable[[object], bool]
"""Whether an object was defined by the generation's code."""

ABSENT: Final = object()
"""Stands for the value under a name that a table does not have."""


@dataclass(slots=True)
class Entry:
    """One thing that a generation put into a table of the process.

    Attributes:
        description: the entry in words.
        undo: takes it out; returns False if it is not there any more as the plugin left it.
        put: the value under a name that it is; None for an entry without a name.
        item: the item of a list that it is; None for any other entry.
    """

    description: str
    undo: Callable[[], bool]
    put: Put | None = None
    item: Item | None = None


class WatchedTable(Protocol):
    """A table that is looked at before and after plugin code runs."""

    def now(self) -> Any:
        """A copy of the entries."""
        ...

    def changed(self, before: Any, after: Any) -> Iterator[Entry]:
        """The entries that were set between two looks."""
        ...

    def carry_over(self, was: Any, now: Any, into: Any, owns: Owns) -> None:
        """Make in a third look the changes between two others, except for the plugin's own."""
        ...

    def owned(self, now: Any, owns: Owns) -> Iterator[Entry]:
        """The entries of a look that belong to the plugin by their code."""
        ...


class Names(ABC):
    """Somewhere that values are put under names.

    Attributes:
        owner: the object that has the names.
        module: the module whose attributes they are, if they are one's.
    """

    owner: Any
    module: ModuleType | None = None

    @abstractmethod
    def table(self) -> Mapping[Any, Any]:
        """The values by name."""

    def found(self, names: Collection[str]) -> Collection[Any]:
        """Those of some names that are there."""
        return self.table().keys() & names

    @abstractmethod
    def put(self, key: Any, value: object) -> None:
        """Set a value; `ABSENT` removes it."""

    @abstractmethod
    def describe(self, key: Any) -> str:
        """An entry in words."""

    def entry(self, key: Any, old: object, value: object) -> Entry:
        """The way to undo one entry."""
        put = Put(self, key, old, value)
        return Entry(self.describe(key), lambda: take_out(put), put)


class Put:
    """A value that a generation put under a name, and the value that it replaced.

    `old` is altered under ``_lock``: where two generations replaced a value one after the other,
    and the first goes first, the second gets the value that the first had replaced.
    """

    __slots__ = ("__weakref__", "key", "names", "old", "value")

    def __init__(self, names: Names, key: Any, old: object, value: object) -> None:
        self.names: Final = names
        self.key: Final = key
        self.old = old
        self.value: Final = value
        _puts.add(self)


_puts: Final[WeakRegistry[Put]] = WeakRegistry()
_lock: Final = free_in_child(threading.Lock())


def store(table: Any, key: Any, value: object) -> None:
    """Store a value in a dictionary; `ABSENT` removes the key."""
    if value is ABSENT:
        table.pop(key, None)
    else:
        table[key] = value


def take_out(put: Put) -> bool:
    """Put back what a value replaced; returns False if the value is not there any more."""
    # No lock for other keys than text: looking one up may run a foreign `__hash__`.
    with _lock if type(put.key) is str else nullcontext():
        if put.names.table().get(put.key, ABSENT) is put.value:
            put.names.put(put.key, put.old)
            return True
        for later in _puts.live():
            if (
                later.old is put.value
                and later.names.owner is put.names.owner
                and is_same_key(later.key, put.key)
            ):
                later.old = put.old
        return False


def is_same_key(key: Any, other: Any) -> bool:
    """Whether two keys are one; runs no foreign `__eq__`."""
    return key is other or (type(key) is str and type(other) is str and key == other)


class NamedTable(Names):
    """A table with names: builtins, hooks of `sys`, `sys.modules`.

    Args:
        label: an entry in words, with `{}` for its name.
        table: returns the table.
        names: the names that count; None for all.
        original: the interpreter's own values, for names whose replacement was not seen.
        undone: called after an entry was undone, or found to be replaced.
        module: the module whose attributes the entries are.
    """

    def __init__(
        self,
        label: str,
        table: Callable[[], dict[Any, Any]],
        names: frozenset[str] | None = None,
        original: Mapping[str, Any] = MappingProxyType({}),
        undone: Callable[[], object] = lambda: None,
        module: ModuleType | None = None,
    ) -> None:
        self._label: Final = label
        self._table: Final = table
        self.names: Final = names
        self._original: Final = original
        self._undone: Final = undone
        self.module = module

    @property
    def owner(self) -> Any:
        """The table's dictionary."""
        return self._table()

    def table(self) -> dict[Any, Any]:
        """The values by name."""
        return self._table()

    def put(self, key: Any, value: object) -> None:
        """Set a value; `ABSENT` removes it."""
        store(self._table(), key, value)

    def now(self) -> dict[Any, Any]:
        """A copy of the entries."""
        table = self._table()
        if self.names is None:
            return dict(table)
        return {name: table[name] for name in self.names if name in table}

    def changed(self, before: dict[Any, Any], after: dict[Any, Any]) -> Iterator[Entry]:
        """The entries that were set, replaced or removed between two looks."""
        if _is_same(before, after):
            return
        # Without a step of Python for each entry that is as it was: `sys.modules` has thousands.
        if _begins_as(before, after):  # it grew, as at most imports
            for key, value in list(islice(after.items(), len(before), None)):
                if not self.is_ordinary(key, value):
                    yield self.entry(key, ABSENT, value)
            return
        olds = list(map(before.get, after, repeat(ABSENT)))
        differ = map(is_not, olds, after.values())
        for old, (key, value) in list(compress(zip(olds, after.items(), strict=True), differ)):
            if not (old is ABSENT and self.is_ordinary(key, value)):
                yield self.entry(key, old, value)
        for key in before.keys() - after.keys():
            yield self.entry(key, before[key], ABSENT)

    def carry_over(
        self, was: dict[Any, Any], now: dict[Any, Any], into: dict[Any, Any], owns: Owns
    ) -> None:
        """Make in a third look the changes between two others, except for the plugin's own."""
        for key, value in now.items():
            if was.get(key, ABSENT) is value or into.get(key, ABSENT) is value:
                continue
            if not _is_owned(key, value, owns):
                into[key] = value
        for key in was.keys() - now.keys():
            into.pop(key, None)

    def owned(self, now: dict[Any, Any], owns: Owns) -> Iterator[Entry]:
        """The entries with a value, or an object as key, that is the plugin's."""
        for key, value in now.items():
            if _is_owned(key, value, owns):
                # The replaced value was not seen, but `sys.stderr` must not be left without one.
                yield self.entry(key, self._original.get(key, ABSENT), value)

    def is_ordinary(self, key: Any, value: object) -> bool:
        """Whether a new entry is legitimate and stays."""
        return False

    def entry(self, key: Any, old: object, value: object) -> Entry:
        """The way to undo one entry."""
        put = Put(self, key, old, value)

        def undo() -> bool:
            was_there = take_out(put)
            self._undone()
            return was_there

        return Entry(self.describe(key), undo, put)

    def without_puts(self) -> dict[Any, Any]:
        """A copy of the table as it would be had no generation put anything there."""
        table = dict(self._table())
        # Newest first: of values that replaced one another, the last one stands in the table.
        for put in reversed(_puts.live()):
            if put.names is self and table.get(put.key, ABSENT) is put.value:
                store(table, put.key, put.old)
        return table

    def describe(self, key: Any) -> str:
        """An entry in words."""
        name = key if type(key) is str else type_name(key) if is_a(key, type) else "?"
        return self._label.format(name)


def _is_owned(key: Any, value: Any, owns: Owns) -> bool:
    return owns(value) or (not isinstance(key, str) and owns(key))


def _is_same(before: dict[Any, Any], after: dict[Any, Any]) -> bool:
    """Whether two looks are the very same, by identity."""
    return len(before) == len(after) and _begins_as(before, after)


def _begins_as(before: dict[Any, Any], after: dict[Any, Any]) -> bool:
    """Whether a look begins with the very entries of another, by identity."""
    return (
        len(before) <= len(after)
        and all(map(is_, before, after))
        and all(map(is_, before.values(), after.values()))
    )


class Item:
    """An item that a generation put into a list.

    Belongs to the threads of changes, one after another.

    Attributes:
        table: the list's table.
        value: the item.
        is_in: whether it is this generation's to take out. Two versions may put in the very same
            object (the host's); then the newer one has it from the publication on.
    """

    __slots__ = ("is_in", "table", "value")

    def __init__(self, table: ListTable, value: object, *, is_in: bool) -> None:
        self.table: Final = table
        self.value: Final = value
        self.is_in = is_in

    def take_out(self) -> bool:
        """Take it out; returns False if it is not there any more."""
        is_in, self.is_in = self.is_in, False
        return is_in and self.table.remove(self.value)


class ListTable:
    """A table in order: callbacks, filters, handlers, paths.

    Args:
        label: an entry in words, without the item.
        table: returns the list.
        altered: called after an entry was taken out.
        owner: the object whose attribute the list is; None where that is not known.
        key: the name of the attribute.
    """

    def __init__(
        self,
        label: str,
        table: Callable[[], list[Any]],
        altered: Callable[[], object] = lambda: None,
        *,
        owner: Any = None,
        key: str = "",
    ) -> None:
        self._label: Final = label
        self._table: Final = table
        self.altered: Final = altered
        self.owner: Final = owner
        self.key: Final = key

    @classmethod
    def of(
        cls, label: str, owner: Any, key: str, altered: Callable[[], object] = lambda: None
    ) -> ListTable:
        """The table that is an attribute of a module or an instance, as this thread sees it."""
        return cls(label, lambda: getattr(owner, key), altered, owner=owner, key=key)

    def now(self) -> list[Any]:
        """A copy of the entries."""
        return list(self._table())

    def remove(self, item: object) -> bool:
        """Take an item out, by identity; returns False if it is not there."""
        table = self._table()
        for index, other in enumerate(table):
            if other is item:
                del table[index]
                self.altered()
                return True
        return False

    def changed(self, before: list[Any], after: list[Any]) -> Iterator[Entry]:
        """The entries that were added between two looks."""
        known = set(map(id, before))
        return (self.entry(item) for item in after if id(item) not in known)

    def carry_over(self, was: list[Any], now: list[Any], into: list[Any], owns: Owns) -> None:
        """Make in a third look the additions between two others, except for the plugin's own."""
        known = {*map(id, was), *map(id, into)}
        added = [item for item in now if id(item) not in known]
        owned = set(map(id, self._owned_items(added, owns)))
        into.extend(item for item in added if id(item) not in owned)

    def owned(self, now: list[Any], owns: Owns) -> Iterator[Entry]:
        """The entries that are the plugin's, or (a warnings filter) have a part that is."""
        return map(self.entry, self._owned_items(now, owns))

    def _owned_items(self, items: list[Any], owns: Owns) -> Iterator[Any]:
        for item in items:
            if owns(item) or (type(item) is tuple and any(map(owns, item))):
                yield item

    def entry(self, item: Any, *, is_in: bool = True) -> Entry:
        """The way to undo one entry."""
        put = Item(self, item, is_in=is_in)
        return Entry(self.describe(item), put.take_out, item=put)

    def describe(self, item: Any) -> str:
        """An entry in words, without its own `__repr__`, which may be foreign code."""
        return f"{self._label} {_name_of(item)}"


def _name_of(item: Any) -> str:
    if isinstance(item, str):
        return repr(item)
    if is_a(item, type):
        return type_name(item)
    if type(item) in (FunctionType, BuiltinFunctionType):
        return f"{item.__module__}.{item.__qualname__}"
    if type(item) is tuple and len(item) == 5:  # a warnings filter
        return f"{item[0]} {getattr(item[2], '__name__', '?')}"
    with suppress(Exception):
        function = object.__getattribute__(item, "__func__")
        return f"{function.__module__}.{function.__qualname__}"
    return f"<{type_name(type(item))}>"
