"""The host's tables that a plugin's code can see, and the entries that a new version makes in them.

A plugin that registers with a plain `host.tools["geo"] = f` and unregisters in `shutdown` loses the
entry of its new version when the old one is shut down. Nothing prevents that, so it is reported:
the tables are looked at before link and after `init`, and around the old one's `shutdown`.

Only plain dictionaries, lists and sets are looked at, since others run foreign code; and only those
that the plugin imported by name, or that stand in a module that it imported, or in a class or an
object there. The standard library's have a room of their own (`process_tables`). The look is
bounded: three steps from the plugin's module, 1,000 objects, tables of up to 1,000 entries. So what
is reported as lost is lost, and what is not reported may be.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.object_names import dict_of_type, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    Table = dict[Any, Any] | list[Any] | set[Any]

_MAX_ENTRIES: Final = 1_000
_MAX_OBJECTS: Final = 1_000
_MAX_DEPTH: Final = 3
_PLAIN: Final = (dict, list, set)
_OWN: Final = "epochal"


class HostEntry:
    """An entry that `init` made in one of the host's tables."""

    __slots__ = ("_name", "_table", "_what", "is_in")

    def __init__(self, name: str, table: Table, what: tuple[object, ...]) -> None:
        self._name: Final = name
        self._table: Final = table
        self._what: Final = what
        self.is_in = False

    def look(self) -> bool:
        """Whether it is there; compares by identity, so it runs no foreign code."""
        return any(_is_it(what, self._what) for what in _entries_of(self._table))

    def __str__(self) -> str:
        key = self._what[0]
        entry = f"{key!r}" if type(key) is str else "an entry"
        return f"{entry} in {self._name}"


class EntryWatch:
    """The tables that some modules see, and the entries that were made in them since."""

    __slots__ = ("_before", "_seen")

    def __init__(self) -> None:
        self._seen: Final[set[int]] = set()
        self._before: Final[list[tuple[str, Table, list[tuple[object, ...]]]]] = []

    def look(self, modules: Iterable[ModuleType]) -> None:
        """Look at the tables that these modules see, those aside that were looked at before."""
        for name, table in _tables_of(list(modules), self._seen):
            self._before.append((name, table, list(_entries_of(table))))

    def made(self, texts: Container[str], is_old: Callable[[object], bool]) -> list[HostEntry]:
        """The entries that were made since, or made again with the very same objects.

        Nothing tells that `names.add("geo")` was called again. So an entry whose key the plugin's
        code names counts as made, unless it is an object of the old version's.

        Args:
            texts: the texts in the code of the new version.
            is_old: whether an object was defined by the old version's code.
        """
        return [
            HostEntry(name, table, entry)
            for name, table, entries in self._before
            if len(table) <= _MAX_ENTRIES
            for known in [{tuple(map(id, entry)) for entry in entries}]
            for entry in _entries_of(table)
            if tuple(map(id, entry)) not in known
            or (type(entry[0]) is str and entry[0] in texts and not is_old(entry[-1]))
        ]


def texts_in(module: ModuleType) -> set[str]:
    """The texts among a module's variables, and in the code of its functions but `shutdown`."""
    texts = {value for value in vars(module).values() if type(value) is str}
    codes = [
        value.__code__
        for name, value in list(vars(module).items())
        if type(value) is FunctionType and name != "shutdown"
    ]
    while codes:
        for constant in codes.pop().co_consts:
            if type(constant) is str:
                texts.add(constant)
            elif isinstance(constant, CodeType):
                codes.append(constant)
    return texts


def _is_it(entry: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(entry) == len(other) and all(a is b for a, b in zip(entry, other, strict=True))


def _entries_of(table: Table) -> Iterator[tuple[object, ...]]:
    if type(table) is dict:
        return iter(list(table.items()))  # a copy in one step: other threads alter it
    return ((item,) for item in list(table))


def _tables_of(modules: list[ModuleType], seen: set[int]) -> Iterator[tuple[str, Table]]:
    """The tables that the plugin's modules see, each once, with its name; the nearest first."""
    # Tables of the plugin's own are among them, which its predecessor cannot reach.
    seen.update(map(id, modules))
    queue: deque[tuple[str, Mapping[str, Any], int]] = deque()
    queue.extend(("", vars(module), 0) for module in modules)
    looked = 0
    while queue:
        place, names, depth = queue.popleft()
        for name, value in list(names.items()):
            if type(name) is not str or name[:2] == "__" or id(value) in seen:
                continue
            looked += 1
            if looked > _MAX_OBJECTS:
                return
            seen.add(id(value))
            label = f"{place}.{name}" if place else name
            if type(value) in _PLAIN and len(value) <= _MAX_ENTRIES:
                yield label, value
            elif depth < _MAX_DEPTH and (inner := _names_in(value)):
                queue.append((label, inner, depth + 1))


def _names_in(value: object) -> Mapping[str, Any]:
    """The names in a host's module, class or instance; runs no foreign code."""
    if isinstance(value, ModuleType):
        return vars(value) if _is_host(value.__name__) else {}
    if isinstance(value, type):
        return dict_of_type(value) if _is_host(type_name(value)) else {}
    if _is_host(type_name(type(value))):
        with suppress(AttributeError):
            attributes = object.__getattribute__(value, "__dict__")
            return attributes if type(attributes) is dict else {}
    return {}


def _is_host(name: str) -> bool:
    """Whether a dotted name is neither a builtin's nor the standard library's nor ours."""
    top, dot, _ = name.partition(".")
    return top != _OWN and top not in sys.stdlib_module_names and (bool(dot) or top in sys.modules)
