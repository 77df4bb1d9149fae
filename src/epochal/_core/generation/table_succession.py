"""What a new version sees where its predecessor has replaced something of the host's.

The problem: a hook that calls "the one before" (`sys.excepthook`, `sys.stdout`, the factory of log
records, a patched method) would take its predecessor's for the host's. After five reloads a log
record would go through six versions, five of them shut down. Taking the predecessor's hook away
while the new version links would leave the host's other threads without one.

The idea: let one thread see another value. While a new version links and initialises, its thread
sees the value that the replaced versions had found; every other thread sees the table as it is.

- **Attributes of a module** (`sys.excepthook`): the name becomes a property that asks for the
  thread (`seen_by_thread`). What the new version sets is kept aside.
- **Attributes of a class** (`Router.resolve`): the class gets a descriptor that asks for the
  thread. Setting an attribute cannot be intercepted there, so from then to the end of the step the
  new version's value, over the host's, is what every thread gets.

At the end of each step the tables are as they were, and the values aside. They are put in place as
the change is published. A change that is refused has touched nothing of its predecessor's.

- **Lists** (`logging.root.handlers`, `sys.path`): a new version that asks what is there
  (`logging.basicConfig()`, `if path not in sys.path`) would find its predecessor's item and add
  none of its own; then that item goes with its version. So the thread sees a copy without the
  items of versions that retire or drain. What it adds and removes there is done to the list at the
  end of the step. The old items stay in it until their version goes, so other threads miss none.

Code that reads the module's dictionary itself sees the table as it is: the interpreter (`print`
finds the predecessor's `sys.stdout`).

Threads: a cell belongs to the change's thread, which alone reads ``seen`` and writes it.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.host_names import ClassNames, DispatchNames
from epochal._core.generation.seen_by_thread import names_in, see, see_as_is
from epochal._core.generation.seen_dispatch import DispatchCell
from epochal._core.generation.watched_table import ABSENT, is_same_key
from epochal._core.introspect.object_names import dict_of_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from epochal._core.generation.watched_table import Entry, Item, ListTable, Names, Put


class _Cell:
    """A name whose value a retiring version had replaced.

    Attributes:
        names: where the name is.
        key: the name.
        hidden: the retiring version's value, which is in place.
        found: the value that the retiring versions had found there.
        seen: the value that the new versions' thread sees, and sets.
        before: `seen` as the step began.
    """

    __slots__ = ("before", "found", "hidden", "key", "names", "seen")

    def __init__(self, names: Names, key: str, hidden: object, found: object) -> None:
        self.names: Final = names
        self.key: Final = key
        self.hidden: Final = hidden
        self.found: Final = found
        self.seen = self.before = found

    @property
    def owner(self) -> Any:
        """The module that has the name, or else the owner of the names."""
        return self.names.module or self.names.owner

    @property
    def is_shown(self) -> bool:
        """Whether the retiring version's value is in place: the host may have replaced it."""
        return self.current is self.hidden

    @property
    def current(self) -> Any:
        """The value that is in place."""
        return self.names.table().get(self.key, ABSENT)


class _ListCell:
    """A list with items of versions that retire or drain.

    Attributes:
        table: the list's table.
        owner: the object that has the list.
        key: the name of the list.
        hidden: the items of those versions.
        claimed: of these, the items that a new version has put in too: the very same objects.
        seen: the list that the new versions' thread sees, during a step.
        before: a copy of `seen` as the step began.
    """

    __slots__ = ("before", "claimed", "hidden", "key", "owner", "seen", "table")

    def __init__(self, table: ListTable) -> None:
        self.table: Final = table
        self.owner: Final = table.owner
        self.key: Final = table.key
        self.hidden: Final[list[Item]] = []
        self.claimed: Final[list[tuple[Item, Item]]] = []
        self.before: list[Any] = []
        self.seen: Any = self.before

    @property
    def is_shown(self) -> bool:
        """True: other threads may alter the list meanwhile, too."""
        return True

    def show(self, thread: int) -> None:
        """Have a thread see the list without the hidden items."""
        claimed = [old for old, _ in self.claimed]
        hidden = Counter(id(i.value) for i in self.hidden if i.is_in and i not in claimed)
        self.before = list(_without(self._real, hidden))
        self.seen = self.before.copy()
        with suppress(TypeError):  # of an owner that cannot have another class, all is seen
            see(thread, self)

    @property
    def _real(self) -> list[Any]:
        found: list[Any] = names_in(self.owner)[self.key]
        return found

    def end(self) -> Iterator[Entry]:
        """Do to the list what the thread did to its own; yields the items that were there."""
        before, self.before = self.before, []
        seen, self.seen = self.seen, before
        if not isinstance(seen, list):
            return  # there is no such attribute any more
        removed = list(_without(before, Counter(map(id, seen))))
        added = Counter(map(id, _without(seen, Counter(map(id, before)))))
        for item in removed:
            self.table.remove(item)
        real, at = self._real, 0
        for item in seen:
            if added[id(item)]:
                added[id(item)] -= 1
                old = next((i for i in self.hidden if i.value is item and i.is_in), None)
                if old is not None:
                    entry = self.table.entry(item, is_in=False)
                    assert entry.item is not None
                    self.claimed.append((old, entry.item))
                    yield entry
                    continue
                real.insert(at, item)
                at += 1
                self.table.altered()
            else:  # behind its neighbour
                at = next((n + 1 for n, other in enumerate(real) if other is item), at)

    def install(self) -> None:
        """Have the new versions own the objects that they have put in, too."""
        for old, new in self.claimed:
            if old.is_in:
                old.is_in, new.is_in = False, True


