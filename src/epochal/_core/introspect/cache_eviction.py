"""Eviction of a plugin's objects from caches and registries of the host.

A host's `functools.lru_cache` keeps the arguments that it was called with; its `singledispatch`
keeps the classes that were registered; an instance keeps what a `cached_property` computed; codecs
keep search functions and error handlers. No table of the process lists them. Caches of `functools`
are found by their type (`functools_caches`), the others from the other end: among the referrers of
the removed generation's objects, and of the tuples, partials and the like that wrap those.

An entry of a cache comes back when it is needed; from a registry only the generation's entries are
removed. A registry of the plugin's own (its `singledispatch` function) is left whole: the
code that holds it may call it, and it calls no code but the plugin's.
"""

from __future__ import annotations

import codecs
import functools
import re
import sys
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.functools_caches import (
    attributes_of,
    drop_entries,
    fixed_contents,
    leads_to,
    name_of,
    wraps,
)
from epochal._core.introspect.heap import referrers_of_type
from epochal._core.introspect.object_names import (
    dict_of_type,
    is_a,
    member_named,
    names_of_module,
    type_name,
)
from epochal._core.introspect.referrers import ReferrerSearch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from epochal._core.introspect.ownership import Ownership
    from epochal._core.introspect.referrers import PathStep

_TARGETS_AT_MOST: Final = 256
_LEVELS: Final = 4
"""How many objects' referrers are looked at, and through how many wrappers."""


def evict(targets: list[Any], ours: Ownership) -> list[str]:
    """Evict a generation's objects from the host's caches and registries.

    Args:
        targets: the generation's objects that something outside refers to, besides this list.
        ours: tells which objects are the generation's.

    Returns:
        A line for each cache and each entry that was removed.
    """
    lines = [*drop_entries(ours), *_from_cache_of_re(ours), *_from_warnings(ours)]
    search = ReferrerSearch({id(targets)})
    level = list({id(target): target for target in targets}.values())[:_TARGETS_AT_MOST]
    for _ in range(_LEVELS):
        edges = search.edges(level)
        lines += _from_referrers(search, edges, ours)
        wrappers = {id(edge.node): edge.node for edge in edges if wraps(edge.node)}
        level = [n for n in wrappers.values() if type(n) is MethodType or not ours.includes(n)]
        if not level or search.is_over:
            break
    return lines


def _from_referrers(
    search: ReferrerSearch, edges: list[PathStep], ours: Ownership
) -> Iterable[str]:
    lines: list[str] = []
    seen: set[int] = set()
    tables: dict[int, list[PathStep]] = {}  # by the id of a dictionary of attributes
    for edge in edges:
        holder = edge.node
        # An instance refers to its attributes' values itself, or to a dictionary of them.
        lines += _from_property(holder, edge.target, ours)
        if type(holder) is dict:
            if id(holder) not in seen:
                lines += _from_registry(holder, ours)
            if _may_be_attributes(holder):
                tables.setdefault(id(holder), []).append(edge)
        elif type(holder) is list and id(holder) not in seen:
            lines += _from_codecs(holder, ours)
        seen.add(id(holder))
    if tables:  # all in one walk over the heap
        for owner in search.edges([held[0].node for held in tables.values()]):
            for edge in tables[id(owner.target)]:
                lines += _from_property(owner.node, edge.target, ours)
    return lines


# --- caches --------------------------------------------------------------------------------------


def _from_cache_of_re(ours: Ownership) -> list[str]:
    """Empty the caches of compiled patterns, if a key has a plugin's text or flag in it."""
    for name in ("_cache", "_cache2"):  # they have no public name
        for key in list(vars(re).get(name) or ()):
            if type(key) is tuple and any(map(ours.includes, key)):
                re.purge()
                return ["the cache of re, which was emptied"]
    return []


def _from_warnings(ours: Ownership) -> list[str]:
    """Drop the notes that a warning of a plugin's category was shown for a line of a module."""
    lines: list[str] = []
    for name in list(sys.modules):
        shown = names_of_module(name).get("__warningregistry__")
        if type(shown) is not dict:
            continue
        for key in list(shown):
            if type(key) is tuple and any(map(ours.includes, key)):
                shown.pop(key, None)
                lines.append(f"{name}.__warningregistry__, an entry")
    return lines


