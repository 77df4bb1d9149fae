"""Who refers to an object, in words: `host.HANDLERS[0].callback`.

The question behind every drain that does not end and every memory leak. The collector can list who
refers to an object, one heap walk for any number of objects; doing that level by level, backwards,
until something with a name is reached (a module, a class, a thread, a task, a local variable) gives
a path that a person can follow.

What it cannot see: a reference from native code, and a value on the stack of a running call. A path
that ends without a name says so.

The objects on the way belong to anybody and may be hostile: nothing here calls their methods, their
`__repr__` or `__eq__` included, and nothing is held afterwards. A search walks the whole heap
several times: it is for a person who waits, never for a hot path.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
import threading
from collections import deque
from sys import getrefcount
from types import (
    AsyncGeneratorType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.frames import undisturbed
from epochal._core.introspect.running_code import frames_of_threads, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_DEPTH: Final = 10
_WIDTH: Final = 60
"""How far, and how broadly at each level, a search goes before it gives up."""

SUSPENDED: Final = (GeneratorType, CoroutineType, AsyncGeneratorType)

_thread_name: Final = vars(threading.Thread)["name"].fget

dict_of_type: Final = type.__dict__["__dict__"].__get__
"""A class's `__dict__` without asking its metaclass."""


class Step:
    """An object on a path, and the next one towards the target."""

    __slots__ = ("below", "node")

    def __init__(self, node: Any, below: Step | None = None) -> None:
        self.node: Final = node
        self.below: Final = below


class Search:
    """One look through the heap. Make it, ask it, drop it.

    Args:
        ignored: the `id` of each object that does not count as a referrer.
    """

    __slots__ = ("_ignored", "_kept", "_variables")

    def __init__(self, ignored: Iterable[int] = ()) -> None:
        # Lists that this search has made refer to what it looks at, and must not count. They are
        # kept, since the `id` of a dropped list may be somebody's next.
        self._kept: Final[list[list[Any]]] = []
        self._ignored: Final = {id(self._kept), *ignored}
        self._variables: Final = _variables_of_threads()

    def own(self, items: list[Any]) -> list[Any]:
        """Do not count this list as a referrer."""
        self._kept.append(items)
        self._ignored.add(id(items))
        return items

    def referrers(self, targets: list[Any]) -> list[Any]:
        """Who refers to any of these objects, without this search itself."""
        found = self.own(gc.get_referrers(*self.own(targets)))
        kept = self.own([])
        for index in range(len(found)):
            # The call's own arguments were a tuple, and only the list refers to it now.
            is_argument = type(found[index]) is tuple and getrefcount(found[index]) <= 2
            is_own = id(found[index]) in self._ignored or type(found[index]) is Step
            if not (is_argument or is_own):
                kept.append(found[index])
        return kept

    def variable(self, value: object) -> str | None:
        """The local variable of a running call that holds a value."""
        return self._variables.get(id(value))

    def paths(self, starts: Sequence[Step]) -> list[str]:
        """For each object, the shortest path that leads to it; one heap walk a level for all.

        Args:
            starts: where to begin; a step with another below it asks for a path through its object.

        Returns:
            A path each; what no name leads to is said to be held by native code.
        """
        trails = [_Trail(start) for start in starts]
        for _ in range(_DEPTH):
            open_trails = [trail for trail in trails if trail.climb(self)]
            if not open_trails:
                break
            level = self.own([step.node for trail in open_trails for step in trail.frontier])
            referrers = self.referrers(level)
            for trail in open_trails:
                trail.extend(referrers)
        return [trail.words for trail in trails]


