"""What a new version sees where its predecessor has replaced something of the host's.

The problem: a hook that calls "the one before" (`sys.excepthook`, `sys.stdout`, the factory of log
records, a patched method) would take its predecessor's for the host's. After five reloads a log
record would go through six versions, five of them shut down. Taking the predecessor's hook away
while the new version links would leave the host's other threads without one.

The idea: let one thread see another value. While a new version links and initialises, its thread
sees the value that the replaced versions had found; every other thread sees the table as it is.

- **Attributes of a module** (`sys.excepthook`): the module gets a class for that time, in which the
  name is a property that asks for the thread. What the new version sets is kept aside.
- **Attributes of a class** (`Router.resolve`): the class gets a descriptor that asks for the
  thread. Setting an attribute cannot be intercepted there, so from then to the end of the step the
  new version's value, over the host's, is what every thread gets.

At the end of each step the tables are as they were, and the values aside. They are put in place as
the change is published. A change that is refused has touched nothing of its predecessor's.

Code that reads the module's dictionary itself sees the table as it is: the interpreter (`print`
finds the predecessor's `sys.stdout`), and functions of the module. So the four functions of
`logging` for its record factory and its logger class are replaced for that thread.

Threads: a cell belongs to the change's thread, which alone reads ``seen`` and writes it. ``_cells``
has an entry for each such thread, written by that thread, or by the change's next one where the
first was abandoned. ``_views`` is read and written under ``_lock``.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.host_names import ClassNames
from epochal._core.generation.watched_table import ABSENT
from epochal._core.introspect.object_names import dict_of_type
from epochal._core.sync.forks import free_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

    from epochal._core.generation.watched_table import Entry, Names, Put


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
    def current(self) -> Any:
        """The value that is in place."""
        return self.names.table().get(self.key, ABSENT)


class TableSuccession:
    """The names that the new versions of one change take over from the retiring ones.

    Args:
        retiring: the values that the retiring generations have put under names.
    """

    __slots__ = ("_shown",)

    def __init__(self, retiring: Iterable[Put]) -> None:
        puts = [put for put in retiring if type(put.key) is str]
        cells = [
            _Cell(put.names, put.key, put.value, _found_before(put, puts))
            for put in puts
            if put.names.table().get(put.key, ABSENT) is put.value  # else replaced since
        ]
        self._shown: Final = [cell for cell in cells if _can_show(cell)]

    def show(self) -> None:
        """Have this thread see the host's values, and those that new versions have set."""
        if not self._shown:
            return
        thread = threading.get_ident()
        cells = _cells[thread] = {}
        for cell in self._shown:
            cell.before = cell.seen
            if cell.current is not cell.hidden:
                continue  # the host has replaced it meanwhile
            module = cell.names.module
            cells[id(module or cell.names.owner), cell.key] = cell
            if module is None:
                cell.names.put(cell.key, _SeenInClass(cell, thread))
            else:
                _open_view(module, cell.key)

    def end(self, thread: int) -> list[Entry]:
        """Have a thread see the tables as they are again.

        Returns:
            The entries that it made meanwhile; they are not in place yet.
        """
        entries: list[Entry] = []
        for cell in _cells.pop(thread, {}).values():
            if cell.names.module is not None:
                _close_view(cell.names.module)
            else:
                current = cell.current
                if type(current) is not _SeenInClass:
                    cell.seen = current
                cell.names.put(cell.key, cell.hidden)
            if cell.seen is not cell.before:
                entries.append(cell.names.entry(cell.key, cell.before, cell.seen))
        return entries

    def install(self) -> None:
        """Put in place what the new versions have set: one store each."""
        for cell in self._shown:
            if cell.seen is not cell.found and cell.current is cell.hidden:
                cell.names.put(cell.key, cell.seen)


def _found_before(put: Put, retiring: Sequence[Put]) -> object:
    """The value that was there before any of the retiring generations replaced it."""
    found: Any = put.old
    for _ in retiring:  # they may have replaced one another's
        for other in retiring:
            same = other.names.owner is put.names.owner and other.key == put.key
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


# --- modules -------------------------------------------------------------------------------------

