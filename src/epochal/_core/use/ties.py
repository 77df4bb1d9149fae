"""Ties: an object keeps a lease alive for as long as it lives.

An instance of an exported class, an index handle or a storage backend cannot carry the lease in an
attribute: it is tied to it from outside, by a weak reference that holds the lease.

A plugin may keep such an instance itself (a registry, a singleton): then it never dies, and its tie
would keep the plugin in use for ever. So a drain looks whether anything but the plugin refers to it
(`ties_of`, and `Generation.untie_kept`).

Reads and writes: `tie` adds to ``TIES``, in any thread, and the callback `_untie` removes,
anywhere: one dict step each. A drain and diagnostics read it.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Final

from epochal._core.sync.weak_registry import once_gone, overdue

if TYPE_CHECKING:
    from epochal._core.use.lease import Lease, RevocableLease


class Tie(weakref.ref[Any]):
    """A weak reference to an object that holds a lease for as long as the object lives."""

    __slots__ = ("key", "lease")
    known: ClassVar[dict[tuple[int, int], Tie]] = {}
    key: tuple[int, int]
    lease: Lease | RevocableLease


TIES: Final = Tie.known
"""By the `id` of the instance and that of the lease: both live as long as the entry."""


def tie(instance: Any, lease: Lease | RevocableLease) -> None:
    """Keep the lease alive until `instance` dies (an index handle, a storage backend, …).

    The instance is left as it is: no attribute is added to it. Idempotent.

    Raises:
        TypeError: the instance cannot have a weak reference (its class has `__slots__` without
            `__weakref__`).
    """
    key = (id(instance), id(lease))
    known = TIES.get(key)
    if known is not None and known() is instance:
        return
    try:
        new = Tie(instance, _untie)
    except TypeError:
        raise TypeError(
            f"an instance of {type(instance).__qualname__} cannot be tied to its plugin's life: "
            "add '__weakref__' to its __slots__"
        ) from None
    new.key, new.lease = key, lease
    TIES[key] = new


def can_tie(cls: type) -> bool:
    """Whether instances of a class can be tied."""
    return bool(type.__dict__["__weakrefoffset__"].__get__(cls))


def ties_of(lease: Lease) -> list[Tie]:
    """The ties to a lease."""
    ties = [one for one in list(TIES.values()) if one.lease is lease]
    dead = overdue(ties)
    for one in dead:
        untie(one)
    gone = set(map(id, dead))  # a hundred thousand may have died at once
    return [one for one in ties if id(one) not in gone]


def untie(one: Tie) -> None:
    """End a tie, before its object dies or after. Idempotent."""
    if one.known.get(one.key) is one:  # another object may have the `id` of a dead one
        one.known.pop(one.key, None)


_untie: Final = once_gone(untie)