class _Trail:
    """The search for one object's path, a level at a time."""

    __slots__ = ("_seen", "_top", "_words", "frontier")

    def __init__(self, start: Step) -> None:
        self.frontier: list[Step] = [start]
        self._seen: Final = {id(start.node)}
        if start.below is not None:
            self._seen.add(id(start.below.node))
        self._top = start
        self._words: str | None = None

    def climb(self, search: Search) -> bool:
        """Look for a name on this level. Returns whether to go on."""
        if self._words is None:
            for step in self.frontier:
                root = search.variable(step.node)
                if root is None and step.below is not None:
                    root = _root_name(step.node)
                if root is not None:
                    self._words = root + _way_down(step)
                    break
            if self.frontier:
                self._top = self.frontier[0]
        return self._words is None and bool(self.frontier)

    def extend(self, referrers: list[Any]) -> None:
        """Go up to whoever refers to this level."""
        below = {id(step.node): step for step in self.frontier}
        self.frontier = []
        for referrer in referrers:
            if id(referrer) in self._seen:
                continue
            step = next((below[i] for i in map(id, gc.get_referents(referrer)) if i in below), None)
            if step is not None:
                self._seen.add(id(referrer))
                self.frontier.append(Step(referrer, step))
                if len(self.frontier) == _WIDTH:
                    return

    @property
    def words(self) -> str:
        """The path, or how far it could be followed."""
        if self._words is not None:
            return self._words
        if self._top.below is None:
            return "native code"
        return f"{_what(self._top.node)}{_way_down(self._top)}, which native code holds"


# --- names ---------------------------------------------------------------------------------------


def is_a(obj: object, cls: type | tuple[type, ...]) -> bool:
    """`isinstance` without asking the object, whose `__class__` may be hostile."""
    return issubclass(type(obj), cls)


def type_name(cls: type) -> str:
    """`module.qualname` of a class, builtins without their module; asks no metaclass."""
    name = type.__dict__["__qualname__"].__get__(cls)
    module = dict_of_type(cls).get("__module__")
    if not isinstance(module, str) or module == "builtins":
        return str(name)
    return f"{module}.{name}"


def _what(node: object) -> str:
    if is_a(node, SUSPENDED):
        return suspended(node)
    if type(node) is FunctionType:
        return f"function {node.__module__}.{node.__qualname__}"
    name = type_name(type(node))
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def suspended(node: Any) -> str:
    """`generator 'rows' suspended at geo.py:12 in rows`."""
    prefix, word = next(
        (prefix, word)
        for cls, prefix, word in (
            (GeneratorType, "gi", "generator"),
            (CoroutineType, "cr", "coroutine"),
            (AsyncGeneratorType, "ag", "asynchronous generator"),
        )
        if is_a(node, cls)
    )
    frame = getattr(node, f"{prefix}_frame")
    where = "" if frame is None else f" suspended {place_of(frame)}"
    return f"{word} {node.__qualname__!r}{where}"


def _root_name(node: Any) -> str | None:
    """What a person calls an object that needs no owner to be found; None for any other."""
    if type(node) is dict:
        return _module_of(node)
    if is_a(node, ModuleType):
        return str(vars(node).get("__name__", "a module"))
    if is_a(node, asyncio.Task):
        return f"task {asyncio.Task.get_name(node)!r}"
    if is_a(node, threading.Thread):
        return f"thread {_thread_name(node)!r}"
    if issubclass(type(node), type):
        return type_name(node)
    return None


def _module_of(namespace: dict[Any, Any]) -> str | None:
    """The name of the module whose dictionary this is; None if it is no module's."""
    name = dict.get(namespace, "__name__")
    if isinstance(name, str) and "__builtins__" in namespace:
        return name
    module = sys.modules.get(name) if isinstance(name, str) else None
    return name if is_a(module, ModuleType) and vars(module) is namespace else None


# --- the way from a name to the object -----------------------------------------------------------


def _way_down(step: Step) -> str:
    words: list[str] = []
    while step.below is not None:
        edge = _edge(step.node, step.below.node)
        if words and words[-1] == _NAMESPACE and edge.startswith("['"):
            words[-1], edge = "", f".{edge[2:-2]}"
        words.append(edge)
        step = step.below
    return "".join(words)


