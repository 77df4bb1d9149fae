"""Attributes of modules and instances that one thread sees otherwise than all others.

While a new version links and initialises, its thread sees the host without its predecessor
(`table_succession`). For that time the owner of such an attribute gets a class of its own, in which
the name is a property that asks for the thread.

Code that reads an owner's dictionary itself sees the attribute as it is: functions of a module see
their own module so. The few of the standard library that plugins call for these attributes are
replaced for that thread (`_FUNCTIONS`).

Threads: ``_cells`` has an entry for each thread that sees something else, written by that thread,
or by the change's next one where the first was abandoned. ``_views`` is read and written under
``_lock``.
"""

from __future__ import annotations

import logging
import threading
import warnings
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal._core.generation.watched_table import ABSENT
from epochal._core.sync.forks import free_in_child

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


class Cell(Protocol):
    """An attribute that a thread sees otherwise.

    Attributes:
        seen: the value that the thread sees, and sets.
    """

    seen: Any

    @property
    def owner(self) -> Any:
        """The module or instance."""
        ...

    @property
    def key(self) -> str:
        """The attribute's name."""
        ...

    @property
    def is_shown(self) -> bool:
        """Whether the thread sees it still: the host may have replaced the attribute meanwhile."""
        ...


_cells: Final[dict[int, dict[tuple[int, str], Cell]]] = {}
_views: Final[dict[int, _View]] = {}
_lock: Final = free_in_child(threading.Lock())


class _View:
    """An owner's class for a time, in which some names depend on the thread."""

    def __init__(self, owner: Any) -> None:
        original: Any = type(owner)
        # Who asks `type(owner)` for another object gets one of the original class: in every thread
        # the import system makes its modules by `type(sys)(name)`.
        meta: Any = type(original)
        calling = {"__call__": lambda _, *args, **options: original(*args, **options)}
        making = {"__new__": lambda _, *args, **opts: original.__new__(original, *args, **opts)}
        made_of = type(meta.__name__, (meta,), calling)
        self.original: Final = original
        self.cls: Final = made_of(original.__name__, (original,), making)
        self.users = 0


def see(thread: int, cell: Cell) -> None:
    """Have a thread see another value, until `see_as_is`; the first cell of an attribute counts.

    Raises:
        TypeError: the owner cannot have another class.
    """
    cells, place = _cells.setdefault(thread, {}), (id(cell.owner), cell.key)
    if place in cells:
        return
    with _lock:
        view = _views.get(id(cell.owner)) or _View(cell.owner)
        setattr(view.cls, cell.key, _SeenByThread(cell.key))
        for name, function in _FUNCTIONS.get((id(cell.owner), cell.key), {}).items():
            setattr(view.cls, name, _ForThread(cell.key, name, function))
        object.__setattr__(cell.owner, "__class__", view.cls)
        view.users += 1
        _views[id(cell.owner)] = view
    cells[place] = cell


def see_as_is(thread: int) -> None:
    """Have a thread see every attribute as it is."""
    for cell in _cells.pop(thread, {}).values():
        with _lock:
            view = _views[id(cell.owner)]
            view.users -= 1
            if not view.users:
                del _views[id(cell.owner)]
                if type(cell.owner) is view.cls:
                    object.__setattr__(cell.owner, "__class__", view.original)


def _cell_of(owner: Any, key: str) -> Cell | None:
    """What this thread sees in an attribute, if it is not what is in place."""
    cells = _cells.get(threading.get_ident())
    cell = cells.get((id(owner), key)) if cells else None
    return cell if cell is not None and cell.is_shown else None


def names_in(owner: Any) -> dict[str, Any]:
    """The dictionary of a module or an instance."""
    names: dict[str, Any] = object.__getattribute__(owner, "__dict__")
    return names


class _SeenByThread:
    """In an owner's class: a name whose value depends on the thread."""

    def __init__(self, key: str) -> None:
        self._key: Final = key

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        if owner is None:
            return self
        cell = _cell_of(owner, self._key)
        value = names_in(owner).get(self._key, ABSENT) if cell is None else cell.seen
        if value is ABSENT:
            raise AttributeError(f"{owner!r} has no attribute {self._key!r}")
        return value

    def __set__(self, owner: Any, value: object) -> None:
        cell = _cell_of(owner, self._key)
        if cell is None:
            names_in(owner)[self._key] = value
        else:
            cell.seen = value

    def __delete__(self, owner: Any) -> None:
        cell = _cell_of(owner, self._key)
        if cell is not None:
            cell.seen = ABSENT
        elif names_in(owner).pop(self._key, ABSENT) is ABSENT:
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
        return self._function if sees else names_in(module)[self._name]

    def __set__(self, module: ModuleType, value: object) -> None:
        names_in(module)[self._name] = value


# These do what the module's own do, by way of the module's attributes.


def _set_record_factory(factory: Any) -> None:
    logging._logRecordFactory = factory  # type: ignore[attr-defined]  # noqa: SLF001


def _set_logger_class(klass: Any) -> None:
    if klass is not logging.Logger and not issubclass(klass, logging.Logger):
        raise TypeError(f"logger not derived from logging.Logger: {klass.__name__}")
    logging._loggerClass = klass  # type: ignore[attr-defined]  # noqa: SLF001


class _Attributes(dict[str, Any]):
    """Globals of a function that are the attributes of a module, as the thread sees them."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__()
        self._module: Final = module

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(self._module, name)
        except AttributeError:
            raise KeyError(name) from None  # a builtin


def _by_attributes(module: ModuleType, *names: str) -> dict[str, Callable[..., Any]]:
    """Functions of a module that read the module's attributes in place of its dictionary."""
    functions: dict[str, Callable[..., Any]] = {}
    for name in names:
        function = vars(module).get(name)
        if type(function) is FunctionType:
            copy = FunctionType(function.__code__, _Attributes(module), name, function.__defaults__)
            copy.__kwdefaults__ = function.__kwdefaults__
            functions[name] = copy
    return functions


_FUNCTIONS: Final[dict[tuple[int, str], dict[str, Callable[..., Any]]]] = {
    (id(logging), "_logRecordFactory"): {
        **_by_attributes(logging, "getLogRecordFactory"),
        "setLogRecordFactory": _set_record_factory,
    },
    (id(logging), "_loggerClass"): {
        **_by_attributes(logging, "getLoggerClass"),
        "setLoggerClass": _set_logger_class,
    },
    (id(warnings), "filters"): _by_attributes(
        warnings, "filterwarnings", "simplefilter", "resetwarnings", "_add_filter"
    ),
}
"""By the `id` of the module and the attribute: functions that go by way of the attribute."""
