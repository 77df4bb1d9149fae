"""The host's `functools` caches, which keep a plugin's objects among their arguments and results.

A cache keeps whatever it was called with, and programs wrap a plugin's function before they ask a
cached question about it: in a key object (FastAPI does, around each dependency), a tuple, a
partial. So each cache of the process is looked at from above: down its keys and its results, a few
steps deep. One heap walk finds all caches, since each refers to its type.

An entry that leads to the plugin is dropped, which costs the next caller a call. From an unbounded
cache (`functools.cache`) it is taken out alone. A bounded one has no way to take one out, and may
drop any entry at any time, so it is emptied.

Dropping an entry must lose nothing that the program needs:

* A plugin's own cache stays as it is: it goes with the plugin, or the code that holds it goes on
  using it.
* A *key* is there to be compared, so an entry goes if its key leads to the plugin.
* A *result* may be no answer at all but the one instance of an application or a registry, in which
  the plugin registered itself (`@cache def get_app()`), and to drop that would lose it. So a result
  counts where values that do not change lead from it to the plugin. An object that can change, or
  a container of nothing but the plugin's objects, counts as well if the cache alone holds it and
  the call had arguments.

No way leads through a list, a dictionary or a set inside an object: that is where things register.

The objects belong to any code. None of their methods is called but `__hash__` and `__eq__` of a key
that is taken out, by its dictionary.
"""

from __future__ import annotations

import functools
import gc
import typing
from collections import deque
from sys import getrefcount
from time import thread_time
from types import (
    CellType,
    FunctionType,
    GenericAlias,
    MappingProxyType,
    MethodType,
    ModuleType,
    UnionType,
)
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epochal._core.introspect import heap
from epochal._core.introspect.object_names import dict_of_type, is_a

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from epochal._core.introspect.ownership import Ownership

_LruCache: Final[Any] = type(functools.lru_cache(len))
_TypingAlias: Final[Any] = type(typing.List[int])  # noqa: UP006  the class of typing's own aliases
_LINK: Final = "_lru_list_elem"
"""The type's name of a bounded cache's entries; it is not exported."""

_STEPS_AT_MOST: Final = 300
_DEPTH: Final = 8
"""How many objects below an entry are looked at, and how deep."""
_LOOK_S: Final = 1.0
"""Seconds of processor time; a cache that was not looked at by then shows up as a leak."""

_FIXED: Final[tuple[Any, ...]] = (
    tuple,
    frozenset,
    functools.partial,
    MethodType,
    CellType,
    MappingProxyType,
    GenericAlias,
    UnionType,
    _TypingAlias,
    _LruCache,
)
"""Values around others, which do not change."""
_CONTAINERS: Final[tuple[type, ...]] = (list, dict, set, deque)


def drop_entries(ours: Ownership) -> list[str]:
    """Drop the entries of the host's `functools` caches that lead to a plugin's objects.

    Args:
        ours: tells which objects are the plugin's.

    Returns:
        A line for each cache.
    """
    caches = heap.instances([_LruCache])
    deadline = thread_time() + _LOOK_S
    lines: list[str] = []
    for cache in caches:
        if thread_time() >= deadline:
            break
        entries = _entries_of(cache)
        if entries is not None and not ours.includes(entries.function):
            line = _drop(cache, entries, ours)
            if line is not None:
                lines.append(f"functools.lru_cache of {name_of(cache)}{line}")
    return lines


def name_of(function: Any) -> str:
    """`module.qualname`, as far as it has them: a partial has neither."""
    qualname = getattr(function, "__qualname__", None) or type(function).__name__
    module = getattr(function, "__module__", None)
    return f"{module}.{qualname}" if module else str(qualname)


class _Entries(NamedTuple):
    """The contents of a cache, as of now; key and result by position."""

    keys: list[Any]
    results: list[Any]
    function: Any
    table: dict[Any, Any] | None  # of an unbounded cache


def _entries_of(cache: Any) -> _Entries | None:
    """What is in a cache; None if it is empty, or cannot be read."""
    # As `functools` shows them to the collector: its type; of a bounded cache, for each entry, the
    # key, the result and the entry's type; the table; the function.
    referents = gc.get_referents(cache)
    for position, table in enumerate(referents):
        if type(table) is not dict or not table:
            continue
        links = [type(value).__name__ == _LINK for value in list(table.values())]
        function = referents[position + 1] if position + 1 < len(referents) else None
        if position == 1 and not any(links):
            keys, results = list(table), list(table.values())
            return _Entries(keys, results, function, table) if len(keys) == len(results) else None
        if all(links) and position == 1 + 3 * len(links):
            keys, results = referents[1:position:3], referents[2:position:3]
            return _Entries(keys, results, function, None)
    return None