_NAMESPACE: Final = ".__dict__"


def _edge(parent: Any, child: Any) -> str:
    """How `parent` refers to `child`: `.name`, `[3]`, or nothing where there is nothing to say."""
    if is_a(parent, dict):
        return _dict_edge(parent, child)
    for sequence in (list, tuple, deque):
        if is_a(parent, sequence):
            items = list(sequence.__iter__(parent))
            return next((f"[{i}]" for i, item in enumerate(items) if item is child), "")
    if is_a(parent, (set, frozenset)):
        return " (an element)"
    if is_a(parent, FrameType):
        return f" {place_of(parent)}"
    if is_a(parent, SUSPENDED):
        return f": {suspended(parent)}"
    if is_a(parent, (TracebackType, CellType)):
        return ""
    if is_a(child, dict) and issubclass(type(parent), type):
        return _NAMESPACE
    if type(parent) is FunctionType and is_a(child, tuple):
        return " (closure or defaults)"
    name = _attribute(parent, child)
    return f".{name}" if name is not None else ""


def _dict_edge(parent: dict[Any, Any], child: object) -> str:
    for key, value in list(dict.items(parent)):
        if value is child:
            if isinstance(key, str) and _module_of(parent) is not None:
                return f".{key}"
            return f"[{key!r}]" if type(key) in (str, int) else f"[{_what(key)}]"
        if key is child:
            return " (a key)"
    return ""


_KNOWN: Final[tuple[tuple[type, tuple[str, ...]], ...]] = (
    (MethodType, ("__self__", "__func__")),
    (functools.partial, ("func", "args", "keywords")),
    (BaseException, ("__traceback__", "__cause__", "__context__", "args")),
    (TracebackType, ("tb_frame", "tb_next")),
)


def _attribute(parent: Any, child: object) -> str | None:
    for cls, names in _KNOWN:
        if is_a(parent, cls):
            for name in names:
                if object.__getattribute__(parent, name) is child:
                    return name
    for name, value in _attributes(parent):
        if value is child:
            return name
    return None


def _attributes(parent: Any) -> Iterator[tuple[str, object]]:
    """An object's attributes, without calling anything of its own."""
    try:
        attributes = object.__getattribute__(parent, "__dict__")
    except AttributeError:
        attributes = None
    if type(attributes) is dict:
        yield "__dict__", attributes
        yield from list(attributes.items())
    for cls in type.__dict__["__mro__"].__get__(type(parent)):
        for name, slot in list(dict_of_type(cls).items()):
            if is_a(slot, MemberDescriptorType):
                try:
                    yield name, slot.__get__(parent)
                except AttributeError:
                    continue


# --- local variables of running calls ------------------------------------------------------------


def _variables_of_threads() -> dict[int, str]:
    """The `id` of each local variable's value, over all threads, to the variable's name."""
    found: dict[int, str] = {}
    for _, thread, frame in frames_of_threads():
        for name, value in _locals_of(frame).items():
            where = f"{place_of(frame)} (thread {thread!r})"
            found.setdefault(id(value), f"local variable {name!r} {where}")
    return found


def _locals_of(frame: FrameType) -> Mapping[str, Any]:
    """A copy of a running call's variables.

    Before Python 3.13 reading `f_locals` leaves a snapshot of all variables in the frame, which
    would keep them alive until the call ends: it is emptied again, unless somebody else has it.
    """
    # A module's variables are found as the module's. A frame that is being traced is let alone: the
    # tracer writes this snapshot back into the variables.
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED or frame.f_trace is not None:
        return {}
    with undisturbed():
        snapshot = frame.f_locals
    copied = dict(snapshot)
    # Referred to by the frame, by this variable, by the argument: so by nobody else.
    if sys.version_info < (3, 13) and sys.getrefcount(snapshot) <= 3:
        snapshot.clear()
    return copied
