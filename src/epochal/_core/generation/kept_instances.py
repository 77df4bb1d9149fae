"""Instances of exported classes: those that the plugin keeps itself, and those made of others.

An instance that the host makes of an exported class is tied to the lease for as long as it lives.
Two sorts of instances need a look.

**Kept.** One that the plugin keeps (a registry, a pool, a singleton, an enumeration's members)
lives as long as the plugin, so its death cannot end the use; that nothing but the plugin refers to
it any more does. A drain finds out by counting references in the plugin's own graph of objects,
which costs what the plugin weighs. It looks only while nothing but ties holds the lease.

**Handed on.** The host may make others of an instance that it has: a copy, an unpickled one, one of
a class that it derives. Nothing ties those. So before a generation is shut down, one look finds
the instances that something outside the plugin refers to, and ties them to a new lease. It happens
only if the host has ever made an instance, and walks the heap only if something outside the
plugin's graph refers to such a class: each instance does. Instances that were there before the
generation served (a handler that `init` put into a table) are the plugin's own doing and end with
its shutdown.

The plugin's own threads and tasks count as the plugin: its shutdown ends them.
"""

from __future__ import annotations

import functools
import weakref
from sys import getrefcount
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epochal._core.introspect import heap
from epochal._core.introspect.collector import collect_soon
from epochal._core.introspect.object_graph import Graph
from epochal._core.introspect.object_names import (
    MODULE_OF_NAME,
    PublicView,
    dict_of_type,
    is_a,
    module_named,
)
from epochal._core.introspect.running_code import own_work
from epochal._core.use.ties import can_tie, tie, ties_of, untie

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

    from epochal._core.introspect.origins import Origin
    from epochal._core.use.lease import Lease
    from epochal._core.use.ties import Tie

_CLASSES_AT_A_TIME: Final = 16
"""A heap walk that asks about 16 objects takes about twice as long as one."""


class PluginCode(NamedTuple):
    """A generation's code, as these looks need it.

    Attributes:
        modules: its modules.
        root_name: the name of the root module.
        own: its code as that which begins threads and tasks.
    """

    modules: list[ModuleType]
    root_name: str
    own: Origin


# --- instances that the plugin keeps -------------------------------------------------------------


def untie_kept(live_lease: Callable[[], Lease | None], code: PluginCode) -> bool:
    """Untie the instances of a draining generation, if only the plugin itself refers to them.

    Args:
        live_lease: returns the generation's lease while that is alive.
        code: the generation's code.

    Returns:
        Whether to look again, since no release wakes the drain: a caller may let go of an instance
        that the plugin keeps.
    """
    lease = live_lease()
    ties = [] if lease is None else ties_of(lease)
    if not ties:
        return False
    if getrefcount(lease) > len(ties) + _REFERENCES_HERE:
        return True  # callers have it by exports, too
    references = _references(ties, code)
    # Two looks that agree: under one, a thread may move an instance from one place to another.
    if not any(outside for _, outside in references) and references == _references(ties, code):
        for tied in ties:
            untie(tied)
        return False
    return any(inside for inside, _ in references)  # the death of others unties them


def _references(ties: list[Tie], code: PluginCode) -> list[tuple[int, int]]:
    """For each tied instance, the references to it by the plugin, and by others."""
    graph = _graph(code, ties)
    # By `id`: a variable of ours would be counted. The graph holds those that are alive.
    return [graph.references(key) for key in map(_id_of_referent, ties) if key in graph]


def _graph(
    code: PluginCode, seeds: Sequence[weakref.ref[Any]], excused: Iterable[Any] = ()
) -> Graph:
    parts, variables = own_work(code.own)
    parts.extend(excused)
    return Graph(
        code.modules, code.root_name, broad=False, seeds=seeds, excused=parts, variables=variables
    )


def _id_of_referent(ref: weakref.ref[Any]) -> int:
    return id(ref())


# --- instances that the host made of others ------------------------------------------------------


