"""The holders of a lease: the answer to "what is the drain still waiting for?".

References are walked backwards from the lease: to the functions and epochs that carry it, then to
the objects that keep those.

Running frames are not objects that the collector sees, so running calls are found by the threads'
stacks. A reference from native code (a query engine's plan) cannot be seen at all: its host names
it by a labelled operation.

There may be any number of holders, and a path costs several heap walks. So twenty of them get a
path, of as many sorts as there are, and the others are counted; and a look has a time limit.

Nothing is held after the look.
"""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from functools import partial
from types import FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from epochal._core.introspect.collector import frozen_objects
from epochal._core.introspect.findings import Holder
from epochal._core.introspect.object_names import SUSPENDED, dict_of_type, is_a, suspended
from epochal._core.introspect.places import place_of
from epochal._core.introspect.referrers import PathStep, ReferrerSearch
from epochal._core.introspect.running_code import find_stragglers
from epochal._core.use.lease import LEASE, LeasedCallable, RevocableLease
from epochal._core.use.ties import Tie

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from epochal._core.introspect.origins import Origin
    from epochal._core.use.lease import Lease

PIN: Final = "__epochal_pin__"
"""The method by which an object that holds leases (an epoch) names itself."""

LISTED_AT_MOST: Final = 20
"""The remaining holders are counted, not listed."""

_LOOKED_AT_MOST: Final = 1_000
"""After so many holders, others of a type that was seen are counted: a look at one takes 20 us."""
_METHODS_AT_MOST: Final = 32
"""How many bound methods are looked behind: two heap walks. Any other counts as a holder itself."""

_INVISIBLE: Final = "native code, or the stack of a running call, which cannot be looked at"

_Noted: TypeAlias = tuple[Holder, PathStep | None]


class Labelled(Protocol):
    """A labelled operation."""

    @property
    def label(self) -> str:
        """A name for the work, such as a query's text."""
        ...

    @property
    def age(self) -> float:
        """Seconds since the operation began."""
        ...


def find_holders(
    lease: Lease,
    *,
    globals_ids: frozenset[int] = frozenset(),
    own: Origin | None = None,
    operations: Iterable[Labelled] = (),
) -> tuple[Holder, ...]:
    """Find what holds a lease; walks the whole heap several times, for about a second at most.

    Args:
        lease: the lease.
        globals_ids: the `id` of each module dictionary of its generation, to find running calls.
        own: what its own code began in a change, which holds nothing up.
        operations: the labelled operations that hold it.

    Returns:
        The holders, never empty.
    """
    known = [*holding_operations(operations), *find_stragglers(globals_ids, own=own)]
    look = _Look()
    look.at_lease(lease)
    found, rest = look.holders()
    if not known and not found:
        # A running call has it on its stack, between two of its instructions, or native code does.
        found = [Holder("lease", path=_INVISIBLE)]
    holders = limited([*known, *found], rest)
    frozen = frozen_objects()
    return (*holders, Holder("frozen", str(frozen))) if frozen else holders


def find_holders_of(leases: Sequence[Lease]) -> tuple[Holder, ...]:
    """Find what holds leases that were taken by hand; the first twenty get a path.

    Args:
        leases: the leases; this sequence itself does not count.
    """
    named = leases[:LISTED_AT_MOST]
    search = ReferrerSearch({id(leases), id(named)})
    paths = search.paths([PathStep(lease) for lease in named])
    holders = [
        Holder("lease", lease.label, path=path) for lease, path in zip(named, paths, strict=True)
    ]
    return limited(holders, len(leases) - len(named))


def holding_operations(operations: Iterable[Labelled]) -> list[Holder]:
    """Labelled operations, as holders."""
    now, ages = time.time(), [(operation.label, operation.age) for operation in operations]
    return [Holder("operation", label, since=now - age, age_s=age) for label, age in ages]


def limited(holders: Iterable[Holder], more: int = 0) -> tuple[Holder, ...]:
    """The first 20 holders, each once, and one that counts the rest.

    Args:
        holders: the holders.
        more: how many there are besides.
    """
    unique: dict[str, Holder] = {}
    for holder in holders:
        unique.setdefault(str(holder), holder)
    listed = tuple(unique.values())
    rest = more + max(0, len(listed) - LISTED_AT_MOST)
    return (*listed[:LISTED_AT_MOST], Holder("more", str(rest))) if rest > 0 else listed


