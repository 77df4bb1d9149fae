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
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from epochal._core.carry import LEASE, Held, Tie
from epochal._core.lease import Borrow
from epochal._core.referrers import SUSPENDED, Search, Step, dict_of_type, suspended
from epochal._core.stragglers import find_stragglers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from epochal._core.lease import Lease

PIN: Final = "__epochal_pin__"
"""The method by which a class whose instances hold leases says what an instance is (an epoch)."""

_MOST: Final = 20
"""How many holders are named; the rest is counted."""


class Labelled(Protocol):
    """An operation that says what it is."""

    @property
    def label(self) -> str:
        """What the work is."""

    @property
    def age(self) -> float:
        """Seconds since it began."""


class _Holder(NamedTuple):
    """Something that holds the lease: what it is, and where a path to it begins (None: no need)."""

    what: str
    start: Step | None


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
    lines = [f"operation {one.label!r} ({one.age:.1f} s)" for one in operations]
    lines += [str(running) for running in find_stragglers(globals_ids)]
    search = Search()
    found = list(_find(search, lease, label))
    paths = iter(search.paths([holder.start for holder in found if holder.start is not None]))
    for what, start in found:
        lines.append(what if start is None else f"{what} in {next(paths)}")
    lines = list(dict.fromkeys(lines))
    rest = len(lines) - _MOST
    return (*lines[:_MOST], f"and {rest} more") if rest > 0 else tuple(lines)


def _find(search: Search, lease: Lease, label: str | None) -> Iterator[_Holder]:
    if label is not None:
        yield _Holder(f"lease {label!r}", Step(lease))
        return
    if (variable := search.variable(lease)) is not None:
        yield _Holder(f"its lease, {variable}", None)
    carriers: list[Any] = search.own([])
    tables: set[int] = set()
    for referrer in search.referrers([lease]):
        if type(referrer) is Borrow:
            yield _Holder(f"{referrer.dependent}, which requires it", None)
        elif type(referrer) is Held:
            carriers.append(referrer)
        elif type(referrer) is Tie:
            if (opened := referrer()) is not None:
                yield _Holder("an object that it opened", Step(opened))
        elif type(referrer) is dict:
            yield from _in_dict(search, referrer, lease, carriers, tables)
        elif not _is_ours(referrer):
            yield _Holder("its lease", Step(referrer, Step(lease)))
    for carrier in carriers:
        yield from _captured(search, carrier, tables)


def _in_dict(
    search: Search, namespace: dict[Any, Any], lease: Lease, carriers: list[Any], tables: set[int]
) -> Iterator[_Holder]:
    """A carrying function's attributes, an epoch's leases, or anybody's dictionary."""
    owners = search.referrers([namespace])
    if namespace.get(LEASE) is lease:
        carriers += [owner for owner in owners if type(owner) is FunctionType]
        return
    pins = search.own([owner for owner in owners if PIN in dict_of_type(type(owner))])
    for pin in pins:
        tables.update(map(id, gc.get_referents(*gc.get_referents(pin))))
        yield _Holder(getattr(pin, PIN)(), Step(pin))
    if not pins:
        yield _Holder("its lease", Step(namespace, Step(lease)))


def _captured(search: Search, carrier: Any, tables: set[int]) -> Iterator[_Holder]:
    """Whoever keeps a carrying function, or is suspended in it."""
    what = f"captured function {getattr(carrier, '__qualname__', '?')!r}"
    if (variable := search.variable(carrier)) is not None:
        yield _Holder(f"{what}, {variable}", None)
    for referrer in search.referrers([carrier]):
        if isinstance(referrer, SUSPENDED):
            yield _Holder(suspended(referrer), Step(referrer))
        elif type(referrer) is FrameType:
            yield _Holder("a kept exception", Step(referrer))
        elif id(referrer) not in tables and type(referrer) is not MethodType:
            yield _Holder(what, Step(referrer, Step(carrier)))
        elif type(referrer) is MethodType:
            yield from _captured(search, referrer, tables)


def _is_ours(referrer: object) -> bool:
    """Whether it is an operation's own tuple of pins, or a record of a change under way."""
    return type(referrer) is tuple or type(referrer).__module__.startswith("epochal._core.")
