"""The process's tables that plugin code may alter: which are watched, and their special rules.

`TABLES` lists them; to watch one more table, add a line there. Most are plain (`NamedTable`,
`ListTable`); `sys.modules`, the loggers and the finalizers have rules of their own, each with its
reason in its class.
"""

from __future__ import annotations

import builtins
import copyreg
import gc
import logging
import re
import sys
import threading
import warnings
import weakref
from collections import deque
from itertools import filterfalse
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from epochal._core.generation.watched_table import ABSENT, Entry, ListTable, NamedTable
from epochal._core.introspect.object_names import MODULE_OF_NAME, PublicView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from epochal._core.generation.watched_table import Owns, WatchedTable

_POLICY: Final = "_event_loop_policy"

_PRIVATE: Final = re.compile(r"[a-z][a-z0-9_]*__g\d+_[0-9a-f]{8}")
"""The private name of a module of a generation."""


class ModuleTable(NamedTable):
    """`sys.modules`: an import is ordinary; a replaced or hand-made module is a side effect.

    Generations' own modules are left out: a look that held them would keep them in memory. There
    may be ten thousand of these, and a change looks seven times. So the names of the last look are
    kept: where the table only grew since, only the new names are looked at.

    Any thread that looks replaces ``_seen``, whole; a reader sees the old tuple or the new one.
    ``_private`` is a cache: a name is private or not for every thread alike, and each access is one
    step of a set.
    """

    def __init__(self, label: str, table: Callable[[], dict[Any, Any]]) -> None:
        super().__init__(label, table)
        # All names in the table's order, the ordinary ones of them, and the private ones.
        self._seen: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        self._private: set[str] = set()

    def now(self) -> dict[Any, Any]:
        """A copy of the entries, without generations' own modules."""
        modules = self._table().copy()  # in one step: other threads import meanwhile
        names = list(modules)
        before, ordinary, private = self._seen
        if names[: len(before)] == before:
            new_ordinary, new_private = self._split(names[len(before) :])
            ordinary, private = ordinary + new_ordinary, private + new_private
        else:
            ordinary, private = self._split(names)
        self._seen = (names, ordinary, private)
        if len(self._private) > 2 * len(names):  # most are of generations that are gone
            self._private = self._private.intersection(names)
        if len(ordinary) < len(private):  # for the smaller group, and in C
            return dict(zip(ordinary, map(modules.__getitem__, ordinary), strict=True))
        deque(map(modules.__delitem__, private), maxlen=0)
        return modules

    def _split(self, names: list[Any]) -> tuple[list[Any], list[Any]]:
        """The ordinary and the private ones of some names."""
        known = self._private
        private = list(filter(known.__contains__, names))
        ordinary = []
        for name in filterfalse(known.__contains__, names):
            if type(name) is str and "__g" in name and _PRIVATE.match(name):
                known.add(name)
                private.append(name)
            else:
                ordinary.append(name)
        return ordinary, private

    def owned(self, now: dict[Any, Any], owns: Owns) -> Iterator[Entry]:
        """The modules that are the plugin's."""
        # Nearly all modules have an ordinary name of their own, or are views, and cannot be the
        # plugin's.
        candidates = {
            key: module
            for key, module in now.items()
            if not issubclass(type(module), PublicView)
            and (
                type(module) is not ModuleType
                or type(name := module.__dict__.get("__name__")) is not str
                or id(name) in MODULE_OF_NAME
            )
        }
        return super().owned(candidates, owns)

    def is_ordinary(self, key: Any, value: object) -> bool:
        """Whether an import made the entry: under its own name, an alias, or within its package.

        (`os.path` is `posixpath`; `pyexpat` makes `pyexpat.errors` by hand.)
        """
        if not issubclass(type(value), ModuleType) or not issubclass(type(key), str):
            return False
        name = getattr(getattr(value, "__spec__", None), "name", None)
        aliases = (name, getattr(value, "__name__", None))  # `__mp_main__` is `__main__`
        if name == key or any(other != key and self._is(other, value) for other in aliases):
            return True
        top = key.partition(".")[0]
        return top != key and self._is_top(top)

    def _is(self, name: object, module: object) -> bool:
        return type(name) is str and self._table().get(name) is module

    def _is_top(self, name: str) -> bool:
        spec = getattr(self._table().get(name), "__spec__", None)
        return getattr(spec, "name", None) == name


