"""The process-wide tables in which a generation's modules are registered.

Modules have to be in `sys.modules` for the import system, and sources in `linecache` for
tracebacks to show them. Both are keyed by names that only one generation has (see
`python_namespace`), so an entry of the host or of another generation is never touched. `pickle`,
`dataclasses`, `typing` and `inspect` look for the public name, which a view has (`_module_views`).

Threads
-------

``_namespaces`` (private root name -> namespace) is written under ``_lock`` by `enter` and `leave`,
and read by the finder without a lock, in one dict step. A name with a root that is neither there
nor among the views is not a plugin's: the finders after ours find it (`_import_notes`).
"""

from __future__ import annotations

import linecache
import logging
import sys
import threading
import typing
from typing import TYPE_CHECKING, Any, ClassVar, Final

from epochal._core.generation.kind import forget_marks_of
from epochal._core.introspect.object_names import MODULE_OF_NAME
from epochal._core.sync.forks import free_in_child
from epochal.loaders._import_notes import find_noted_spec
from epochal.loaders._module_views import OURS, add_space, find_made, find_view, remove_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from epochal.loaders.python_namespace import PythonNamespace

_lock: Final = free_in_child(threading.Lock())
_namespaces: Final[dict[str, PythonNamespace]] = {}
AFTER_IMPORT: Final[dict[str, Callable[[ModuleType], None]]] = {}
"""Name of a module -> what to call with it once it is imported, for as long as a generation lives;
also with one that is there already. Filled as modules of this folder are imported."""


class Finder:
    """The one meta-path finder: serves the modules of every generation from memory.

    It is the first of the finders, so that it also notes the imports of all other modules.
    """

    finds_plugins: ClassVar = OURS

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module, of a generation or any other (import protocol)."""
        namespace = _namespaces.get(root_of(name))
        if namespace is not None:
            return namespace.find_spec(name) or find_made(namespace, name)
        spec = find_view(name) or find_noted_spec(name, path, target)
        if name in AFTER_IMPORT and spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithCall(spec.loader, AFTER_IMPORT[name])  # type: ignore[assignment]  # duck-typed
        return spec


class _LoaderWithCall:
    """A loader in the place of another, for one import."""

    def __init__(self, loader: Any, call: Callable[[ModuleType], None]) -> None:
        self._loader: Final = loader
        self._call: Final = call

    def exec_module(self, module: Any) -> None:
        """As the loader does it; then the call."""
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._call(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def namespace_of(module: Any) -> PythonNamespace | None:
    """The namespace that a module belongs to."""
    return _namespaces.get(root_of(module.__spec__.name))


def namespace_named(root_name: str) -> PythonNamespace | None:
    """The namespace with that private root name."""
    return _namespaces.get(root_name)


def namespace_with(digest: str) -> PythonNamespace | None:
    """The newest namespace of an artifact."""
    for namespace in reversed(list(_namespaces.values())):
        if namespace.artifact.digest == digest:
            return namespace
    return None


def root_of(name: str) -> str:
    """The first part of a module name, which may be a generation's private root name."""
    return name.partition(".")[0]


def enter(namespace: PythonNamespace, plugin: str, tag: str) -> None:
    """Reserve a private root name and begin to serve it.

    Args:
        namespace: is given the name, and its tag, before others find it.
        plugin: begins the name.
        tag: ends the name; with a suffix where another runtime of this process has that name.
    """
    with _lock:
        reserved, count = tag, 1
        while f"{plugin}__{reserved}" in _namespaces:
            count += 1
            reserved = f"{tag}_{count}"
        if not sys.meta_path or sys.meta_path[0] is not Finder:
            sys.meta_path.insert(0, Finder)
        namespace.tag, namespace.root_name = reserved, f"{plugin}__{reserved}"
        _namespaces[namespace.root_name] = namespace
        add_space(namespace)
    for name, call in AFTER_IMPORT.items():
        if (module := sys.modules.get(name)) is not None:
            call(module)


def leave(root_name: str, files: Iterable[str]) -> None:
    """Remove every trace of a generation from the tables. Idempotent, even if interrupted."""
    with _lock:
        namespace = _namespaces.get(root_name)
        if namespace is None:
            return
        is_last = remove_space(namespace)
    for name in _at_or_below(root_name, sys.modules):
        module = sys.modules.pop(name, None)
        public = namespace.public_root + name.removeprefix(root_name)
        if sys.modules.get(public) is module:  # made by hand
            sys.modules.pop(public, None)
    if is_last:
        for name in _at_or_below(namespace.public_root, sys.modules):
            sys.modules.pop(name, None)
    for file in files:
        linecache.cache.pop(file, None)
    for public in namespace.public_names():
        MODULE_OF_NAME.pop(id(public), None)
        forget_marks_of(public)
        _remove_overloads(public, namespace)
    _remove_loggers(root_name)
    with _lock:
        # Last: as long as it is here, what an exception left undone is done by the next call.
        _namespaces.pop(root_name, None)
        if not _namespaces:
            # In one step, and whole: another thread may be going through the list.
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not Finder]


def _at_or_below(root_name: str, names: Iterable[str]) -> list[str]:
    below = f"{root_name}."
    # One test rules out nearly all of what may be thousands of names.
    candidates = [name for name in list(names) if name.startswith(root_name)]
    return [name for name in candidates if name == root_name or name.startswith(below)]


def _remove_overloads(public: str, namespace: PythonNamespace) -> None:
    """Remove what `typing.overload` keeps for `typing.get_overloads`, by a module's name.

    The public `typing.clear_overloads` would drop those of the whole process.
    """
    overloads = typing._overload_registry  # type: ignore[attr-defined]  # noqa: SLF001
    functions = overloads.get(public)
    if functions is None:
        return
    for name, by_line in list(functions.items()):
        for line, function in list(by_line.items()):
            if namespace.owns(function):
                by_line.pop(line, None)
        if not by_line:
            functions.pop(name, None)
    if not functions:
        overloads.pop(public, None)


def _remove_loggers(root_name: str) -> None:
    """Remove the loggers that a generation made for its module names, and their place-holders.

    `logging` keeps every logger for ever, by name, and each place-holder keeps those below it.
    """
    table = logging.root.manager.loggerDict
    if not _at_or_below(root_name, table):
        return
    with _logging_lock():
        removed = {id(table.pop(name)) for name in _at_or_below(root_name, table)}
        parent = root_name.rpartition(".")[0]
        while parent:
            holder = table.get(parent)
            if isinstance(holder, logging.PlaceHolder):
                for logger in list(holder.loggerMap):
                    if id(logger) in removed:
                        del holder.loggerMap[logger]
                if not holder.loggerMap:
                    del table[parent]
            parent = parent.rpartition(".")[0]


def _logging_lock() -> AbstractContextManager[object]:
    """The lock under which `logging` alters its table of loggers; it has no public name."""
    lock: AbstractContextManager[object] = logging._lock  # type: ignore[attr-defined]  # noqa: SLF001
    return lock