class _Look:
    """One look for the holders of one lease.

    No generator and no nested function in here: their frames and cells would be found as holders.
    """

    __slots__ = ("_count", "_first", "_others", "_search", "_tables")

    def __init__(self) -> None:
        self._search: Final = ReferrerSearch()
        # The first holder of each sort, and the first others, each with the object to which a path
        # is searched, or None; and the number of all.
        self._first: Final[dict[tuple[str, str | None, str], _Noted]] = {}
        self._others: Final[list[_Noted]] = []
        self._count = 0
        # The epochs' own tables of exports: the holder of the epoch is named instead.
        self._tables: Final[set[int]] = set()

    def note(self, holder: Holder, start: PathStep | None) -> None:
        """Note a holder, and the object to which a path is searched; None if it needs no path."""
        self._count += 1
        noted, sort = (holder, start), (holder.kind, holder.name, holder.place)
        if sort not in self._first and len(self._first) < LISTED_AT_MOST:
            self._first[sort] = noted
        elif len(self._others) < LISTED_AT_MOST:
            self._others.append(noted)

    def holders(self) -> tuple[list[Holder], int]:
        """The noted holders that are listed, with their paths, and how many others there are."""
        noted = [*self._first.values(), *self._others][:LISTED_AT_MOST]
        paths = iter(self._search.paths([start for _, start in noted if start is not None]))
        listed = [
            holder if start is None else replace(holder, path=next(paths))
            for holder, start in noted
        ]
        return listed, self._count - len(listed)

    def at_lease(self, lease: Lease | RevocableLease) -> None:
        """Look at everything that refers to the lease."""
        if (variable := self._search.variable(lease)) is not None:
            self.note(Holder("lease", place=variable), None)
        carriers: list[Any] = []
        namespaces: list[Any] = []
        tuples: list[Any] = []
        for referrer in self._search.own(self._search.referrers([lease])):
            if type(referrer) is RevocableLease:
                if referrer.is_returned:
                    self.at_lease(referrer)  # exports that a dependent handed on
                else:
                    self.note(Holder("plugin", referrer.dependent), None)
            elif type(referrer) is LeasedCallable:
                carriers.append(referrer)
            elif type(referrer) is Tie:
                if (opened := referrer()) is not None:
                    self.note(Holder("object"), PathStep(opened))
                opened = None  # the next walk must not find it as a local variable
            elif type(referrer) is dict:
                namespaces.append(referrer)
            elif type(referrer) is tuple:
                tuples.append(referrer)
            elif not _is_ours(referrer):
                self.note(Holder("lease"), PathStep(referrer, PathStep(lease)))
        # The sorts of referrers first of which there are few: each may cost a heap walk.
        self._at_tuples(tuples, lease)
        self._at_namespaces(namespaces, lease, carriers)
        self._at_carriers(carriers)

    def _at_tuples(self, tuples: list[Any], lease: Lease | RevocableLease) -> None:
        """Look at tuples; an operation's own, of pins, is named by the operation's label."""
        pins = {id(edge.target) for edge in self._search.edges(tuples) if _is_ours(edge.node)}
        for items in tuples:
            if id(items) not in pins:
                self.note(Holder("lease"), PathStep(items, PathStep(lease)))

    def _at_namespaces(
        self, namespaces: list[Any], lease: Lease | RevocableLease, carriers: list[Any]
    ) -> None:
        """Look at carrying functions' attributes, epochs' leases, and other dictionaries."""
        # A function's attributes come last: a plugin may have hundreds of exports.
        namespaces.sort(key=partial(_is_carried_by, lease))
        known: set[int] = set()
        for edge in self._search.edges(namespaces):
            owner, namespace = edge.node, edge.target
            if PIN in dict_of_type(type(owner)):
                known.add(id(namespace))
                self._tables.update(map(id, gc.get_referents(*gc.get_referents(owner))))
                self.note(Holder("epoch", getattr(owner, PIN)()), PathStep(owner))
            elif type(owner) is FunctionType and namespace.get(LEASE) is lease:
                known.add(id(namespace))
                carriers.append(owner)
        for namespace in namespaces:
            if id(namespace) not in known and not _is_carried_by(lease, namespace):
                self.note(Holder("lease"), PathStep(namespace, PathStep(lease)))

    def _at_carriers(self, carriers: list[Any]) -> None:
        """Look at everything that keeps carriers of the lease, or is suspended in them."""
        while carriers:
            for carrier in carriers:
                if (variable := self._search.variable(carrier)) is not None:
                    self.note(replace(_captured(carrier), place=variable), None)
            methods: list[Any] = []
            sorts: set[tuple[type, int]] = set()
            for edge in self._search.edges(carriers):
                sort = type(edge.node), id(edge.target)
                if self._count > _LOOKED_AT_MOST and sort in sorts:
                    self._count += id(edge.node) not in self._tables
                else:
                    sorts.add(sort)
                    self._at_carrier(edge, methods)
            carriers = methods

    def _at_carrier(self, edge: PathStep, methods: list[Any]) -> None:
        referrer = edge.node
        if is_a(referrer, SUSPENDED):
            self.note(Holder(*suspended(referrer)), PathStep(referrer))
        elif type(referrer) is FrameType:
            self.note(Holder("frame", place=place_of(referrer)), PathStep(referrer))
        elif type(referrer) is MethodType and len(methods) < _METHODS_AT_MOST:
            methods.append(referrer)
        elif id(referrer) not in self._tables:
            self.note(_captured(edge.target), edge)


def _captured(carrier: object) -> Holder:
    return Holder("function", getattr(carrier, "__qualname__", None))


def _is_carried_by(lease: Lease | RevocableLease, namespace: dict[Any, Any]) -> bool:
    """Whether these are the attributes of a function that carries a lease."""
    return namespace.get(LEASE) is lease


def _is_ours(referrer: object) -> bool:
    """Whether it is a record of a change under way, or an operation."""
    return type(referrer).__module__.startswith("epochal._core.")
