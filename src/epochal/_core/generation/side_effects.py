"""What a generation left in the process's own tables, and how it is taken out again.

The problem: plugin code registers things behind the runtime's back: an exit hook, a log handler, a
warnings filter, a replaced builtin. Each outlives the generation, keeps its memory, and piles up
with every reload.

The idea: look at those tables just before and just after the plugin's code runs in a change (link,
init, shutdown). What appeared in between is the generation's, and goes when it goes, newest first.
What it registers later, inside a call, is found at the end by whose code it is.

An entry is undone only if it is still there as the plugin left it: if somebody has since replaced
it, it is theirs. (Exit hooks cannot be listed; `loaders._exit_hooks` runs them.)

Honest limit: what another thread of the host registers in the very milliseconds in which a plugin
is linked counts as the plugin's. Register process-wide things before you load plugins, or after.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import filterfalse
from operator import is_
from types import BuiltinFunctionType, FunctionType, MappingProxyType, ModuleType
from typing import Any, Final, TypeAlias, cast

from epochal._core.introspect.referrers import is_a, type_name
from epochal._core.introspect.tracebacks import format_error
from epochal._core.sync.weak_registry import WeakRegistry

Owns: TypeAlias = Callable[[object], bool]
"""Whether an object was defined by the generation's code."""

_ABSENT: Final = object()


@dataclass(slots=True)
class Entry:
    """One thing that a generation put into a table of the process.

    Attributes:
        said: what it is, in a person's words.
        undo: takes it out; returns False if it is not there any more as the plugin left it.
    """

    said: str
    undo: Callable[[], bool]


class _Put:
    """What a generation put under a name, and what stood there before.

    `old` is altered under its table's lock: where two generations replaced one after another, and
    the first goes first, the second is left with what the first had found.
    """

    __slots__ = ("__weakref__", "key", "old", "value")

    def __init__(self, key: Any, old: object, value: object) -> None:
        self.key: Final = key
        self.old = old
        self.value: Final = value


