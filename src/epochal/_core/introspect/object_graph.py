"""The graph of objects that a generation's modules reach, with its references counted.

The problem: find out whether anything outside still refers to a plugin's objects, without looking
at the whole heap. The idea is the collector's own, on a small graph: for each object, compare the
references from inside the graph with all its references, which CPython counts. An object that has
more is reached from outside.

The graph consists of the modules, functions whose globals are theirs, classes whose `__module__`
is, and instances of those classes. These, *ours*, are always opened (their references are
followed). Any other object (a list, a partial, a closure's cell) is opened once every reference to
it is accounted for, when it has turned out to be the plugin's alone: so the walk never strays into
the host's heap. Cycles of such objects stay shut that way (`functools.singledispatch` makes one): a
*broad* graph opens them too, within bounds.

The graph refers to every object that it reached, and must be dropped before any of them can die.
"""

from __future__ import annotations

import gc
import weakref
from sys import getrefcount
from threading import get_ident
from types import FunctionType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.object_names import (
    SUSPENDED,
    dict_of_type,
    is_a,
    member_named,
    names_of_module,
)
from epochal._core.introspect.ownership import Ownership
from epochal._core.introspect.referrers import SEARCHES, PathStep
from epochal._core.introspect.tracebacks import origins_of
from epochal._core.sync.threads import give_way
from epochal.errors import traceback_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_OPENED_AT_MOST: Final = 5_000
_ENTRIES_AT_MOST: Final = 1_000
"""How many doubtful objects a broad graph opens, and how large a container may be to be opened."""


class Graph:
    """The graph that a generation's modules reach, with the references inside it counted.

    Args:
        modules: the roots.
        root_name: the private name of the root module.
        broad: open doubtful objects too, within bounds.
        error: an error whose references do not count as from outside: its caller has it, drops it,
            and must find whole what it leads to.
        seeds: weak references to objects to begin with, besides the modules.
        excused: other objects whose references do not count as from outside.
        variables: the values of local variables of calls that count as inside, one for each
            variable. No other list may have them.
    """

    def __init__(
        self,
        modules: list[ModuleType],
        root_name: str,
        *,
        broad: bool,
        error: BaseException | None = None,
        seeds: Iterable[weakref.ref[Any]] = (),
        excused: Iterable[Any] = (),
        variables: Sequence[Any] = (),
    ) -> None:
        self.thread: Final = get_ident()
        SEARCHES.add(self)
        self.root_name: Final = root_name
        self.globals_ids: Final = frozenset(id(vars(module)) for module in modules)
        roots = self.globals_ids | {id(module) for module in modules}
        names = [vars(module).get("__name__") for module in modules]
        self.ownership: Final = Ownership(self.globals_ids, roots, names)
        self._roots: Final = roots
        # Parallel lists, by position; `objects` alone refers to the objects. One more list would be
        # one more reference to each, and the counts would be wrong.
        self.objects: Final[list[Any]] = []
        self._inside: Final[list[int]] = []
        self._ours: Final[list[bool]] = []
        self._open: Final[list[bool]] = []
        self._positions: Final[dict[int, int]] = {}
        self._classes: Final[dict[int, bool]] = {}
        self._queue: Final[list[int]] = []
        self._doubtful: Final[set[int]] = set()
        self._reached: frozenset[int] | None = None
        self._excused: Final[set[int]] = set()
        for module in modules:
            self._position(module)
            self._inside[-1] += 1  # for the caller's list
        for part in (error, *excused):
            self._excuse(part)
        part = None  # would be counted, as a reference from outside
        for seed in seeds:
            self._position(seed())
        self._variables: Final = variables  # kept: its references are counted, too
        for index in range(len(variables)):
            self._add_variable(index)
        self._grow()
        if broad:
            self._grow_broadly()

    # --- growing -----------------------------------------------------------------------------

    def _grow(self) -> None:
        """Open all that is ours, and every object that turns out to be ours alone."""
        while self._queue:
            while self._queue:
                self._follow(self._queue.pop())
                give_way()
            for position in list(self._doubtful):
                if not self._from_outside(position):
                    self._doubtful.discard(position)
                    self._queue.append(position)

    def _add_variable(self, index: int) -> None:
        position = self._position(self._variables[index])
        if position is not None:
            self._inside[position] += 2  # the variable's reference, and the list's

    def _excuse(self, error: BaseException | None) -> None:
        """Open an error, the errors that it leads to, their tracebacks, and the frames of these."""
        todo: list[Any] = [error]
        while todo:
            part: Any = todo.pop()
            position = self._position(part)
            if position is None or position in self._excused:
                continue
            self._excused.add(position)
            if not self._ours[position]:  # what is ours is in the queue already, once
                self._doubtful.discard(position)
                self._queue.append(position)
            if is_a(part, BaseException):
                todo += [*origins_of(part), traceback_of(part)]
            elif is_a(part, TracebackType):
                todo += [part.tb_next, part.tb_frame]

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

    def _follow(self, position: int) -> None:
        self._open[position] = True
        for referent in self._referents(self.objects[position]):
            inner = self._position(referent)
            if inner is not None:
                self._inside[inner] += 1

    def _referents(self, obj: Any) -> list[Any]:
        referents = gc.get_referents(obj)
        if not gc.is_tracked(obj):
            referents.append(type(obj))  # an instance without a slot: the collector skips its class
        return referents

    def _position(self, obj: Any) -> int | None:
        """The position of an object; None for one that cannot refer to anything."""
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
            known = self._classes[id(cls)] = self.ownership.has_class(cls)
        return known

    # --- judging -----------------------------------------------------------------------------

    def _from_outside(self, position: int) -> int:
        """How many references to an object come from outside the graph."""
        if position in self._excused:
            return 0
        return getrefcount(self.objects[position]) - _OWN_REFERENCES - self._inside[position]

    def __contains__(self, key: int) -> bool:
        return key in self._positions

    def references(self, key: int) -> tuple[int, int]:
        """How many references to the object with this `id` come from inside, and from outside."""
        position = self._positions[key]
        return self._inside[position], self._from_outside(position)

    def is_closed(self) -> bool:
        """Whether nothing outside refers to anything of ours, however indirectly."""
        return not any(self._ours[position] for position in self._alive())

    def is_excused(self) -> bool:
        """Whether the error leads to anything of ours."""
        todo, seen = list(self._excused), set(self._excused)
        while todo:
            for position in self._opened_referents(self.objects[todo.pop()]):
                if self._ours[position]:
                    return True
                if position not in seen:
                    seen.add(position)
                    todo.append(position)
        return False

    def _alive(self) -> frozenset[int]:
        """The positions of the objects that can be reached from outside, as of the first call.

        Taking the graph apart makes further references, which must not count.
        """
        if self._reached is None:
            self._reached = self._reached_from_outside()
        return self._reached

    def _reached_from_outside(self) -> frozenset[int]:
        todo = [p for p in range(len(self.objects)) if self._open[p] and self._from_outside(p)]
        alive = set(todo)
        while todo:
            for position in self._opened_referents(self.objects[todo.pop()]):
                if position not in alive and position not in self._excused:
                    alive.add(position)
                    todo.append(position)
        return frozenset(alive)

    def entrances(self) -> list[PathStep]:
        """The objects that something outside refers to: ours, or those that lead to ours."""
        entrances: list[PathStep] = []
        todo = [p for p in range(len(self.objects)) if self._open[p] and self._from_outside(p)]
        seen = {*todo, *self._excused}
        while todo:
            position = todo.pop(0)
            obj = self.objects[position]
            if self._ours[position]:
                entrances.append(PathStep(obj))
                continue
            for inner in self._opened_referents(obj):
                if self._ours[inner]:
                    entrances.append(PathStep(obj, PathStep(self.objects[inner])))
                elif inner not in seen:
                    seen.add(inner)
                    todo.append(inner)
        return entrances

    def ours(self) -> frozenset[int]:
        """The `id` of each object that is ours."""
        return frozenset(id(obj) for obj, is_ours in self.opened() if is_ours)

    def _opened_referents(self, obj: object) -> Iterator[int]:
        for referent in gc.get_referents(obj):
            position = self._positions.get(id(referent))
            if position is not None and self._open[position]:
                yield position

    def finalizable(self) -> tuple[list[Callable[[], object]], set[int]]:
        """The objects whose death runs plugin code, and the `id` of each that leads to one."""
        finalizable: list[Callable[[], object]] = []
        leading: set[int] = set()
        for obj, ours in self.dead():
            if issubclass(type(obj), SUSPENDED) or (ours and _has_finalizer(type(obj))):
                finalizable.append(_weak_reference(obj))
                leading.add(id(obj))
        # Everything that refers to one of those, transitively; but code does not count as data.
        grown = bool(leading)
        while grown:
            grown = False
            for obj, _ in self.dead():
                if id(obj) not in leading and not self._is_code(obj):
                    referents = map(id, gc.get_referents(obj))
                    if any(i in leading for i in referents):
                        leading.add(id(obj))
                        grown = True
        return finalizable, leading

    def _is_code(self, obj: object) -> bool:
        return id(obj) in self._roots or type(obj) is FunctionType or issubclass(type(obj), type)

    def dead(self) -> Iterator[tuple[Any, bool]]:
        """Each opened object that nothing outside reaches, and whether it is ours."""
        alive = self._alive()
        for position, (obj, ours) in enumerate(zip(self.objects, self._ours, strict=True)):
            if self._open[position] and position not in alive:
                yield obj, ours

    def opened(self) -> Iterator[tuple[Any, bool]]:
        """Each opened object, and whether it is ours."""
        for obj, ours, was_opened in zip(self.objects, self._ours, self._open, strict=True):
            if was_opened:
                yield obj, ours