_cells: Final[dict[int, dict[tuple[int, str], _Cell]]] = {}
_views: Final[dict[int, _ModuleView]] = {}
_lock: Final = free_in_child(threading.Lock())


class _ModuleView:
    """A module's class for a time, in which some names depend on the thread."""

    def __init__(self, module: ModuleType) -> None:
        self.module: Final = module
        self.original: Final = type(module)
        self.cls: Final = type(self.original.__name__, (self.original,), {})
        self.users = 0


def _open_view(module: ModuleType, key: str) -> None:
    with _lock:
        view = _views.get(id(module))
        if view is None:
            view = _views[id(module)] = _ModuleView(module)
        view.users += 1
        setattr(view.cls, key, _SeenInModule(key))
        for name, function in _FUNCTIONS.get((module, key), {}).items():
            setattr(view.cls, name, _ForThread(key, name, function))
        object.__setattr__(module, "__class__", view.cls)


def _close_view(module: ModuleType) -> None:
    with _lock:
        view = _views[id(module)]
        view.users -= 1
        if not view.users:
            del _views[id(module)]
            if type(module) is view.cls:
                object.__setattr__(module, "__class__", view.original)


def _cell_of(module: ModuleType, key: str) -> _Cell | None:
    """What this thread sees under a name of a module, if it is not what is in place."""
    cells = _cells.get(threading.get_ident())
    cell = cells.get((id(module), key)) if cells else None
    return cell if cell is not None and cell.current is cell.hidden else None


def _names(module: ModuleType) -> dict[str, Any]:
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return names


class _SeenInModule:
    """In a module's class: a name whose value depends on the thread."""

    def __init__(self, key: str) -> None:
        self._key: Final = key

    def __get__(self, module: ModuleType | None, owner: type | None = None) -> Any:
        if module is None:
            return self
        cell = _cell_of(module, self._key)
        value = _names(module).get(self._key, ABSENT) if cell is None else cell.seen
        if value is ABSENT:
            raise AttributeError(f"module {module.__name__!r} has no attribute {self._key!r}")
        return value

    def __set__(self, module: ModuleType, value: object) -> None:
        cell = _cell_of(module, self._key)
        if cell is None:
            _names(module)[self._key] = value
        else:
            cell.seen = value

    def __delete__(self, module: ModuleType) -> None:
        cell = _cell_of(module, self._key)
        if cell is not None:
            cell.seen = ABSENT
        elif _names(module).pop(self._key, ABSENT) is ABSENT:
            raise AttributeError(self._key)


class _ForThread:
    """In a module's class: a function for the threads that see another value, the module's else."""

    def __init__(self, key: str, name: str, function: Callable[..., Any]) -> None:
        self._key: Final = key
        self._name: Final = name
        self._function: Final = function

    def __get__(self, module: ModuleType | None, owner: type | None = None) -> Any:
        if module is None:
            return self
        sees = _cell_of(module, self._key) is not None
        return self._function if sees else _names(module)[self._name]

    def __set__(self, module: ModuleType, value: object) -> None:
        _names(module)[self._name] = value


# These do what the module's own do, by way of the module's attributes.


def _get_record_factory() -> Any:
    return logging._logRecordFactory  # type: ignore[attr-defined]  # noqa: SLF001  its only name


def _set_record_factory(factory: Any) -> None:
    logging._logRecordFactory = factory  # type: ignore[attr-defined]  # noqa: SLF001


def _get_logger_class() -> Any:
    return logging._loggerClass  # type: ignore[attr-defined]  # noqa: SLF001  its only name


def _set_logger_class(klass: Any) -> None:
    if klass is not logging.Logger and not issubclass(klass, logging.Logger):
        raise TypeError(f"logger not derived from logging.Logger: {klass.__name__}")
    logging._loggerClass = klass  # type: ignore[attr-defined]  # noqa: SLF001


_FUNCTIONS: Final[dict[tuple[ModuleType, str], dict[str, Callable[..., Any]]]] = {
    (logging, "_logRecordFactory"): {
        "getLogRecordFactory": _get_record_factory,
        "setLogRecordFactory": _set_record_factory,
    },
    (logging, "_loggerClass"): {
        "getLoggerClass": _get_logger_class,
        "setLoggerClass": _set_logger_class,
    },
}
