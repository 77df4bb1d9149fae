"""The holders of a lease: the answer to "what is the drain still waiting for?".

References are walked backwards from the lease: to the functions and epochs that carry it, then to
the objects that keep those.

Running frames are not objects that the collector sees, so running calls are found by the threads'
stacks. A reference from native code (a query engine's plan) cannot be seen at all: its host names
it by a labelled operation.

Nothing is held after the look.
"""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from types import FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal._core.introspect.findings import Holder
from epochal._core.introspect.object_names import SUSPENDED, dict_of_type, is_a, suspended
from epochal._core.introspect.referrers import PathStep, ReferrerSearch
from epochal._core.introspect.running_code import find_stragglers, place_of
from epochal._core.use.lease import LEASE, LeaseAttachment, LeasedCallable, RevocableLease

if TYPE_CHECKING:
    from collections.abc import Iterable

    from epochal._core.use.lease import Lease

PIN: Final = "__epochal_pin__"
"""The method by which an object that holds leases (an epoch) names itself."""

_LISTED_AT_MOST: Final = 20
"""The remaining holders are counted, not listed."""


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
    label: str | None = None,
    globals_ids: frozenset[int] = frozenset(),
    operations: Iterable[Labelled] = (),
) -> tuple[Holder, ...]:
    """Find everything that holds a lease; walks the whole heap several times.

    Args:
        lease: the lease.
        label: the purpose of a lease that was taken by hand.
        globals_ids: the `id` of each module dictionary of its generation, to find running calls.
        operations: the labelled operations that hold it.
    """
    known = [*holding_operations(operations), *find_stragglers(globals_ids)]
    look = _Look(lease)
    if label is not None:
        look.note(Holder("lease", label), PathStep(lease))
    else:
        look.at_lease(lease)
    return limited([*known, *look.holders()])


def holding_operations(operations: Iterable[Labelled]) -> list[Holder]:
    """Labelled operations, as holders."""
    now, ages = time.time(), [(operation.label, operation.age) for operation in operations]
    return [Holder("operation", label, since=now - age, age_s=age) for label, age in ages]


def limited(holders: Iterable[Holder]) -> tuple[Holder, ...]:
    """The first 20 holders, each once, and one that counts the rest."""
    unique: dict[str, Holder] = {}
    for holder in holders:
        unique.setdefault(str(holder), holder)
    listed = tuple(unique.values())
    rest = len(listed) - _LISTED_AT_MOST
    return (*listed[:_LISTED_AT_MOST], Holder("more", str(rest))) if rest > 0 else listed


class _Look:
    """One look for the holders of one lease.

    No generator and no nested function in here: their frames and cells would be found as holders.
    """

    __slots__ = ("_carriers", "_noted", "_search", "_tables")

    def __init__(self, lease: Lease) -> None:
        self._search: Final = ReferrerSearch()
        self._noted: Final[list[tuple[Holder, PathStep | None]]] = []
        self._carriers: Final[list[Any]] = self._search.own([])
        # The epochs' own tables of exports: the holder of the epoch is named instead.
        self._tables: Final[set[int]] = set()

    def note(self, holder: Holder, start: PathStep | None) -> None:
        """Note a holder, and the object to which a path is searched; None if it needs no path."""
        self._noted.append((holder, start))

    def holders(self) -> list[Holder]:
        """The noted holders, with their paths."""
        paths = iter(self._search.paths([start for _, start in self._noted if start is not None]))
        return [
            holder if start is None else replace(holder, path=next(paths))
            for holder, start in self._noted
        ]

    def at_lease(self, lease: Lease) -> None:
        """Look at everything that refers to the lease."""
        if (variable := self._search.variable(lease)) is not None:
            self.note(Holder("lease", place=variable), None)
        for referrer in self._search.referrers([lease]):
            self._at_referrer(referrer, lease)
        for carrier in self._carriers:
            self._at_carrier(carrier)

    def _at_referrer(self, referrer: Any, lease: Lease) -> None:
        if type(referrer) is RevocableLease:
            self.note(Holder("plugin", referrer.dependent), None)
        elif type(referrer) is LeasedCallable:
            self._carriers.append(referrer)
        elif type(referrer) is LeaseAttachment:
            if (opened := referrer()) is not None:
                self.note(Holder("object"), PathStep(opened))
        elif type(referrer) is dict:
            self._at_dict(referrer, lease)
        elif not (_is_ours(referrer) or self._is_of_ours(referrer)):
            self.note(Holder("lease"), PathStep(referrer, PathStep(lease)))

    def _at_dict(self, namespace: dict[Any, Any], lease: Lease) -> None:
        """A carrying function's attributes, an epoch's leases, or any other dictionary."""
        is_known = namespace.get(LEASE) is lease
        for owner in self._search.referrers([namespace]):
            if PIN in dict_of_type(type(owner)):
                is_known = True
                self._tables.update(map(id, gc.get_referents(*gc.get_referents(owner))))
                self.note(Holder("epoch", getattr(owner, PIN)()), PathStep(owner))
            elif type(owner) is FunctionType and namespace.get(LEASE) is lease:
                self._carriers.append(owner)
        if not is_known:
            self.note(Holder("lease"), PathStep(namespace, PathStep(lease)))

    def _is_of_ours(self, referrer: object) -> bool:
        """Whether it is an operation's own tuple of pins: operations are named by their labels."""
        return type(referrer) is tuple and any(map(_is_ours, self._search.referrers([referrer])))

    def _at_carrier(self, carrier: Any) -> None:
        """Look at everything that keeps a carrier of the lease, or is suspended in it."""
        captured = Holder("function", getattr(carrier, "__qualname__", None))
        if (variable := self._search.variable(carrier)) is not None:
            self.note(replace(captured, place=variable), None)
        for referrer in self._search.referrers([carrier]):
            if is_a(referrer, SUSPENDED):
                self.note(Holder(*suspended(referrer)), PathStep(referrer))
            elif type(referrer) is FrameType:
                self.note(Holder("frame", place=place_of(referrer)), PathStep(referrer))
            elif type(referrer) is MethodType:
                self._at_carrier(referrer)
            elif id(referrer) not in self._tables:
                self.note(captured, PathStep(referrer, PathStep(carrier)))


def _is_ours(referrer: object) -> bool:
    """Whether it is a record of a change under way, or an operation."""
    return type(referrer).__module__.startswith("epochal._core.")
