"""Instances that a plugin keeps itself: a registry, a pool, a singleton, an enumeration's members.

An instance of an exported class is tied to the lease for as long as it lives. One that the plugin
keeps lives as long as the plugin, so its death cannot end the use; that nothing but the plugin
refers to it any more does. A drain finds out by counting references in the plugin's own graph of
objects, which costs what the plugin weighs. It looks only while nothing but ties holds the lease.
"""

from __future__ import annotations

from sys import getrefcount
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.object_graph import Graph
from epochal._core.use.ties import ties_of, untie

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from epochal._core.use.lease import Lease
    from epochal._core.use.ties import Tie


def untie_kept(
    live_lease: Callable[[], Lease | None], modules: list[ModuleType], root_name: str
) -> bool:
    """Untie the instances of a draining generation, if only the plugin itself refers to them.

    Args:
        live_lease: returns the generation's lease while that is alive.
        modules: the plugin's modules.
        root_name: the name of the root module.

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
    references = _references(ties, modules, root_name)
    # Two looks that agree: under one, a thread may move an instance from one place to another.
    if not any(outside for _, outside in references) and references == _references(
        ties, modules, root_name
    ):
        for tie in ties:
            untie(tie)
        return False
    return any(inside for inside, _ in references)  # the death of others unties them


def _references(
    ties: list[Tie], modules: list[ModuleType], root_name: str
) -> list[tuple[int, int]]:
    """For each tied instance, the references to it by the plugin, and by others."""
    graph = Graph(modules, root_name, broad=False, seeds=ties)
    # By `id`: a variable of ours would be counted. The graph holds those that are alive.
    return [graph.references(key) for key in map(_id_of_referent, ties) if key in graph]


def _id_of_referent(tie: Tie) -> int:
    return id(tie())


def _calibrated() -> int:
    lease = object()
    return getrefcount(lease)


_REFERENCES_HERE: Final = _calibrated()
"""`getrefcount(lease)` of a lease that only the variable refers to: interpreters differ."""
