"""Who holds a lease, in a person's words.

Asked when somebody waits: "what is it still waiting for?". The answer is found by walking
references backwards from the lease: to the functions and epochs that carry it, then to whoever
keeps those.

Running frames are not objects that the collector sees, so running calls are found by the threads'
stacks. A reference from native code (a query engine's plan) cannot be seen at all: its host says
who it is with a labelled operation.

Nothing is held afterwards.
"""

from __future__ import annotations

import gc
from types import FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal._core.introspect.referrers import (
    SUSPENDED,
    Search,
    Step,
    dict_of_type,
    is_a,
    suspended,
)
from epochal._core.introspect.running_code import find_stragglers, place_of
from epochal._core.use.lease import RevocableLease
from epochal._core.use.lease_carrier import LEASE, LeaseAttachment, LeasedCallable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from epochal._core.use.lease import Lease

PIN: Final = "__epochal_pin__"
"""The method by which a class whose instances hold leases says what an instance is (an epoch)."""

_MOST: Final = 20
"""How many holders are named; the rest is counted."""


class Labelled(Protocol):
    """An operation that says what it is."""

    @property
    def label(self) -> str:
        """What the work is."""
        ...

    @property
    def age(self) -> float:
        """Seconds since it began."""
        ...


def describe_holders(
    lease: Lease,
    *,
    label: str | None = None,
    globals_ids: frozenset[int] = frozenset(),
    operations: Iterable[Labelled] = (),
) -> tuple[str, ...]:
    """Name everybody who holds a lease.

    Args:
        lease: which.
        label: what a lease that was taken by hand is for.
        globals_ids: the `id` of each module dictionary of its generation, to find running calls.
        operations: the labelled operations that hold it.
    """
    lines = [*described(operations)]
    lines += [str(running) for running in find_stragglers(globals_ids)]
    look = _Look(lease)
    if label is not None:
        look.note(f"lease {label!r}", Step(lease))
    else:
        look.at_lease(lease)
    return first_of((*lines, *look.lines()))


def described(operations: Iterable[Labelled]) -> tuple[str, ...]:
    """Labelled operations, in a person's words."""
    return tuple(f"operation {one.label!r} ({one.age:.1f} s)" for one in operations)


def first_of(lines: Iterable[str]) -> tuple[str, ...]:
    """The first of some lines, each once, and how many more there are."""
    found = list(dict.fromkeys(lines))
    rest = len(found) - _MOST
    return (*found[:_MOST], f"and {rest} more") if rest > 0 else tuple(found)


class _Look:
    """One look for the holders of one lease.

    No generator and no nested function in here: their frames and cells would be found as holders.
    """

    __slots__ = ("_carriers", "_found", "_search", "_tables")

    def __init__(self, lease: Lease) -> None:
        self._search: Final = Search()
        self._found: Final[list[tuple[str, Step | None]]] = []
        self._carriers: Final[list[Any]] = self._search.own([])
        # The epochs' own tables of exports: whoever holds the epoch is named instead.
        self._tables: Final[set[int]] = set()

    def note(self, what: str, start: Step | None) -> None:
        """Somebody who holds the lease, and where a path to it begins (None: needs no path)."""
        self._found.append((what, start))

    def lines(self) -> list[str]:
        """What was noted, with the paths."""
        paths = iter(self._search.paths([start for _, start in self._found if start is not None]))
        return [
            what if start is None else f"{what} in {next(paths)}" for what, start in self._found
        ]

    def at_lease(self, lease: Lease) -> None:
        """Look at whatever refers to the lease."""
        if (variable := self._search.variable(lease)) is not None:
            self.note(f"its lease, {variable}", None)
        for referrer in self._search.referrers([lease]):
            self._at_holder(referrer, lease)
        for carrier in self._carriers:
            self._at_carrier(carrier)

    def _at_holder(self, referrer: Any, lease: Lease) -> None:
        if type(referrer) is RevocableLease:
            self.note(f"{referrer.dependent}, which requires it", None)
        elif type(referrer) is LeasedCallable:
            self._carriers.append(referrer)
        elif type(referrer) is LeaseAttachment:
            if (opened := referrer()) is not None:
                self.note("an object that it opened", Step(opened))
        elif type(referrer) is dict:
            self._at_dict(referrer, lease)
        elif not (_is_ours(referrer) or self._is_of_ours(referrer)):
            self.note("its lease", Step(referrer, Step(lease)))

    def _at_dict(self, namespace: dict[Any, Any], lease: Lease) -> None:
        """A carrying function's attributes, an epoch's leases, or anybody's dictionary."""
        is_known = namespace.get(LEASE) is lease
        for owner in self._search.referrers([namespace]):
            if PIN in dict_of_type(type(owner)):
                is_known = True
                self._tables.update(map(id, gc.get_referents(*gc.get_referents(owner))))
                self.note(getattr(owner, PIN)(), Step(owner))
            elif type(owner) is FunctionType and namespace.get(LEASE) is lease:
                self._carriers.append(owner)
        if not is_known:
            self.note("its lease", Step(namespace, Step(lease)))

    def _is_of_ours(self, referrer: object) -> bool:
        """Whether it is an operation's own tuple of pins: operations are named by their labels."""
        return type(referrer) is tuple and any(map(_is_ours, self._search.referrers([referrer])))

    def _at_carrier(self, carrier: Any) -> None:
        """Look at whoever keeps what carries the lease, or is suspended in it."""
        name = getattr(carrier, "__qualname__", None)
        what = f"captured function {name!r}"
        if (variable := self._search.variable(carrier)) is not None:
            self.note(f"{what}, {variable}", None)
        for referrer in self._search.referrers([carrier]):
            if is_a(referrer, SUSPENDED):
                self.note(suspended(referrer), Step(referrer))
            elif type(referrer) is FrameType:
                self.note(f"a kept exception's frame {place_of(referrer)}", Step(referrer))
            elif type(referrer) is MethodType:
                self._at_carrier(referrer)
            elif id(referrer) not in self._tables:
                self.note(what, Step(referrer, Step(carrier)))


def _is_ours(referrer: object) -> bool:
    """Whether it is a record of a change under way, or an operation."""
    return type(referrer).__module__.startswith("epochal._core.")