def classes_in(targets: Iterable[Any]) -> list[type]:
    """The classes, among exports, of which a host makes instances itself."""
    classes: list[type] = []
    for target in targets:
        made: Any = target
        while type(made) is functools.partial:
            made = made.func
        if is_a(made, type) and can_tie(made):
            classes.append(made)
    return classes


def instances_outside(
    classes: Sequence[type], code: PluginCode, records: Iterable[Any]
) -> list[weakref.ref[Any]]:
    """The instances of some classes, and the host's subclasses, that others than the plugin hold.

    Args:
        classes: the plugin's classes.
        code: the generation's code.
        records: the runtime's own objects that refer to the classes.

    Returns:
        Weak references, which take no part in keeping any of them alive.
    """
    ours, hosts = _family(classes, code)
    # These very lists refer to the classes, too.
    if not hosts and not _outside(_graph(code, (), [*records, classes, ours]), map(id, ours)):
        return []
    found = _instances([*ours, *hosts])
    outside = _outside(_graph(code, found), map(_id_of_referent, found))
    used = [ref for ref in found if _id_of_referent(ref) in outside]
    return used + [weakref.ref(cls) for cls in hosts]


def tie_instances(
    look: Callable[[], list[weakref.ref[Any]]],
    own: Iterable[weakref.ref[Any]],
    issue: Callable[[], Lease],
) -> weakref.ref[Lease] | None:
    """Tie what a look found to a new lease.

    Args:
        look: returns `instances_outside`.
        own: those that were there before the generation served.
        issue: makes the lease.

    Returns:
        The lease; None if nothing was found.
    """
    known = {id(ref) for ref in own}  # there is one such reference to an object at a time
    # Two looks that agree: under one, a thread may take an instance out of the plugin's keeping.
    if not _new(look(), known) and not _new(look(), known):
        return None
    collect_soon(seldom=True)  # garbage uses nothing
    found = _new(look(), known)
    if not found:
        return None
    lease = issue()
    for ref in found:
        _tie_referent(ref, lease)
    return weakref.ref(lease)


def _new(found: list[weakref.ref[Any]], known: set[int]) -> list[weakref.ref[Any]]:
    return [ref for ref in found if id(ref) not in known]


def _tie_referent(ref: weakref.ref[Any], lease: Lease) -> None:
    instance = ref()
    if instance is not None:
        tie(instance, lease)


def _outside(graph: Graph, keys: Iterable[int]) -> set[int]:
    """The `id` of each of these objects that others than the plugin refer to."""
    return {key for key in keys if key in graph and graph.references(key)[1]}


def _family(classes: Iterable[type], code: PluginCode) -> tuple[list[type], list[type]]:
    """The classes and all of the plugin that derive from them; and those of the host that do."""
    todo, ours, hosts = list(classes), dict[int, type](), dict[int, type]()
    own_modules = set(map(id, code.modules))
    while todo:
        cls = todo.pop()
        name = dict_of_type(cls).get("__module__")
        module = module_named(name) if type(name) is str else None
        if module is None or is_a(module, PublicView):
            continue  # of a removed plugin, whose class leaves an empty shell for a while
        is_ours = id(module) in own_modules
        if not is_ours and id(name) in MODULE_OF_NAME:
            continue  # of another plugin
        family = ours if is_ours else hosts
        if id(cls) not in family:
            family[id(cls)] = cls
            todo += type.__subclasses__(cls)
    return list(ours.values()), list(hosts.values())


def _instances(family: Sequence[type]) -> list[weakref.ref[Any]]:
    found: list[weakref.ref[Any]] = []
    for first in range(0, len(family), _CLASSES_AT_A_TIME):
        some = family[first : first + _CLASSES_AT_A_TIME]
        found += [weakref.ref(one) for one in heap.instances(some)]
    return found


def _calibrated() -> int:
    lease = object()
    return getrefcount(lease)


_REFERENCES_HERE: Final = _calibrated()
"""`getrefcount(lease)` of a lease that only the variable refers to: interpreters differ."""
