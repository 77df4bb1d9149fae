"""Caches and registries of the host that keep a plugin's objects, and how they let go.

A host's `functools.lru_cache` keeps the arguments that it was called with; its `singledispatch`
keeps the classes that were registered; codecs keep search functions and error handlers. None is in
a table of the process that could be looked through: they are found from the other end, as what
refers to the removed generation's objects.

A cache is emptied (it fills again); of a registry only the generation's entries are taken out.
"""

from __future__ import annotations

import codecs
import functools
import gc
import re
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_LruCache: Final[Any] = type(functools.lru_cache(len))


def let_go(holders: Iterable[Any], ours: frozenset[int]) -> list[str]:
    """Make the host's caches and registries let go.

    Args:
        holders: what refers to the generation's objects from outside.
        ours: the `id` of each of the generation's objects.

    Returns:
        What was emptied or taken out, a line each.
    """
    undone: list[str] = []
    for holder in holders:
        if type(holder) is _LruCache:
            holder.cache_clear()
            undone.append(f"functools.lru_cache of {_name(holder)}, which was emptied")
        elif any(holder is cache for cache in _caches_of_re()):
            re.purge()
            undone.append("the cache of re, which was emptied")
        elif type(holder) is dict:
            undone += _from_registry(holder, ours) or _from_unbounded_caches(holder)
        elif type(holder) is list:
            undone += _from_codecs(holder, ours)
    return undone


def _caches_of_re() -> list[Any]:
    """Compiled patterns, by the type of their text among others; under no public name."""
    return [vars(re).get(name) for name in ("_cache", "_cache2")]


def _from_registry(registry: dict[Any, Any], ours: frozenset[int]) -> list[str]:
    """A `singledispatch` function's registry, or that of codec error handlers."""
    said = "codec error handler" if registry.get("strict") is codecs.strict_errors else None
    dispatcher = _dispatcher_of(registry)
    if dispatcher is not None:
        said = f"functools.singledispatch of {_name(dispatcher)}"
    if said is None:
        return []
    keys = [key for key, value in list(registry.items()) if {id(key), id(value)} & ours]
    for key in keys:
        registry.pop(key, None)
    if dispatcher is not None:
        dispatcher._clear_cache()  # noqa: SLF001  the attribute is documented nowhere, and stable
    return [f"{said}: {getattr(key, '__name__', key)}" for key in keys]


def _from_unbounded_caches(table: dict[Any, Any]) -> list[str]:
    """The `functools.cache` whose table this is: its keys are tuples of arguments."""
    if not any(type(key) is tuple for key in list(table)):
        return []
    undone: list[str] = []
    for owner in gc.get_referrers(table):
        if type(owner) is _LruCache:
            owner.cache_clear()
            undone.append(f"functools.lru_cache of {_name(owner)}, which was emptied")
    return undone


def _dispatcher_of(registry: dict[Any, Any]) -> Any:
    """The function whose `registry` shows this dictionary; None if there is none."""
    if object not in registry:  # every such registry has it, and few other dictionaries
        return None
    for proxy in gc.get_referrers(registry):
        if type(proxy) is MappingProxyType:
            for namespace in gc.get_referrers(proxy):
                if type(namespace) is dict and namespace.get("registry") is proxy:
                    for function in gc.get_referrers(namespace):
                        if type(function) is FunctionType and hasattr(function, "_clear_cache"):
                            return function
    return None


def _from_codecs(search_path: list[Any], ours: frozenset[int]) -> list[str]:
    """The list of codec search functions, if this is it: `codecs.unregister` then shortens it."""
    undone: list[str] = []
    for item in list[Any](search_path):
        if id(item) in ours:
            before = len(search_path)
            codecs.unregister(item)
            if len(search_path) < before:
                undone.append(f"codec search function {_name(item)}")
    return undone


def _name(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"