class LoggerTable(NamedTable):
    """All loggers, which `logging` never forgets: those of the plugin's own class are taken out.

    Any other logger belongs to every part of the process: the first `getLogger` makes it for all.
    """

    def is_ordinary(self, key: Any, value: object) -> bool:
        """True: see the class."""
        return True

    def entry(self, key: Any, old: object, value: object) -> Entry:
        """The way to take one out; its children become children of its parent."""
        entry = super().entry(key, old, value)

        def undo() -> bool:
            if not entry.undo():
                return False
            table, removed = self._table(), cast("Any", value)
            for other in list(table.values()):
                if type(other) is logging.PlaceHolder:
                    other.loggerMap.pop(removed, None)
                elif vars(other).get("parent") is removed:
                    other.parent = removed.parent
                    # The next logger of this name gets its place in the tree.
                    table.setdefault(key, logging.PlaceHolder(other)).append(other)
            return True

        return Entry(entry.description, undo)


class PolicyTable(NamedTable):
    """asyncio's policy of event loops; the default one is made by the first code that needs it."""

    def __init__(self) -> None:
        super().__init__("asyncio{}", lambda: _names_of("asyncio.events"), frozenset({_POLICY}))

    def now(self) -> dict[Any, Any]:
        """The policy, if one was set."""
        return {key: policy for key, policy in super().now().items() if policy is not None}

    def put(self, key: Any, value: object) -> None:
        """Set a policy; `ABSENT` for the default one."""
        super().put(key, None if value is ABSENT else value)

    def is_ordinary(self, key: Any, value: object) -> bool:
        """Whether it is the default one, which every loop of the process goes on with."""
        return type(value) is _names_of("asyncio").get("DefaultEventLoopPolicy")


class FinalizerTable(ListTable):
    """`weakref.finalize`: the process's exit runs them, and a generation's exit runs its own.

    Libraries make them, too, so time says nothing: only the code that a finalizer would run does.
    """

    def changed(self, before: list[Any], after: list[Any]) -> Iterator[Entry]:
        """None: see the class."""
        return iter(())

    def owned(self, now: list[Any], owns: Owns) -> Iterator[Entry]:
        """The finalizers that would run the plugin's code, newest first."""
        for finalizer in reversed(now):
            alive = finalizer.peek()
            if alive is not None and owns(alive[1]):
                yield self._ending(finalizer, alive[1])

    def _ending(self, finalizer: weakref.finalize[Any, Any], function: Any) -> Entry:
        def undo() -> bool:
            if not finalizer.alive:
                return False
            if finalizer.atexit:
                finalizer()
            else:
                finalizer.detach()
            return True

        ended = "which was run" if finalizer.atexit else "which was let go, as it asks for at exit"
        return Entry(f"{self.describe(function)}, {ended}", undo)


def _refresh_threads() -> None:
    """Have no thread keep the hooks that were in place when it was made.

    `threading.Thread` keeps `sys.excepthook`, `threading.excepthook`, `print` and `sys.stderr` of
    that moment, for an error while the interpreter shuts down. So each thread that was made while a
    plugin had a hook in place would keep the plugin in memory, for as long as the thread lives.
    """
    for thread in threading.enumerate():
        names = vars(thread)
        if "_invoke_excepthook" in names and "_stderr" in names:
            thread._invoke_excepthook = threading._make_invoke_excepthook()  # type: ignore[attr-defined]  # noqa: SLF001
            thread._stderr = sys.stderr  # type: ignore[attr-defined]  # noqa: SLF001


def _names_of(module: str) -> dict[str, Any]:
    """A module's names; none if it is not imported: a host without a loop need not pay for it."""
    return vars(sys.modules[module]) if module in sys.modules else {}


def _kept_originals(module: ModuleType, names: frozenset[str]) -> dict[str, Any]:
    """The interpreter's own values: `sys.__stderr__`, `threading.__excepthook__`."""
    originals = {name: vars(module).get(f"__{name}__") for name in names}
    return {name: value for name, value in originals.items() if value is not None}


_builtins: Final[dict[str, Any]] = builtins.__dict__
# `weakref.finalize` keeps these; they have no public name.
_finalizers: Final[dict[Any, Any]] = weakref.finalize._registry  # type: ignore[attr-defined]  # noqa: SLF001
_SYS: Final = frozenset(
    {
        "excepthook",
        "unraisablehook",
        "displayhook",
        "breakpointhook",
        "__interactivehook__",
        "stdout",
        "stderr",
        "stdin",
        "path",
    }
)
_THREADING: Final = frozenset({"excepthook"})
_TRACERS: Final = {"_trace_hook": None, "_profile_hook": None}
_WARNINGS: Final = {
    "showwarning": warnings._showwarning_orig,  # type: ignore[attr-defined]  # noqa: SLF001
    "formatwarning": warnings._formatwarning_orig,  # type: ignore[attr-defined]  # noqa: SLF001
}
_LOGGING: Final = {"_loggerClass": logging.Logger, "_logRecordFactory": logging.LogRecord}

