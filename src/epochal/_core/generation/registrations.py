"""Entries in the host's tables that come and go with their generation: `ctx.register`.

The problem: plugins register in `init` and unregister in `shutdown`. Here the new version's `init`
runs before the old one's `shutdown`, so under a shared name the old one takes out the new one's
entry, or the new one is refused because the old one's is still there.

The idea: a plugin says what is to stand in which table, and the runtime puts it there once the
plugin is in the current epoch. In a reload each entry of the new version takes the place of the old
one's under the same key (in a list: of the same rank), in one step; an old entry without a
successor is taken out. Only the plugin's own entries are: a value that other code has put there
since stays, and is reported.

What a change that is refused would have registered was never in a table. A function is registered
as a copy that carries the lease (`lease`): a call through the table holds the generation in use.

Which thread reads, which writes: the plugin's code registers on any thread; ``_lock`` decides
whether an entry waits for the change or goes in at once. No foreign code runs under it. All else
belongs to the thread of the change.
"""

from __future__ import annotations

import threading
from collections.abc import MutableMapping, MutableSequence, MutableSet
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal._core.introspect.object_names import type_name
from epochal._core.use.lease import carry
from epochal.errors import HostError, RegistrationError, format_error

if TYPE_CHECKING:
    import weakref
    from collections.abc import Sequence

    from epochal._core.use.lease import Lease

_ABSENT: Final = object()


class HostTable(Protocol):
    """The ways to alter one sort of table; each may run the table's own code."""

    def is_taken(self, entry: Registration, old: Registration | None) -> bool:
        """Whether other code has the entry's place, `old` aside."""
        ...

    def put(self, entry: Registration, old: Registration | None) -> bool:
        """Put an entry in, in place of `old`; returns False if other code has the place."""
        ...

    def take_out(self, entry: Registration) -> None:
        """Take an entry out, if it is there."""
        ...

    def has(self, entry: Registration) -> bool:
        """Whether an entry is there."""
        ...


class Registration:
    """One entry: its table, its key and its value.

    Attributes:
        table: the host's object.
        key: the key in a mapping, the name with a plugin manager; None elsewhere.
        value: the plugin's own value.
        stored: the value in the table: `value`, or its copy that carries the lease.
        is_in: whether it was put into the table and not taken out again by us.
    """

    __slots__ = ("_way", "is_in", "key", "stored", "table", "value")

    def __init__(self, table: Any, key: Any, value: Any, way: HostTable) -> None:
        self.table: Final = table
        self.key: Final = key
        self.value: Final = value
        self.stored = value
        self.is_in = False
        self._way: Final = way

    def check(self, old: Registration | None) -> None:
        """Raise `RegistrationError` if other code has its place."""
        if self._way.is_taken(self, old):
            raise RegistrationError(
                f"{self} is there already, and not this plugin's; register under another key, or "
                "take the other one out first"
            )

    def put(self, old: Registration | None, lease: weakref.ref[Lease] | None) -> str | None:
        """Put it in, in place of an older generation's; returns why not, if it cannot be."""
        if lease is not None and type(self.value) in (FunctionType, MethodType):
            self.stored = _carrying(self.value, lease)
        try:
            self.is_in = self._way.put(self, old)
        except Exception as error:  # noqa: BLE001  the table's own code
            return f"{self} could not be registered: {format_error(error)}"
        finally:
            if old is not None:
                old.is_in = False
        return None if self.is_in else f"{self} was put there by other code meanwhile, and stays"

    def take_out(self) -> str | None:
        """Take it out, if it is there; returns a failure in a line."""
        if not self.is_in:
            return None
        self.is_in = False
        try:
            self._way.take_out(self)
        except Exception as error:  # noqa: BLE001  as above
            return f"{self} could not be taken out: {format_error(error)}"
        return None

    def is_lost(self) -> bool:
        """Whether it was put in, and is not there any more."""
        return self.is_in and not self._way.has(self)

    def succeeds(self, old: Registration) -> bool:
        """Whether it is to take the place of an older generation's entry."""
        if self.table is not old.table:
            return False
        if isinstance(self._way, _Items):
            return bool(self.value is old.value or self.value == old.value)
        return isinstance(self._way, _Ranks) or bool(self.key == old.key)

    def __str__(self) -> str:
        # Without the table's own `__repr__`, which is foreign and may be long.
        entry = "an entry" if self.key is None else f"{self.key!r}"
        return f"{entry} in a {type_name(type(self.table))}"