def _from_property(owner: Any, value: Any, ours: Ownership) -> list[str]:
    """Drop an attribute that a `cached_property` of the host computed: it will compute it again.

    Args:
        owner: an object that may have such an attribute.
        value: the attribute's value.
        ours: tells which objects are the generation's.
    """
    if type(owner) in _PLAIN or is_a(owner, (type, ModuleType)) or ours.includes(owner):
        return []
    cls = type(owner)
    names = [
        name
        for name, held in attributes_of(owner).items()
        if held is value and type(name) is str and _is_cached_property(cls, name)
    ]
    for name in names:
        object.__getattribute__(owner, "__dict__").pop(name, None)
    return [f"functools.cached_property {n!r} of an instance of {type_name(cls)}" for n in names]


_PLAIN: Final = frozenset({dict, list, tuple, set, frozenset, FunctionType, MappingProxyType})


def _may_be_attributes(table: dict[Any, Any]) -> bool:
    """Whether a dictionary may be an instance's: has names, and is no module's."""
    return "__name__" not in table and all(type(key) is str for key in list(table)[:10])


def _is_cached_property(cls: type, name: str) -> bool:
    return any(
        is_a(dict_of_type(base).get(name), functools.cached_property)
        for base in type.__dict__["__mro__"].__get__(cls)
    )


# --- registries ----------------------------------------------------------------------------------


def _from_registry(registry: dict[Any, Any], ours: Ownership) -> list[str]:
    """Remove entries from a `singledispatch` registry, or from that of codec error handlers."""
    entry = "codec error handler" if registry.get("strict") is codecs.strict_errors else None
    dispatcher = _dispatcher_of(registry)
    if dispatcher is not None:
        if _is_own(dispatcher, registry, ours):
            return []
        entry = f"functools.singledispatch of {name_of(dispatcher)}"
    if entry is None:
        return []
    keys = [
        key
        for key, value in list(registry.items())
        if ours.includes(key) or leads_to(value, ours, fixed_contents)
    ]
    for key in keys:
        registry.pop(key, None)
    if dispatcher is not None:
        dispatcher._clear_cache()  # noqa: SLF001  undocumented, and stable
    return [f"{entry}: {getattr(key, '__name__', key)}" for key in keys]


def _dispatcher_of(registry: dict[Any, Any]) -> Any:
    """The `singledispatch` function that has this registry; None if there is none."""
    if object not in registry:  # every such registry has it, and few other dictionaries
        return None
    for proxy in referrers_of_type(MappingProxyType, registry):
        for namespace in referrers_of_type(dict, proxy):
            if namespace.get("registry") is proxy:
                for function in referrers_of_type(FunctionType, namespace):
                    if hasattr(function, "_clear_cache"):
                        return function
    return None


def _is_own(dispatcher: Any, registry: dict[Any, Any], ours: Ownership) -> bool:
    """Whether a `singledispatch` function is the plugin's own, whatever code holds it now."""
    if leads_to(registry[object], ours, fixed_contents):
        return True
    # The plugin may dispatch from a function of another module. If that module has the dispatcher
    # under its name, the plugin only imported it.
    found = member_named(dispatcher.__module__, dispatcher.__qualname__)
    if is_a(found, functools.singledispatchmethod):
        found = found.dispatcher
    if found is dispatcher:
        return False
    return any(id(held) in ours.globals_ids for held in referrers_of_type(dict, dispatcher))


def _from_codecs(search_path: list[Any], ours: Ownership) -> list[str]:
    """Remove codec search functions, if this is their list: `codecs.unregister` shortens it."""
    evicted: list[str] = []
    for item in list[Any](search_path):
        if ours.includes(item):
            before = len(search_path)
            codecs.unregister(item)
            if len(search_path) < before:
                evicted.append(f"codec search function {name_of(item)}")
    return evicted