def _without(items: Iterable[Any], others: Counter[int]) -> Iterator[Any]:
    """Items without others, each as often as its `id` is counted."""
    left = others.copy()
    for item in items:
        if left[id(item)] > 0:
            left[id(item)] -= 1
        else:
            yield item


class TableSuccession:
    """The names and lists that the new versions of one change take over from the retiring ones.

    Args:
        retiring: the values that generations which retire or drain have put under names.
        items: the items that they have put into lists.
    """

    __slots__ = ("_cells", "_dispatch", "_lists", "_shown")

    def __init__(self, retiring: Iterable[Put], items: Iterable[Item] = ()) -> None:
        all_puts = list(retiring)
        puts = [put for put in all_puts if type(put.key) is str]
        cells = [
            _Cell(put.names, put.key, put.value, _found_before(put, puts))
            for put in puts
            if put.names.table().get(put.key, ABSENT) is put.value  # else replaced since
        ]
        self._cells: Final = [cell for cell in cells if _can_show(cell)]
        self._shown: list[_Cell] = []  # in the step that runs
        lists: dict[tuple[int, str], _ListCell] = {}
        for item in items:
            table = item.table
            if table.owner is not None:
                place = id(table.owner), table.key
                lists.setdefault(place, _ListCell(table)).hidden.append(item)
        self._lists: Final = tuple(lists.values())
        dispatch: dict[int, DispatchCell] = {}
        for put in all_puts:
            if isinstance(put.names, DispatchNames) and put.value is not ABSENT:
                cell = dispatch.setdefault(id(put.names.owner), DispatchCell(put.names))
                cell.hide(put.key, put.value, _found_before(put, all_puts))
        self._dispatch: Final = tuple(dispatch.values())

    def show(self) -> None:
        """Have this thread see the host's values, and those that new versions have set."""
        thread = threading.get_ident()
        for cell in self._cells:
            cell.before = cell.seen
            if not cell.is_shown:
                continue  # the host has replaced it meanwhile
            self._shown.append(cell)
            if cell.names.module is not None:
                see(thread, cell)
            else:
                cell.names.put(cell.key, _SeenInClass(cell, thread))
        for each in self._lists:
            each.show(thread)
        for function in self._dispatch:
            function.show(thread)

    def end(self, thread: int) -> list[Entry]:
        """Have a thread see the tables as they are again.

        Returns:
            The entries that it made meanwhile and that are not in place yet.
        """
        see_as_is(thread)
        entries: list[Entry] = []
        shown, self._shown = self._shown, []
        for cell in shown:
            if cell.names.module is None:
                current = cell.current
                if type(current) is not _SeenInClass:
                    cell.seen = current
                cell.names.put(cell.key, cell.hidden)
            if cell.seen is not cell.before:
                entries.append(cell.names.entry(cell.key, cell.before, cell.seen))
        for each in self._lists:
            entries.extend(each.end())
        for function in self._dispatch:
            function.end()
        return entries

    def install(self) -> None:
        """Put in place what the new versions have set: one store each."""
        for cell in self._cells:
            if cell.seen is not cell.found and cell.is_shown:
                cell.names.put(cell.key, cell.seen)
        for each in self._lists:
            each.install()


def _found_before(put: Put, retiring: Sequence[Put]) -> object:
    """The value that was there before any of the retiring generations replaced it."""
    found: Any = put.old
    for _ in retiring:  # they may have replaced one another's
        for other in retiring:
            same = other.names.owner is put.names.owner and is_same_key(other.key, put.key)
            if same and other is not put and other.value is found:
                found = other.old
                break
        else:
            break
    return found


def _can_show(cell: _Cell) -> bool:
    if cell.names.module is not None:
        return True
    if not isinstance(cell.names, ClassNames):
        return False
    if cell.key.startswith("__") and cell.key not in ("__init__", "__call__"):
        return False  # the interpreter looks some of them up past any descriptor
    # A property's setter would be passed over.
    return not any(
        hasattr(type(value), "__set__") or hasattr(type(value), "__delete__")
        for value in (cell.hidden, cell.found)
    )


# --- classes -------------------------------------------------------------------------------------


class _SeenInClass:
    """In a class, in the place of a retiring version's value: another value for one thread."""

    __slots__ = ("_cell", "_thread")

    def __init__(self, cell: _Cell, thread: int) -> None:
        self._cell: Final = cell
        self._thread: Final = thread

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        cell = self._cell
        value = cell.seen if threading.get_ident() == self._thread else cell.hidden
        if value is ABSENT:
            value = self._inherited(type(instance) if owner is None else owner)
        bind = getattr(type(value), "__get__", None)
        return value if bind is None else bind(value, instance, owner)

    def _inherited(self, owner: type) -> Any:
        mro: tuple[type, ...] = type.__dict__["__mro__"].__get__(owner)
        for base in mro[mro.index(self._cell.names.owner) + 1 :]:
            if self._cell.key in dict_of_type(base):
                return dict_of_type(base)[self._cell.key]
        raise AttributeError(self._cell.key)
