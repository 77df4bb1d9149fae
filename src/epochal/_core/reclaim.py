"""Taking a removed generation's memory apart, at the cost of what the plugin weighs.

The problem: a module, its functions and its classes form cycles, so they wait for a full
collection, which stops every thread for as long as the whole heap takes; and when something of the
host still refers to one of them, all of them stay, and nobody learns why.

The idea: walk the small graph that the generation's modules reach, and compare, for each object,
the references that come from inside the graph with the references that there are in all (CPython
counts them). If nothing outside refers in, nobody can ever reach any of it again: take it apart at
once. If something does, leave everything as it is, since whoever holds it may use it, and name the
path that leads to it.

What belongs to the graph
-------------------------

The modules; functions whose globals are theirs; classes whose `__module__` is; instances of those.
These are walked through in any case, and a reference to one of them from outside is a leak.
Anything else (a list, a partial, a closure's cell) is walked through once every reference to it is
accounted for, that is, when it turned out to be the plugin's alone: so the walk never strays into
the host's heap. Cycles of such objects stay shut that way (`functools.singledispatch` makes one).
If they are in doubt, a second, bounded walk opens them too and decides as the collector would.

The order of taking apart
-------------------------

First what the globals hold besides code, newest first, while all functions are still there for
finalizers to use; then the rest. Where an instance with a finalizer lives on in a cycle of its own,
the collector must find it with its code whole, so the rest is left to the collector too. A class is
in a cycle with its own method resolution order, which no Python code can break: its shell, emptied,
waits for the next ordinary collection.

A full collection is the last resort before something is called a leak, never the method.
"""

from __future__ import annotations

import gc
import typing
import weakref
from dataclasses import dataclass
from sys import getrefcount
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.referrers import SUSPENDED, Search, Step, dict_of_type, type_name
from epochal._core.stragglers import find_stragglers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

_OPENED_AT_MOST: Final = 5_000
_ENTRIES_AT_MOST: Final = 1_000
"""How many doubtful objects a broad walk opens, and how large a container may be to be opened."""

_NAMED_AT_MOST: Final = 5
"""How many leaks are named; a heap walk for each level of each path is not for nothing."""

_KEPT_ON_SHELLS: Final = frozenset({"_abc_impl", "__abstractmethods__", "__module__", "__doc__"})