class Keyed:
    """A table with names: builtins, hooks of `sys`, `sys.modules`.

    Args:
        said: what an entry is called, with `{}` for its name.
        table: gives the table.
        names: the names that count; None for all.
        original: what stands under a name where nobody has put anything, if anything does.
    """

    def __init__(
        self,
        said: str,
        table: Callable[[], dict[Any, Any]],
        names: frozenset[str] | None = None,
        original: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._said: Final = said
        self._table: Final = table
        self._names: Final = names
        self._original: Final = original
        self.puts: Final[WeakRegistry[_Put]] = WeakRegistry()
        self._lock: Final = threading.Lock()

    def now(self) -> dict[Any, Any]:
        """The entries as they stand."""
        if self._names is None:
            return dict(self._table())
        table = self._table()
        return {name: table[name] for name in self._names if name in table}

    def changed(self, before: dict[Any, Any], after: dict[Any, Any]) -> Iterator[Entry]:
        """What was set between two looks."""
        if _is_same(before, after):
            return
        for key, value in after.items():
            old = before.get(key, _ABSENT)
            if old is value:
                continue
            if not (old is _ABSENT and self.is_ordinary(key, value)):
                yield self.entry(key, old, value)
        for key in before.keys() - after.keys():
            yield self.entry(key, before[key], _ABSENT)

    def owned(self, now: dict[Any, Any], owns: Owns) -> Iterator[Entry]:
        """What is there now and is the plugin's, or is under a name that is the plugin's."""
        for key, value in now.items():
            if owns(value) or (not isinstance(key, str) and owns(key)):
                # What stood there before was not seen. `sys.stderr` may not go without one.
                yield self.entry(key, self._original.get(key, _ABSENT), value)

    def is_ordinary(self, key: Any, value: object) -> bool:
        """Whether something new is nothing to undo."""
        return False

    def entry(self, key: Any, old: object, value: object) -> Entry:
        """How to undo one."""
        put = _Put(key, old, value)
        self.puts.add(put)
        return Entry(self.said(key), lambda: self._take_out(put))

    def _take_out(self, put: _Put) -> bool:
        # The hash of a key that is no text may be foreign code.
        with self._lock if type(put.key) is str else nullcontext():
            table = self._table()
            if table.get(put.key, _ABSENT) is not put.value:
                for later in self.puts.live():
                    if later.old is put.value and later.key == put.key:
                        later.old = put.old
                return False
            if put.old is _ABSENT:
                table.pop(put.key, None)
            else:
                table[put.key] = put.old
            return True

    def said(self, key: Any) -> str:
        """An entry in a person's words."""
        name = key if type(key) is str else type_name(key) if is_a(key, type) else "?"
        return self._said.format(name)


def _is_same(before: dict[Any, Any], after: dict[Any, Any]) -> bool:
    """Whether two looks saw the very same, without asking foreign code what is equal."""
    return (
        len(before) == len(after)
        and all(map(is_, before, after))
        and all(map(is_, before.values(), after.values()))
    )


_PRIVATE: Final = re.compile(r"[a-z][a-z0-9_]*__g\d+_[0-9a-f]{8}")


class Modules(Keyed):
    """`sys.modules`: an import is nothing to undo; a replaced or hand-made module is.

    Generations' own modules are left out: a look that held them would keep them in memory. There
    may be ten thousand of these, and a change looks seven times. So what the last look saw is kept,
    as names: where the table only grew since, the new names alone are looked at.

    Who reads, who writes: ``_seen`` is replaced whole by any thread that looks; ``_private`` is a
    cache of names that are private whoever asks, each step of it one step.
    """

    def __init__(self, said: str, table: Callable[[], dict[Any, Any]]) -> None:
        super().__init__(said, table)
        # All names, in the table's order; those that are ordinary, and those that are private.
        self._seen: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        self._private: set[str] = set()

    def now(self) -> dict[Any, Any]:
        """The entries as they stand."""
        found = self._table().copy()  # in one step: others import and forget meanwhile
        names = list(found)
        before, ordinary, private = self._seen
        if names[: len(before)] == before:
            newly = self._apart(names[len(before) :])
            ordinary, private = ordinary + newly[0], private + newly[1]
        else:
            ordinary, private = self._apart(names)
        self._seen = (names, ordinary, private)
        if len(self._private) > 2 * len(names):  # most are of generations that are gone
            self._private = self._private.intersection(names)
        if len(ordinary) < len(private):  # a step for each of those that are fewer
            return {name: found[name] for name in ordinary}
        for name in private:
            del found[name]
        return found

    def _apart(self, names: list[Any]) -> tuple[list[Any], list[Any]]:
        """Those of some names that are ordinary, and those that are private."""
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
        """What is there now and is the plugin's."""
        # A module with an ordinary name of its own is nobody's, and nearly all are such.
        found = {
            key: module
            for key, module in now.items()
            if type(module) is not ModuleType
            or type(name := module.__dict__.get("__name__")) is not str
            or "__g" in name
        }
        return super().owned(found, owns)

    def is_ordinary(self, key: Any, value: object) -> bool:
        """Whether an import made it: it has its own name, or another's besides, or a package's.

        (`os.path` is `posixpath`; `pyexpat` makes `pyexpat.errors` by hand.)
        """
        if not is_a(value, ModuleType) or type(key) is not str:
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


class Listed:
    """A table in order: callbacks, filters, handlers, paths.

    Args:
        said: what an entry is called.
        table: gives the list.
        altered: called after an entry was taken out.
    """

    def __init__(
        self,
        said: str,
        table: Callable[[], list[Any]],
        altered: Callable[[], object] = lambda: None,
    ) -> None:
        self._said: Final = said
        self._table: Final = table
        self._altered: Final = altered

    def now(self) -> list[Any]:
        """The entries as they stand."""
        return list(self._table())

    def changed(self, before: list[Any], after: list[Any]) -> Iterator[Entry]:
        """What was added between two looks."""
        known = set(map(id, before))
        return (self.entry(item) for item in after if id(item) not in known)

    def owned(self, now: list[Any], owns: Owns) -> Iterator[Entry]:
        """What is there now and is the plugin's, or (a filter) has a part that is."""
        for item in now:
            if owns(item) or (type(item) is tuple and any(map(owns, item))):
                yield self.entry(item)

    def entry(self, item: Any) -> Entry:
        """How to undo one."""

        def undo() -> bool:
            table = self._table()
            for index, other in enumerate(table):
                if other is item:
                    del table[index]
                    self._altered()
                    return True
            return False

        return Entry(f"{self._said} {_named(item)}", undo)


class Loggers(Keyed):
    """All loggers, which `logging` keeps for ever: those of the plugin's own class are its own."""

    def is_ordinary(self, key: Any, value: object) -> bool:
        """Whoever asks for a logger first makes it, for everybody."""
        return True

    def entry(self, key: Any, old: object, value: object) -> Entry:
        """How to take one out: those below it hang on the one above it from then on."""
        entry = super().entry(key, old, value)

        def undo() -> bool:
            if not entry.undo():
                return False
            table, gone = self._table(), cast("Any", value)
            for other in list(table.values()):
                if type(other) is logging.PlaceHolder:
                    other.loggerMap.pop(gone, None)
                elif vars(other).get("parent") is gone:
                    other.parent = gone.parent
                    # Whoever asks for this name next gets its place in the tree.
                    table.setdefault(key, logging.PlaceHolder(other)).append(other)
            return True

        return Entry(entry.said, undo)


class Finalizers(Listed):
    """`weakref.finalize`: the process's exit runs them, and a generation's exit its own."""

    def changed(self, before: list[Any], after: list[Any]) -> Iterator[Entry]:
        """Whose they are is known by their code alone: libraries make them, too."""
        return iter(())

    def owned(self, now: list[Any], owns: Owns) -> Iterator[Entry]:
        """Those that would run the plugin's code, newest first."""
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
        return Entry(f"{self._said} {_named(function)}, {ended}", undo)


Table: TypeAlias = Keyed | Listed

_SYS_HOOKS: Final = frozenset(
    {"excepthook", "unraisablehook", "displayhook", "breakpointhook", "__interactivehook__"}
)
_builtins: Final[dict[str, Any]] = builtins.__dict__
_BUILTINS: Final = Keyed("builtin {}", lambda: _builtins, original=dict(_builtins))


def host_builtins() -> dict[str, Any]:
    """A copy of the builtins without what loaded plugins have put there."""
    found = dict(_builtins)
    for put in reversed(_BUILTINS.puts.live()):
        if found.get(put.key, _ABSENT) is put.value:
            if put.old is _ABSENT:
                del found[put.key]
            else:
                found[put.key] = put.old
    return found


def _of_module(name: str, attribute: str) -> Any:
    """A list of a module's, where that is imported."""
    return vars(sys.modules[name]).get(attribute, []) if name in sys.modules else []


# What `weakref.finalize` keeps; it has no public name.
_finalizers: Final[dict[Any, Any]] = weakref.finalize._registry  # type: ignore[attr-defined]  # noqa: SLF001


def _kept_originals(module: ModuleType, names: frozenset[str]) -> dict[str, Any]:
    """What the interpreter keeps as `sys.__stderr__`, `threading.__excepthook__`."""
    found = {name: vars(module).get(f"__{name}__") for name in names}
    return {name: value for name, value in found.items() if value is not None}


_WARNINGS: Final = {
    "showwarning": warnings._showwarning_orig,  # type: ignore[attr-defined]  # noqa: SLF001
    "formatwarning": warnings._formatwarning_orig,  # type: ignore[attr-defined]  # noqa: SLF001
}
_SYS: Final = _SYS_HOOKS | {"stdout", "stderr", "stdin", "path"}
_THREADING: Final = frozenset({"excepthook"})
_TRACERS: Final = {"_trace_hook": None, "_profile_hook": None}
_LOGGING: Final = {"_loggerClass": logging.Logger, "_logRecordFactory": logging.LogRecord}
_TABLES: Final[tuple[Table, ...]] = (
    _BUILTINS,
    Keyed("sys.{}", lambda: sys.__dict__, _SYS, _kept_originals(sys, _SYS)),
    Keyed(
        "threading.{}",
        lambda: threading.__dict__,
        _THREADING | _TRACERS.keys(),
        _kept_originals(threading, _THREADING) | _TRACERS,
    ),
    Keyed("logging.{}", lambda: logging.__dict__, frozenset(_LOGGING), _LOGGING),
    Loggers("logger {} of a class of its own", lambda: logging.root.manager.loggerDict),
    Listed("unittest module cleanup", lambda: _of_module("unittest.case", "_module_cleanups")),
    Finalizers("finalizer", lambda: list(_finalizers)),
    Keyed("warnings.{}", lambda: warnings.__dict__, frozenset(_WARNINGS), _WARNINGS),
    Modules("sys.modules entry {}", lambda: sys.modules),
    Keyed("copyreg reducer of {}", lambda: cast("dict[Any, Any]", copyreg.dispatch_table)),
    Listed("sys.path entry", lambda: sys.path),
    Listed("import finder", lambda: sys.meta_path, sys.path_importer_cache.clear),
    Listed("path hook", lambda: sys.path_hooks, sys.path_importer_cache.clear),
    Listed("collector callback", lambda: gc.callbacks),
    Listed(
        "warnings filter",
        lambda: cast("list[Any]", warnings.filters),
        lambda: warnings._filters_mutated(),  # type: ignore[attr-defined]  # noqa: SLF001
    ),
)


def _restored(before: dict[str, Any]) -> list[Entry]:
    """Put builtins back that plugin code replaced before it failed.

    Nothing in here may call a builtin function.
    """
    restored: list[Entry] = []
    for name in before:
        if _builtins.get(name) is not before[name]:
            _builtins[name] = before[name]
            restored.append(Entry(_BUILTINS.said(name), _was_undone))
    return restored


def _was_undone() -> bool:
    return True


def _logger_tables() -> dict[str, Table]:
    """Handlers and filters of every logger that has any: most have none."""
    tables: dict[str, Table] = {}
    loggers: list[Any] = [logging.root, *list(logging.root.manager.loggerDict.values())]
    for logger in loggers:
        if not isinstance(logger, logging.Logger) or not (logger.handlers or logger.filters):
            continue
        for word, items in (("handler", logger.handlers), ("filter", logger.filters)):
            said = f"logging {word} of logger {logger.name!r}:"
            tables[f"{word} {logger.name}"] = Listed(said, lambda items=items: items)  # type: ignore[misc]
        for handler in logger.handlers:
            said = f"logging filter of a handler of logger {logger.name!r}:"
            tables[f"filter {id(handler)}"] = Listed(said, lambda h=handler: h.filters)  # type: ignore[misc]
    return tables


class Footprint:
    """What one generation left in the process's tables.

    Used by one thread at a time, the change's: `with footprint.noting(): …` around plugin code.
    """

    __slots__ = ("_before", "_entries")

    def __init__(self) -> None:
        self._entries: Final[list[Entry]] = []
        self._before: dict[Any, Any] = {}

    def __enter__(self) -> None:
        self._before = {table: table.now() for table in _TABLES}
        self._before |= {name: table.now() for name, table in _logger_tables().items()}

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        before, self._before = self._before, {}
        if kind is not None:
            # First of all, since the machinery that undoes the rest may need them.
            self._entries.extend(_restored(before[_BUILTINS]))
        for table in _TABLES:
            self._entries.extend(table.changed(before[table], cast("Any", table.now())))
        for name, table in _logger_tables().items():
            self._entries.extend(table.changed(before.get(name, []), cast("Any", table.now())))

    def undo(self, owns: Owns) -> tuple[list[str], list[str]]:
        """Take everything out, newest first; what appeared later is known by whose code it is.

        Returns:
            What was taken out, and what raised meanwhile, a line each.
        """
        cleaned_up: list[str] = []
        failures: list[str] = []
        while self._entries:
            _undo(self._entries.pop(), cleaned_up, failures)
        for table in (*_TABLES, *_logger_tables().values()):
            for entry in list(table.owned(cast("Any", table.now()), owns)):
                _undo(entry, cleaned_up, failures)
        return cleaned_up, failures


def _undo(entry: Entry, cleaned_up: list[str], failures: list[str]) -> None:
    try:
        if entry.undo():
            cleaned_up.append(entry.said)
    except BaseException as error:  # noqa: BLE001  the table's own code; the rest goes on
        failures.append(f"{entry.said} raised {format_error(error)}")


def _named(item: Any) -> str:
    """An entry in a person's words, without its own `__repr__`, which may be hostile."""
    if isinstance(item, str):
        return repr(item)
    if is_a(item, type):
        return type_name(item)
    if type(item) in (FunctionType, BuiltinFunctionType):
        return f"{item.__module__}.{item.__qualname__}"
    if type(item) is tuple and len(item) == 5:  # a warnings filter
        return f"{item[0]} {getattr(item[2], '__name__', '?')}"
    with suppress(Exception):
        function = object.__getattribute__(item, "__func__")
        return f"{function.__module__}.{function.__qualname__}"
    return f"<{type_name(type(item))}>"