def _drop(cache: Any, entries: _Entries, ours: Ownership) -> str | None:
    keys, results, _, table = entries
    dropped: list[Any] = []
    for position in range(len(keys)):
        key = keys[position]
        # The cache and this list hold it; a call without arguments makes one instance for all.
        is_sole = key != () and getrefcount(results[position]) <= _SOLE
        if leads_to(key, ours, _contents) or _is_answer(results[position], ours, is_sole=is_sole):
            dropped.append(key)
            if table is None:
                break
    if not dropped:
        return None
    if table is None:
        _LruCache.cache_clear(cache)
        return ", which was emptied"
    try:
        for key in dropped:
            table.pop(key, None)
    except Exception:  # noqa: BLE001  a key's own `__hash__` or `__eq__`
        _LruCache.cache_clear(cache)
        return ", which was emptied"
    return f", {len(dropped)} {'entry' if len(dropped) == 1 else 'entries'}"


# --- the way down --------------------------------------------------------------------------------


def leads_to(start: Any, ours: Ownership, follow: Callable[[Any], Iterable[Any]]) -> bool:
    """Whether an object is the plugin's, or leads to one that is.

    Args:
        start: the object.
        ours: tells which objects are the plugin's.
        follow: the objects to which another one leads.
    """
    level, seen = [start], {id(start)}
    for _ in range(_DEPTH):
        below: list[Any] = []
        for obj in level:
            if ours.includes(obj):
                return True
            for inner in follow(obj):
                if id(inner) not in seen and len(seen) < _STEPS_AT_MOST:
                    seen.add(id(inner))
                    below.append(inner)
        if not below:
            return False
        level = below
    return False


def _is_answer(result: Any, ours: Ownership, *, is_sole: bool) -> bool:
    """Whether a result is the plugin's, and no instance or registry that the program needs."""
    if leads_to(result, ours, fixed_contents):
        return True
    if not is_sole or not is_a(result, _CONTAINERS):
        return is_sole and leads_to(result, ours, _contents)
    leading = [item for item in gc.get_referents(result) if gc.is_tracked(item)]
    return bool(leading) and all(leads_to(item, ours, _contents) for item in leading)


def wraps(obj: Any) -> bool:
    """Whether an object is a value around others: those do not change."""
    return is_a(obj, (*_FIXED, FunctionType)) or _is_frozen(type(obj))


def fixed_contents(obj: Any) -> Iterable[Any]:
    """The contents of a value that does not change."""
    return _contents(obj) if wraps(obj) else ()


def _contents(obj: Any) -> Iterable[Any]:
    """What an object refers to: items of a tuple, attributes, but nothing in lists and the like.

    Classes, modules and the globals of functions are no contents.
    """
    if is_a(obj, FunctionType):
        return _contents_of_function(obj)
    if is_a(obj, (type, ModuleType, *_CONTAINERS)):
        return ()
    attributes = attributes_of(obj).values()
    if type(obj) is _LruCache:  # the function, not what it has cached
        return attributes
    contents = gc.get_referents(obj)
    if is_a(obj, MappingProxyType):  # it refers to its dictionary
        return gc.get_referents(*contents)
    return [*contents, *attributes]


def attributes_of(obj: Any) -> dict[str, Any]:
    """A copy of an instance's `__dict__`, or of a partial's keyword arguments."""
    if is_a(obj, functools.partial):
        return dict(obj.keywords)
    try:
        attributes = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return {}
    return dict(attributes) if type(attributes) is dict else {}


def _contents_of_function(function: FunctionType) -> Iterable[Any]:
    return (
        *(function.__closure__ or ()),
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
        *function.__dict__.values(),
    )


def _is_frozen(cls: type) -> bool:
    """Whether a class's instances do not change: a frozen dataclass, or attrs' own."""
    names = dict_of_type(cls)
    if getattr(names.get("__dataclass_params__"), "frozen", False):
        return True
    return getattr(names.get("__setattr__"), "__name__", "") == "_frozen_setattrs"


def _calibrated() -> int:
    """`getrefcount` of an object that a dictionary and a list hold, as the interpreter counts."""
    held: list[Any] = [object()]
    table = {0: held[0]}
    return getrefcount(held[0]) if table else 0


_SOLE: Final = _calibrated()