class Registrations:
    """The entries of one generation.

    Attributes:
        lease: the generation's, weakly: no frame under which a table's code runs may hold it.
    """

    __slots__ = ("_entries", "_is_active", "_lock", "_waiting", "lease")

    def __init__(self) -> None:
        self.lease: weakref.ref[Lease] | None = None
        self._entries: list[Registration] = []
        self._waiting: Sequence[Registration] = ()
        self._is_active = False
        self._lock: Final = threading.Lock()

    def add(self, entry: Registration) -> None:
        """Register an entry: with the change that brings the generation up, or at once after it.

        Raises:
            RegistrationError: other code has its place.
        """
        with self._lock:
            self._entries.append(entry)
            is_active = self._is_active
        if is_active and (failure := self._put_now(entry)) is not None:
            self._entries.remove(entry)
            raise RegistrationError(failure)

    def _put_now(self, entry: Registration) -> str | None:
        try:
            entry.check(None)
        except RegistrationError as error:
            return str(error)
        return entry.put(None, self.lease)

    def check(self, old: Registrations | None) -> None:
        """Raise `RegistrationError` if other code than `old` has the place of an entry."""
        for entry, before in self._pairs(old, self._entries):
            entry.check(before)

    def activate(self) -> None:
        """The generation is published: entries go in at once from now on."""
        with self._lock:
            self._is_active, self._waiting = True, tuple(self._entries)

    def put_all(self, old: Registrations | None) -> list[str]:
        """Put in the entries that waited, in place of those of `old`; returns the failures."""
        lines = [entry.put(before, self.lease) for entry, before in self._pairs(old, self._waiting)]
        return [line for line in lines if line is not None] + (old.take_out() if old else [])

    def withdraw(self) -> list[str]:
        """Take the entries out for now: `activate` and `put_all` put them in again."""
        with self._lock:
            self._is_active = False
        lines = [entry.take_out() for entry in reversed(self._entries)]
        for entry in self._entries:
            entry.stored = entry.value  # not the copy that carries the lease
        return [line for line in lines if line is not None]

    def take_out(self) -> list[str]:
        """Take out what is still there; returns the failures, a line each."""
        entries, self._entries, self._waiting = self._entries, [], ()
        lines = [entry.take_out() for entry in reversed(entries)]
        return [line for line in lines if line is not None]

    def lost(self) -> list[str]:
        """A line for each entry that was put in, and is not there any more."""
        return [str(entry) for entry in self._entries if entry.is_lost()]

    def __len__(self) -> int:
        return len(self._entries)

    @staticmethod
    def _pairs(
        old: Registrations | None, entries: Sequence[Registration]
    ) -> list[tuple[Registration, Registration | None]]:
        left = [entry for entry in old._entries if entry.is_in] if old else []  # noqa: SLF001
        pairs: list[tuple[Registration, Registration | None]] = []
        for entry in tuple(entries):
            before = next((other for other in left if entry.succeeds(other)), None)
            if before is not None:
                left.remove(before)
            pairs.append((entry, before))
        return pairs


def _carrying(value: Any, lease: weakref.ref[Lease]) -> Any:
    alive = lease()
    return value if alive is None else carry(value, alive)