def _may_open(obj: Any) -> bool:
    """Whether a doubtful object may be opened: not if it is the host's own, or huge."""
    if issubclass(type(obj), type):
        return not _is_found_by_name(obj)
    if type(obj) is dict and "__name__" in obj and "__builtins__" in obj:
        return not _is_imported(obj)
    if issubclass(type(obj), ModuleType):
        return type(obj) is ModuleType and not _is_imported(vars(obj))
    return type(obj) not in _CONTAINERS or len(obj) <= _ENTRIES_AT_MOST


def _is_imported(namespace: dict[str, Any]) -> bool:
    """Whether this is an imported module's namespace itself, and not a copy of it."""
    return names_of_module(namespace.get("__name__")) is namespace


def _is_found_by_name(cls: type) -> bool:
    """Whether an imported module has this class, under the class's own name."""
    qualname: str = type.__dict__["__qualname__"].__get__(cls)
    return member_named(dict_of_type(cls).get("__module__"), qualname) is cls


_CONTAINERS: Final = frozenset({dict, list, tuple, set, frozenset})


def _calibrated() -> int:
    objects = [object()]
    return getrefcount(objects[0])


_OWN_REFERENCES: Final = _calibrated()
"""`getrefcount(objects[position])` of an object to which only the list refers: measured, since it
differs between interpreters."""


def _weak_reference(obj: Any) -> Callable[[], object]:
    """A weak reference; for an object that cannot have one, a reference that never dies."""
    try:
        return weakref.ref(obj)
    except TypeError:
        return lambda: "perhaps alive"


def _has_finalizer(cls: type) -> bool:
    return any("__del__" in dict_of_type(base) for base in type.__dict__["__mro__"].__get__(cls))