@dataclass(frozen=True, slots=True)
class Reclaim:
    """How a generation's memory came back.

    Attributes:
        leaks: what keeps it alive, a line each; empty when nothing does.
        shells: what had to be left to the next ordinary collection, held weakly.
    """

    leaks: tuple[str, ...] = ()
    shells: tuple[weakref.ref[Any], ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every function and class has died by now."""
        return not self.leaks and all(shell() is None for shell in self.shells)


def reclaim(
    modules: MutableMapping[str, ModuleType], *, root_name: str, thorough: bool = True
) -> Reclaim:
    """Take a generation's modules apart, or say what keeps them.

    Finalizers of the plugin's objects run in here. The modules must have left every process-wide
    table before.

    Args:
        modules: the modules by name; emptied.
        root_name: the private name that all of them begin with.
        thorough: where something seems to keep them, make sure and find out what. If not, they are
            left to the collector.
    """
    owned = list(modules.values())
    modules.clear()
    for remedy, broad in _REMEDIES if thorough else _REMEDIES[:2]:
        remedy()
        walk = _Walk(owned, root_name, broad=broad)
        if not walk.leaks():
            owned.clear()
            return Reclaim(shells=_take_apart(walk))
    owned.clear()
    return Reclaim(leaks=_explain(walk) if thorough else ())


def _nothing() -> None:
    pass


def _forget_types() -> None:
    """Empty the caches in which `typing` keeps classes (`Optional[X]`), and collect the young."""
    for cleanup in typing._cleanups:  # type: ignore[attr-defined]  # noqa: SLF001  its only name
        cleanup()
    gc.collect(1)


_REMEDIES: Final[tuple[tuple[Callable[[], object], bool], ...]] = (
    (_nothing, False),
    (_nothing, True),
    (_forget_types, True),
    (gc.collect, True),
)
"""What is tried before something is called a leak, and whether doubtful objects are opened then."""


class _Walk:
    """The graph that a generation's modules reach, with the references inside it counted.

    Args:
        modules: where it begins.
        root_name: the private name that the plugin's modules and classes have.
        broad: open doubtful objects too, within bounds.
    """

    def __init__(self, modules: list[ModuleType], root_name: str, *, broad: bool) -> None:
        self.root_name: Final = root_name
        self.globals_ids: Final = frozenset(id(vars(module)) for module in modules)
        self._roots: Final = self.globals_ids | {id(module) for module in modules}
        # Parallel lists, by position; `objects` is the only one that refers to what was found.
        self.objects: Final[list[Any]] = []
        self._inside: Final[list[int]] = []
        self._ours: Final[list[bool]] = []
        self._open: Final[list[bool]] = []
        self._positions: Final[dict[int, int]] = {}
        self._classes: Final[dict[int, bool]] = {}
        self._queue: Final[list[int]] = []
        self._doubtful: Final[set[int]] = set()
        for module in modules:
            self._position(module)
            self._inside[-1] += 1  # the caller's list
        self._grow()
        if broad:
            self._grow_broadly()

    # --- growing -----------------------------------------------------------------------------

    def _grow(self) -> None:
        """Open all that is ours, and whatever turns out to be ours alone, while there is any."""
        while self._queue:
            while self._queue:
                self._open_one(self._queue.pop())
            for position in list(self._doubtful):
                if not self._from_outside(position):
                    self._doubtful.discard(position)
                    self._queue.append(position)

    def _grow_broadly(self) -> None:
        budget = _OPENED_AT_MOST
        while budget > 0:
            chosen = [p for p in sorted(self._doubtful) if _may_open(self.objects[p])][:budget]
            if not chosen:
                return
            budget -= len(chosen)
            self._doubtful.difference_update(chosen)
            self._queue.extend(chosen)
            self._grow()

    def _open_one(self, position: int) -> None:
        self._open[position] = True
        for referent in self._referents(self.objects[position]):
            found = self._position(referent)
            if found is not None:
                self._inside[found] += 1

    def _referents(self, obj: Any) -> list[Any]:
        referents = gc.get_referents(obj)
        if not gc.is_tracked(obj):
            referents.append(type(obj))  # an instance without any slot: nobody visits its class
        return referents

    def _position(self, obj: Any) -> int | None:
        """Where an object stands; None for one that cannot refer to anything."""
        position = self._positions.get(id(obj))
        if position is None:
            ours = self._is_ours(obj)
            if not ours and not gc.is_tracked(obj):
                return None
            position = self._positions[id(obj)] = len(self.objects)
            self.objects.append(obj)
            self._inside.append(0)
            self._open.append(False)
            self._ours.append(ours)
            if ours:
                self._queue.append(position)
            else:
                self._doubtful.add(position)
        return position

    def _is_ours(self, obj: Any) -> bool:
        if id(obj) in self._roots:
            return True
        cls = type(obj)
        if cls is FunctionType:
            return id(obj.__globals__) in self.globals_ids
        return self._is_our_class(obj if issubclass(cls, type) else cls)

    def _is_our_class(self, cls: type) -> bool:
        known = self._classes.get(id(cls))
        if known is None:
            module = dict_of_type(cls).get("__module__")
            known = isinstance(module, str) and (
                module == self.root_name or module.startswith(f"{self.root_name}.")
            )
            self._classes[id(cls)] = known
        return known

    # --- judging -----------------------------------------------------------------------------

    def _from_outside(self, position: int) -> int:
        """How many references to an object come from outside the graph."""
        return getrefcount(self.objects[position]) - _OWN_REFERENCES - self._inside[position]

    def leaks(self) -> list[int]:
        """The positions of objects of ours that something outside refers to, however indirectly."""
        count = len(self.objects)
        reached = [p for p in range(count) if self._open[p] and self._from_outside(p)]
        alive = set(reached)
        while reached:
            for referent in gc.get_referents(self.objects[reached.pop()]):
                position = self._positions.get(id(referent))
                if position is not None and self._open[position] and position not in alive:
                    alive.add(position)
                    reached.append(position)
        return sorted(p for p in alive if self._ours[p])

    def held(self) -> list[Any]:
        """The objects through which something outside refers in, our own first."""
        found = [p for p in self.leaks() if self._from_outside(p)]
        if not found:
            found = [
                p
                for p in range(len(self.objects))
                if self._open[p] and self._from_outside(p) and self._refers_to_ours(p)
            ]
        return [self.objects[p] for p in found]

    def _refers_to_ours(self, position: int) -> bool:
        referents = map(id, gc.get_referents(self.objects[position]))
        return any(self._ours[self._positions[i]] for i in referents if i in self._positions)

    def opened(self) -> Iterator[tuple[Any, bool]]:
        """Each object that was walked through, and whether it is ours."""
        for obj, ours, was_opened in zip(self.objects, self._ours, self._open, strict=True):
            if was_opened:
                yield obj, ours


def _may_open(obj: object) -> bool:
    """Whether a doubtful object may be looked into: not if it is the host's own, or huge."""
    if isinstance(obj, (ModuleType, type)):
        return False
    if isinstance(obj, dict) and "__name__" in obj and "__builtins__" in obj:
        return False
    if isinstance(obj, (dict, list, tuple, set, frozenset)):
        return len(obj) <= _ENTRIES_AT_MOST
    return True


def _calibrated() -> int:
    objects = [object()]
    return getrefcount(objects[0])


_OWN_REFERENCES: Final = _calibrated()
"""What `getrefcount(objects[position])` says of an object that only the list refers to."""


# --- taking apart --------------------------------------------------------------------------------


def _take_apart(walk: _Walk) -> tuple[weakref.ref[Any], ...]:
    """Take apart what nobody refers to.

    Returns:
        Weak references to the functions and classes that are left to the next collection.
    """
    namespaces = [obj for obj, _ in walk.opened() if id(obj) in walk.globals_ids]
    classes = [obj for obj, ours in walk.opened() if ours and issubclass(type(obj), type)]
    cells = [obj for obj, _ in walk.opened() if type(obj) is CellType]
    code = [
        weakref.ref(obj)
        for obj, ours in walk.opened()
        if ours and (type(obj) is FunctionType or issubclass(type(obj), type))
    ]
    finalizable, is_watched = _finalizable(walk)
    walk.objects.clear()
    for namespace in namespaces:
        _drop_data(namespace, namespace.pop)
    for cls in classes:
        if not _is_found_by_others(cls, classes):
            _drop_data(dict_of_type(cls), _attribute_dropper(cls))
    if is_watched and all(ref() is None for ref in finalizable):
        for cell in cells:
            _empty_cell(cell)
        for cls in classes:
            if not _is_found_by_others(cls, classes):
                _empty_class(cls)
        for namespace in namespaces:
            namespace.clear()
    del namespaces, classes, cells
    return tuple(ref for ref in code if ref() is not None)


def _finalizable(walk: _Walk) -> tuple[list[weakref.ref[Any]], bool]:
    """The objects whose death runs plugin code, and whether each of them can be watched."""
    found: list[weakref.ref[Any]] = []
    for obj, ours in walk.opened():
        if isinstance(obj, SUSPENDED) or (ours and _has_finalizer(type(obj))):
            try:
                found.append(weakref.ref(obj))
            except TypeError:
                return found, False
    return found, True


def _has_finalizer(cls: type) -> bool:
    return any("__del__" in dict_of_type(base) for base in type.__dict__["__mro__"].__get__(cls))


def _drop_data(namespace: Any, drop: Callable[..., object]) -> None:
    """Drop what is neither code nor the interpreter's own, newest first."""
    for name, value in reversed(list(namespace.items())):
        if not (isinstance(value, _CODE) or (isinstance(name, str) and name.startswith("__"))):
            del value  # the namespace's must be the last reference
            drop(name, None)


_CODE: Final = (FunctionType, type, ModuleType, classmethod, staticmethod, property, CellType)


def _attribute_dropper(cls: type) -> Callable[..., object]:
    def drop(name: str, _: None) -> None:
        if name not in _KEPT_ON_SHELLS:
            _drop_attribute(cls, name)

    return drop


def _drop_attribute(cls: type, name: str) -> None:
    try:
        type.__delattr__(cls, name)
    except (AttributeError, TypeError):  # the interpreter's own, or gone meanwhile
        return


def _empty_class(cls: type) -> None:
    for name in list(dict_of_type(cls)):
        if name not in _KEPT_ON_SHELLS:
            _drop_attribute(cls, name)


def _empty_cell(cell: CellType) -> None:
    try:
        del cell.cell_contents
    except ValueError:  # it was empty
        return


def _is_found_by_others(cls: type, classes: list[type]) -> bool:
    """Whether a class has a base that is not the plugin's, other than `object`.

    `Base.__subclasses__()` finds its shell until the collection: let it be whole for them.
    """
    bases: tuple[type, ...] = type.__dict__["__bases__"].__get__(cls)
    return any(base is not object and all(base is not own for own in classes) for base in bases)


# --- naming leaks --------------------------------------------------------------------------------


def _explain(walk: _Walk) -> tuple[str, ...]:
    """Name what keeps the graph alive."""
    lines = [str(running) for running in find_stragglers(walk.globals_ids)]
    held = walk.held()
    ours = {id(obj) for obj, is_ours in walk.opened() if is_ours}
    search = Search({*ours, id(walk.objects), id(held), *walk.globals_ids})
    named = held[:_NAMED_AT_MOST]
    paths = search.paths([Step(obj) for obj in search.own(named)])
    lines += [
        f"{_what(obj, walk)} is referred to by {path}"
        for obj, path in zip(named, paths, strict=True)
    ]
    if len(held) > len(named):
        lines.append(f"and {len(held) - len(named)} more")
    return tuple(dict.fromkeys(lines))


def _what(obj: Any, walk: _Walk) -> str:
    if isinstance(obj, ModuleType):
        words = f"module {obj.__name__}"
    elif id(obj) in walk.globals_ids:
        words = f"the namespace of module {obj.get('__name__')}"
    elif type(obj) is FunctionType:
        words = f"function {obj.__module__}.{obj.__qualname__}"
    elif issubclass(type(obj), type):
        words = f"class {type_name(obj)}"
    else:
        words = f"an instance of {type_name(type(obj))}"
    return words.replace(walk.root_name, walk.root_name.partition(".")[0])
