"""Eviction of a plugin's objects from caches and registries of the host.

A host's `functools.lru_cache` keeps the arguments that it was called with; its `singledispatch`
keeps the classes that were registered; codecs keep search functions and error handlers. No table of
the process lists them: they are found from the other end, among the referrers of the removed
generation's objects.

A cache is emptied (it fills again); from a registry only the generation's entries are removed.
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


def evict(holders: Iterable[Any], ours: frozenset[int]) -> list[str]:
    """Evict the generation's objects from the host's caches and registries.

    Args:
        holders: the objects that refer to the generation's from outside.
        ours: the `id` of each of the generation's objects.

    Returns:
        A line for each cache that was emptied and each entry that was removed.
    """
    evicted: list[str] = []
    for holder in holders:
        if type(holder) is _LruCache:
            holder.cache_clear()
            evicted.append(f"functools.lru_cache of {_name(holder)}, which was emptied")
        elif any(holder is cache for cache in _caches_of_re()):
            re.purge()
            evicted.append("the cache of re, which was emptied")
        elif type(holder) is dict:
            evicted += _from_registry(holder, ours) or _from_unbounded_caches(holder)
        elif type(holder) is list:
            evicted += _from_codecs(holder, ours)
    return evicted


def _caches_of_re() -> list[Any]:
    """The caches of compiled patterns, which have no public name."""
    return [vars(re).get(name) for name in ("_cache", "_cache2")]


def _from_registry(registry: dict[Any, Any], ours: frozenset[int]) -> list[str]:
    """Remove entries from a `singledispatch` registry, or from that of codec error handlers."""
    entry = "codec error handler" if registry.get("strict") is codecs.strict_errors else None
    dispatcher = _dispatcher_of(registry)
    if dispatcher is not None:
        entry = f"functools.singledispatch of {_name(dispatcher)}"
    if entry is None:
        return []
    keys = [key for key, value in list(registry.items()) if {id(key), id(value)} & ours]
    for key in keys:
        registry.pop(key, None)
    if dispatcher is not None:
        dispatcher._clear_cache()  # noqa: SLF001  undocumented, and stable
    return [f"{entry}: {getattr(key, '__name__', key)}" for key in keys]


def _from_unbounded_caches(table: dict[Any, Any]) -> list[str]:
    """Empty the `functools.cache` that has this table: its keys are tuples of arguments."""
    if not any(type(key) is tuple for key in list(table)):
        return []
    evicted: list[str] = []
    for owner in gc.get_referrers(table):
        if type(owner) is _LruCache:
            owner.cache_clear()
            evicted.append(f"functools.lru_cache of {_name(owner)}, which was emptied")
    return evicted


def _dispatcher_of(registry: dict[Any, Any]) -> Any:
    """The `singledispatch` function that has this registry; None if there is none."""
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
    """Remove codec search functions, if this is their list: `codecs.unregister` shortens it."""
    evicted: list[str] = []
    for item in list[Any](search_path):
        if id(item) in ours:
            before = len(search_path)
            codecs.unregister(item)
            if len(search_path) < before:
                evicted.append(f"codec search function {_name(item)}")
    return evicted


def _name(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"
