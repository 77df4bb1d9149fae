"""Taking a removed generation's memory apart, at a cost that grows with the plugin, not the heap.

The problem: a module, its functions and its classes form cycles, so they wait for a full
collection, which stops every thread for as long as the whole heap takes. And one reference of the
host to one of them keeps all of them alive, with no hint at the cause.

The idea: look at the small graph that the generation's modules reach
(`epochal._core.introspect.object_graph`). If nothing outside refers into it, no code can ever reach
it again: take it apart at once. If there is such a reference, leave everything whole, since its
holder may use it, and name the path that leads to it.

The order of taking apart
-------------------------

First the data that lead to an object with a finalizer, newest first, while everything that the
finalizer may use is still there. If such an object survives, in a cycle of its own, the collector
must find it with its code whole, so the rest is left to the collector, too. Then the other data,
then the code. A class is in a cycle with its own method resolution order, which no Python code can
break: its shell, emptied, waits for the next ordinary collection.

A full collection is the last resort before something is called a leak, never the method.
"""

from __future__ import annotations

import contextvars
import time
import typing
import weakref
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from epochal._core.introspect.cache_eviction import evict
from epochal._core.introspect.collector import collect, collect_soon, frozen_objects
from epochal._core.introspect.findings import FROZEN
from epochal._core.introspect.object_graph import Graph
from epochal._core.introspect.object_names import dict_of_type, type_name
from epochal._core.introspect.referrers import ReferrerSearch, wait_for_other_searches
from epochal._core.introspect.remedies import remedy_for
from epochal._core.introspect.running_code import find_stragglers
from epochal._core.sync.threads import give_way
from epochal.report import Leak

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

_NAMED_AT_MOST: Final = 5
"""How many leaks are named; a path costs a heap walk a level."""

_SEARCHES_S: Final = 5.0
"""Seconds to wait for the searches of other threads; one takes about a second."""

_PAUSE_S: Final = 0.005
"""One switch interval of the interpreter (5 ms): a waiting thread gets its turn."""

_NATIVE: Final = (
    "what native code holds cannot be seen or undone; it may be an audit hook, a signal handler, "
    "os.register_at_fork, a codec, or an extension type or function registered with a library"
)

_COLLECTING: Final = (
    "another thread is within a collection, where a finalizer may wait: what it has found to be "
    "garbage looks as if native code held it, and may be gone when the collection ends"
)

_SHELL_ATTRIBUTES: Final = frozenset({"_abc_impl", "__abstractmethods__", "__module__", "__doc__"})
"""Attributes that a class's shell keeps: `abc` and the interpreter look them up until it dies."""


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The outcome of taking a generation's memory apart.

    Attributes:
        leaks: the references that keep the generation alive.
        shells: weak references to the functions and classes left to the next collection.
        cleaned_up: a line for each of the host's caches and registries that dropped its entries.
    """

    leaks: tuple[Leak, ...] = ()
    shells: tuple[weakref.ref[Any], ...] = ()
    cleaned_up: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every function and class has died by now."""
        return not self.leaks and all(shell() is None for shell in self.shells)


def reclaim(
    modules: MutableMapping[str, ModuleType],
    *,
    root_name: str,
    error: BaseException | None = None,
) -> Reclaim:
    """Take a generation's modules apart, or name the references that keep them.

    Finalizers of the plugin's objects run in here. The modules must have left every process-wide
    table before.

    Args:
        modules: the modules by name; emptied.
        root_name: the private name that all of them begin with.
        error: the error that they were undone for, if any. It leads to them through its frames:
            that counts as no leak, and they are left to the collector.
    """
    owned = list(modules.values())
    modules.clear()
    cleaned_up: list[str] = []
    graph = Graph(owned, root_name, broad=False, error=error)
    for remedy in _REMEDIES:
        if graph.is_closed():
            break
        apply = remedy(graph)
        del graph  # it refers to everything that the remedy is to free
        cleaned_up += apply()
        graph = Graph(owned, root_name, broad=True, error=error)
    if not graph.is_closed():
        return Reclaim(_explain(graph, id(owned)), cleaned_up=tuple(cleaned_up))
    owned.clear()
    if graph.is_excused():
        return Reclaim(cleaned_up=tuple(cleaned_up))
    return Reclaim(shells=_take_apart(graph), cleaned_up=tuple(cleaned_up))


def empty_typing() -> None:
    """Empty the caches of `typing`, which keep what an annotation was made of (`Optional[X]`)."""
    for cleanup in typing._cleanups:  # type: ignore[attr-defined]  # noqa: SLF001  its only name
        cleanup()


Remedy: TypeAlias = "Callable[[Graph], Callable[[], list[str]]]"
"""Looks at the graph, and returns a function to call once the graph is dropped; this returns a line
for each entry that it took out of a table."""


def _empty_typing(graph: Graph) -> Callable[[], list[str]]:
    """Empty the caches in which `typing` keeps classes (`Optional[X]`): needs no heap walk."""

    def empty() -> list[str]:
        empty_typing()
        return []

    return empty


def _empty_caches(graph: Graph) -> Callable[[], list[str]]:
    """Empty the host's own caches and registries that hold parts of the graph."""
    targets = [(step.below or step).node for step in graph.entrances()]
    ours = graph.ownership

    def empty() -> list[str]:
        cleaned_up = evict(targets, ours)
        targets.clear()
        collect(1)
        # Let other threads run that hold a reference for a moment, as a copy of `sys.modules` does.
        time.sleep(_PAUSE_S)
        return cleaned_up

    return empty


def _collect(graph: Graph) -> Callable[[], list[str]]:
    """Collect fully, after what other threads do: a collection, or a search through the heap."""

    def collect_all() -> list[str]:
        wait_for_other_searches(_SEARCHES_S)
        collect_soon()
        return []

    return collect_all