class _Keys:
    """A mapping."""

    def is_taken(self, entry: Registration, old: Registration | None) -> bool:
        now = entry.table.get(entry.key, _ABSENT)
        return now is not _ABSENT and (old is None or now is not old.stored)

    def put(self, entry: Registration, old: Registration | None) -> bool:
        if self.is_taken(entry, old):
            return False
        entry.table[entry.key] = entry.stored
        return True

    def take_out(self, entry: Registration) -> None:
        if self.has(entry):
            del entry.table[entry.key]

    def has(self, entry: Registration) -> bool:
        return entry.table.get(entry.key, _ABSENT) is entry.stored


class _Items:
    """A set: equal items are one."""

    def is_taken(self, entry: Registration, old: Registration | None) -> bool:
        return old is None and entry.value in entry.table

    def put(self, entry: Registration, old: Registration | None) -> bool:
        if self.is_taken(entry, old):
            return False
        if old is not None and old.stored is not entry.stored:
            entry.table.discard(old.stored)
        entry.table.add(entry.stored)
        return True

    def take_out(self, entry: Registration) -> None:
        entry.table.discard(entry.stored)

    def has(self, entry: Registration) -> bool:
        return entry.stored in entry.table


class _Ranks:
    """A list: an item is itself, not its equal; a new version's takes the old one's place."""

    def is_taken(self, entry: Registration, old: Registration | None) -> bool:
        return False

    def put(self, entry: Registration, old: Registration | None) -> bool:
        at = self._place(old) if old is not None else None
        if at is None:
            entry.table.append(entry.stored)
        else:
            entry.table[at] = entry.stored
        return True

    def take_out(self, entry: Registration) -> None:
        at = self._place(entry)
        if at is not None:
            del entry.table[at]

    def has(self, entry: Registration) -> bool:
        return self._place(entry) is not None

    def _place(self, entry: Registration) -> int | None:
        return next((at for at, item in enumerate(entry.table) if item is entry.stored), None)


class _Manager:
    """A plugin manager as pluggy's: `register(plugin, name)`, `unregister(plugin)`."""

    def is_taken(self, entry: Registration, old: Registration | None) -> bool:
        if entry.key is None:
            return False
        now = entry.table.get_plugin(entry.key)
        return now is not None and (old is None or now is not old.stored)

    def put(self, entry: Registration, old: Registration | None) -> bool:
        if old is not None:
            self.take_out(old)
        entry.table.register(entry.stored, name=entry.key)
        return True

    def take_out(self, entry: Registration) -> None:
        if self.has(entry):
            entry.table.unregister(entry.stored)

    def has(self, entry: Registration) -> bool:
        return bool(entry.table.is_registered(entry.stored))


_MANAGER: Final = ("register", "unregister", "is_registered", "get_plugin")
_KEYS, _ITEMS, _RANKS, _MANAGED = _Keys(), _Items(), _Ranks(), _Manager()


def registration(table: Any, entry: Sequence[Any], name: str | None) -> Registration:
    """The entry that `ctx.register(table, *entry, name=name)` asks for.

    Raises:
        HostError: the table is none that entries can be registered in, or takes others.
    """
    way = _way_of(table)
    wanted = 2 if way is _KEYS else 1
    if len(entry) != wanted or (name is not None and way is not _MANAGED):
        takes = "register(mapping, key, value)" if wanted == 2 else "register(table, value)"
        raise HostError(f"a {type_name(type(table))} is registered in by ctx.{takes}")
    key, value = entry if way is _KEYS else (name, entry[0])
    return Registration(table, key, value, way)


def _way_of(table: Any) -> HostTable:
    for kind, way in ((MutableMapping, _KEYS), (MutableSet, _ITEMS), (MutableSequence, _RANKS)):
        if isinstance(table, kind):
            return way
    if all(callable(getattr(table, name, None)) for name in _MANAGER):
        return _MANAGED
    raise HostError(
        f"ctx.register knows no way to register in a {type_name(type(table))}: expected a mapping, "
        "a set, a list, or a plugin manager with pluggy's methods; use ctx.defer for others"
    )