BUILTINS: Final = NamedTable(
    "builtin {}",
    lambda: _builtins,
    original=dict(_builtins),
    undone=_refresh_threads,
    module=builtins,
)

_LISTS: Final = (
    ListTable.of("sys.path entry", sys, "path"),
    ListTable.of("import finder", sys, "meta_path", sys.path_importer_cache.clear),
    ListTable.of("path hook", sys, "path_hooks", sys.path_importer_cache.clear),
    ListTable.of("collector callback", gc, "callbacks"),
    ListTable.of(
        "warnings filter",
        warnings,
        "filters",
        lambda: warnings._filters_mutated(),  # type: ignore[attr-defined]  # noqa: SLF001
    ),
)

TABLES: Final[tuple[WatchedTable, ...]] = (
    BUILTINS,
    NamedTable(
        "sys.{}",
        lambda: sys.__dict__,
        _SYS,
        _kept_originals(sys, _SYS),
        undone=_refresh_threads,
        module=sys,
    ),
    NamedTable(
        "threading.{}",
        lambda: threading.__dict__,
        _THREADING | _TRACERS.keys(),
        _kept_originals(threading, _THREADING) | _TRACERS,
        undone=_refresh_threads,
        module=threading,
    ),
    NamedTable(
        "logging.{}", lambda: logging.__dict__, frozenset(_LOGGING), _LOGGING, module=logging
    ),
    LoggerTable("logger {} of a class of its own", lambda: logging.root.manager.loggerDict),
    ListTable(
        "unittest module cleanup",
        lambda: _names_of("unittest.case").get("_module_cleanups", []),
    ),
    FinalizerTable("finalizer", lambda: list(_finalizers)),
    NamedTable(
        "warnings.{}", lambda: warnings.__dict__, frozenset(_WARNINGS), _WARNINGS, module=warnings
    ),
    ModuleTable("sys.modules entry {}", lambda: sys.modules),
    NamedTable("copyreg reducer of {}", lambda: cast("dict[Any, Any]", copyreg.dispatch_table)),
    PolicyTable(),
    *_LISTS,
)
"""The tables that are always there, looked at in this order and undone in it."""


def logger_tables() -> dict[str, WatchedTable]:
    """The handlers and filters of every logger that has any: most have none."""
    tables: dict[str, WatchedTable] = {}
    loggers: list[Any] = [logging.root, *list(logging.root.manager.loggerDict.values())]
    for logger in loggers:
        if not isinstance(logger, logging.Logger) or not (logger.handlers or logger.filters):
            continue
        for word in ("handler", "filter"):
            label = f"logging {word} of logger {logger.name!r}:"
            tables[f"{word} {logger.name}"] = ListTable.of(label, logger, f"{word}s")
        for handler in logger.handlers:
            label = f"logging filter of a handler of logger {logger.name!r}:"
            tables[f"filter {id(handler)}"] = ListTable.of(label, handler, "filters")
    return tables


def is_watched(module: ModuleType, key: object) -> bool:
    """Whether a name of a module is an entry of one of the tables."""
    return module is builtins or (module.__dict__.get("__name__"), key) in _WATCHED


_WATCHED: Final = frozenset(
    {("sys", "modules")}
    | {(table.owner.__name__, table.key) for table in _LISTS}
    | {
        (table.module.__name__, name)
        for table in TABLES
        if isinstance(table, NamedTable) and table.module is not None
        for name in table.names or ()
    }
)


def host_builtins() -> dict[str, Any]:
    """A copy of the builtins without the entries that loaded plugins have put there."""
    return BUILTINS.without_puts()


def restore_builtins(
    before: dict[Any, Any], imports: Sequence[tuple[dict[Any, Any], dict[Any, Any]]] = ()
) -> list[Entry]:
    """Put builtins back that plugin code replaced before it failed.

    Args:
        before: a look at all tables, by table.
        imports: two looks at the builtins for each import of a library, whose changes stay.

    Returns:
        An entry for each, which is already undone.
    """
    # Nothing in here may call a builtin function: each may be the one that was replaced.
    restored: list[Entry] = []
    old = before[BUILTINS]
    for was, now in imports:
        for name in now:
            if was.get(name) is not now[name]:
                old[name] = now[name]
    for name in old:
        if _builtins.get(name) is not old[name]:
            _builtins[name] = old[name]
            restored.append(Entry(BUILTINS.describe(name), _was_undone))
    return restored


def _was_undone() -> bool:
    return True