_REMEDIES: Final[tuple[Remedy, ...]] = (_empty_typing, _empty_caches, _collect)
"""Tried in this order before a reference is called a leak: the cheap ones first, and the full
collection last. The graph is looked at again, broadly, after each of them."""


# --- taking apart --------------------------------------------------------------------------------


def _take_apart(graph: Graph) -> tuple[weakref.ref[Any], ...]:
    """Take a closed graph apart.

    Returns:
        Weak references to the functions and classes that are left to the next collection.
    """
    dead = list(graph.dead())
    namespaces = [obj for obj, _ in dead if id(obj) in graph.globals_ids]
    classes = [obj for obj, ours in dead if ours and issubclass(type(obj), type)]
    cells = [obj for obj, _ in dead if type(obj) is CellType]
    code = [
        weakref.ref(obj)
        for obj, ours in dead
        if ours and (type(obj) is FunctionType or issubclass(type(obj), type))
    ]
    classes = [cls for cls in classes if not _has_foreign_base(cls, classes)]
    dead.clear()
    give_way()
    finalizable, leading = graph.finalizable()
    graph.objects.clear()
    places = [_Place(namespace, partial(_pop, namespace)) for namespace in namespaces]
    places += [_Place(dict_of_type(cls), partial(_drop_attribute, cls)) for cls in classes]
    # Data that lead to a finalizer first, while the data that it may use are still there.
    for place in places:
        place.drop_data(lambda value: id(value) in leading)
        give_way()
    if all(ref() is None for ref in finalizable):
        for place in places:
            place.drop_data(lambda _: True)
            give_way()
        for cell in cells:
            _empty_cell(cell)
        for place in places:
            place.drop_rest()
            give_way()
        for namespace in namespaces:
            namespace.clear()
    return tuple(ref for ref in code if ref() is not None)


class _Place(NamedTuple):
    """A module's namespace or a class, where names are bound."""

    names: Mapping[str, Any]
    drop: Callable[[str], object]

    def drop_data(self, chosen: Callable[[object], bool]) -> None:
        """Drop the values that are neither code nor the interpreter's own, newest first."""
        for name in reversed(list(self.names)):
            if type(name) is str and not name.startswith("__") and self._is_data(name, chosen):
                self.drop(name)

    def _is_data(self, name: str, chosen: Callable[[object], bool]) -> bool:
        # In a function of its own: no variable of the caller's may refer to what it drops.
        value = self.names.get(name)
        return not issubclass(type(value), _CODE) and chosen(value)

    def drop_rest(self) -> None:
        """Drop every name that is left, except for the interpreter's own."""
        for name in list(self.names):
            if type(name) is str and name not in _SHELL_ATTRIBUTES:
                self.drop(name)


_CODE: Final = (FunctionType, type, ModuleType, classmethod, staticmethod, property)


def _pop(namespace: dict[str, Any], name: str) -> None:
    namespace.pop(name, None)


def _drop_attribute(cls: type, name: str) -> None:
    with suppress(AttributeError, TypeError):  # the interpreter's own, or already dropped
        type.__delattr__(cls, name)


def _empty_cell(cell: CellType) -> None:
    with suppress(ValueError):  # it is empty
        del cell.cell_contents


def _has_foreign_base(cls: type, classes: list[type]) -> bool:
    """Whether a class has a base that is not the plugin's, other than `object`.

    `Base.__subclasses__()` finds its shell until the collection, and must find it whole.
    """
    bases: tuple[type, ...] = type.__dict__["__bases__"].__get__(cls)
    return any(base is not object and all(base is not own for own in classes) for base in bases)


# --- naming leaks --------------------------------------------------------------------------------


def _explain(graph: Graph, ignored: int) -> tuple[Leak, ...]:
    """Name the references that keep the graph alive, except for one list, the caller's own."""
    leaks = [
        Leak(straggler.kind, str(straggler.name), straggler.place)
        for straggler in find_stragglers(graph.globals_ids)
    ]
    ours = graph.ours()
    leaks += [
        Leak(*_kind_and_name(value, graph), path=f"context variable {variable.name!r}")
        for variable, value in contextvars.copy_context().items()  # of this thread, the caller's
        if id(value) in ours or id(type(value)) in ours
    ]
    entrances = graph.entrances()
    named = entrances[:_NAMED_AT_MOST]
    search = ReferrerSearch({*ours, id(graph.objects), ignored})
    for start, path in zip(named, search.paths(named), strict=True):
        leaked = start.node if start.below is None else start.below.node
        leaks.append(Leak(*_kind_and_name(leaked, graph), path=path, remedy=remedy_for(path)))
    if any("native code" in leak.path for leak in leaks):
        leaks.append(Leak("remark", _NATIVE if collect(0) else _COLLECTING))
    if frozen := frozen_objects():
        leaks.append(Leak("remark", FROZEN.format(frozen)))
    if len(entrances) > len(named):
        leaks.append(Leak("more", str(len(entrances) - len(named))))
    public = graph.root_name.rpartition("__g")[0]
    return tuple(dict.fromkeys(leak.renamed(graph.root_name, public) for leak in leaks))


def _kind_and_name(obj: Any, graph: Graph) -> tuple[str, str]:
    if issubclass(type(obj), ModuleType):
        return "module", obj.__name__
    if id(obj) in graph.globals_ids:
        return "namespace", str(obj.get("__name__"))
    if type(obj) is FunctionType:
        return "function", f"{obj.__module__}.{obj.__qualname__}"
    if issubclass(type(obj), type):
        return "class", type_name(obj)
    return "instance", type_name(type(obj))
