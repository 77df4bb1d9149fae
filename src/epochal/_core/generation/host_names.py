"""Names of the host that plugin code replaces: attributes of modules and classes, dispatch tables.

A plugin patches a method of the host's (`Router.resolve = mine`), or registers a class with the
host's `functools.singledispatch`. Such an entry is undone like those of the process's tables
(`watched_table`): it must be known what it replaced.

The host has thousands of modules and classes, and a look at all of them would take longer than a
reload. But code can patch only what it can reach: from a module that it imports, by names that
occur in it (`names_of`). So the walk begins at the modules that the plugin's code imports, goes
along those names, and looks at those names alone. What is patched in another way is found when the
memory is to come back, and named.

An entry counts as the plugin's only if its value, or its key, is the plugin's by its code.
"""

from __future__ import annotations

import codecs
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.watched_table import ABSENT, Names, store
from epochal._core.introspect.heap import referrers_of_type
from epochal._core.introspect.object_names import dict_of_type, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from epochal._core.generation.watched_table import Entry, Owns

_DEPTH: Final = 6
"""How many names long a way may be: `hostpkg.web.routing.Router.resolve` is five."""

_IS_HEAP_TYPE: Final = 1 << 9
"""CPython's ``Py_TPFLAGS_HEAPTYPE``: a class that Python code may alter."""


def names_of(code: CodeType) -> frozenset[str]:
    """The names that code uses, in functions within it too, and those in its short texts."""
    names: set[str] = set()
    todo: list[CodeType] = [code]
    while todo:
        current = todo.pop()
        for name in current.co_names:
            names.update(name.split("."))  # `import a.b` is one name
        for constant in current.co_consts:
            if type(constant) is CodeType:
                todo.append(constant)
            elif type(constant) is str and len(constant) < 100:  # `setattr(x, "name", value)`
                names.update((constant, *constant.replace(":", ".").split(".")))
    return frozenset(names)


class ModuleNames(Names):
    """The attributes of a module."""

    def __init__(self, module: ModuleType) -> None:
        self.owner = self.module = module

    def table(self) -> Mapping[Any, Any]:
        """The module's dictionary."""
        names: dict[str, Any] = object.__getattribute__(self.owner, "__dict__")
        return names

    def put(self, key: Any, value: object) -> None:
        """Set an attribute, or delete it."""
        store(self.table(), key, value)

    def describe(self, key: Any) -> str:
        """`hostpkg.render`."""
        return f"attribute {self.table().get('__name__', '?')}.{key}"


class ClassNames(Names):
    """The attributes of a class; its metaclass is not asked."""

    def __init__(self, cls: type) -> None:
        self.owner = cls

    def table(self) -> Mapping[Any, Any]:
        """A view of the class's dictionary."""
        names: Mapping[str, Any] = dict_of_type(self.owner)
        return names

    def put(self, key: Any, value: object) -> None:
        """Set an attribute, or delete it."""
        if value is not ABSENT:
            type.__setattr__(self.owner, key, value)
        elif key in self.table():
            type.__delattr__(self.owner, key)

    def describe(self, key: Any) -> str:
        """`hostpkg.Router.resolve`."""
        return f"attribute {type_name(self.owner)}.{key}"


class DispatchNames(Names):
    """The registry of a `functools.singledispatch` function."""

    def __init__(self, function: FunctionType, registry: dict[Any, Any]) -> None:
        self.owner = function
        self._registry: Final = registry

    def table(self) -> Mapping[Any, Any]:
        """The implementations, by class."""
        return self._registry

    def found(self, names: Collection[str]) -> Collection[Any]:
        """All of its classes."""
        return list(self._registry)

    def put(self, key: Any, value: object) -> None:
        """Set an implementation, or remove it."""
        store(self._registry, key, value)
        self.owner.__dict__["_clear_cache"]()

    def describe(self, key: Any) -> str:
        """`functools.singledispatch of hostpkg.render: dict`."""
        # Without its module, whose name may be a generation's private one.
        is_class = issubclass(type(key), type)
        name = type.__dict__["__qualname__"].__get__(key) if is_class else "?"
        function = f"{self.owner.__module__}.{self.owner.__qualname__}"
        return f"functools.singledispatch of {function}: {name}"


class CodecErrorNames(Names):
    """The error handlers of codecs, which can be asked for by name alone."""

    def __init__(self) -> None:
        self.owner = codecs.register_error  # not the module, which has names of its own

    def table(self) -> Mapping[Any, Any]:
        """All error handlers; cannot be iterated over."""
        return _ERROR_HANDLERS

    def found(self, names: Collection[str]) -> Collection[Any]:
        """Those of the names that a handler has."""
        return [name for name in names if name in _ERROR_HANDLERS]

    def put(self, key: Any, value: object) -> None:
        """Set a handler, or remove it: for that there is no function before Python 3.14."""
        if value is not ABSENT:
            codecs.register_error(key, value)  # type: ignore[arg-type]  # it was one
            return
        for holder in referrers_of_type(dict, codecs.lookup_error(key)):
            if holder.get("strict") is codecs.strict_errors:
                holder.pop(key, None)

    def describe(self, key: Any) -> str:
        """`codec error handler: mine`."""
        return f"codec error handler: {key}"


class _ErrorHandlers(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        try:
            return codecs.lookup_error(name)
        except LookupError:
            raise KeyError(name) from None

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name: object) -> bool:
        return type(name) is str and self.get(name, ABSENT) is not ABSENT


_ERROR_HANDLERS: Final = _ErrorHandlers()


class HostNames:
    """The names of the host that code can reach, with their values at one look.

    Belongs to one thread.

    Args:
        is_apart: whether a name of a module is looked at elsewhere.
    """

    __slots__ = ("_is_apart", "_owners")

    def __init__(self, is_apart: Callable[[ModuleType, Any], bool]) -> None:
        self._is_apart: Final = is_apart
        # By the `id` of the owner, which the entry keeps alive.
        self._owners: Final[dict[int, tuple[Names, set[str], dict[Any, Any]]]] = {}

    def reach(self, root: ModuleType, names: frozenset[str]) -> None:
        """Look at what code with these names can reach from a module; the first look counts."""
        seen: set[int] = set()
        level: list[Names] = [ModuleNames(root)]
        for _ in range(_DEPTH):
            below: list[Names] = []
            for owner in level:
                if id(owner.owner) in seen:
                    continue
                seen.add(id(owner.owner))
                reached = map(_names_in, self._look(owner, names))
                below.extend(each for each in reached if each is not None)
            level = below

    def _look(self, owner: Names, names: frozenset[str]) -> list[Any]:
        _, known, before = self._owners.setdefault(id(owner.owner), (owner, set(), {}))
        table = owner.table()
        known.update(names)
        values = [(key, table.get(key, ABSENT)) for key in owner.found(names)]
        for key, value in values:
            before.setdefault(key, value)
        return [value for _, value in values]

    def changed(self, owns: Owns) -> Iterator[Entry]:
        """The entries of the plugin that were made since."""
        for owner, names, before in self._owners.values():
            table = owner.table()
            for key in owner.found(names):
                value, old = table.get(key, ABSENT), before.get(key, ABSENT)
                if value is old or value is ABSENT:
                    continue
                if type(owner) is ModuleNames and self._is_apart(owner.owner, key):
                    continue
                if _is_owned(value, owns) or (type(key) is not str and owns(key)):
                    yield owner.entry(key, old, value)


def _is_owned(value: Any, owns: Owns) -> bool:
    if type(value) is property:
        return any(owns(part) for part in (value.fget, value.fset, value.fdel) if part is not None)
    return owns(value)


def _names_in(value: Any) -> Names | None:
    """The names in a module, class or dispatch function of the host; None for anything else."""
    cls = type(value)
    if issubclass(cls, ModuleType):
        return ModuleNames(value) if cls is ModuleType else None  # a lazy one would be loaded
    if issubclass(cls, type):
        return ClassNames(value) if value.__flags__ & _IS_HEAP_TYPE else None
    if value is codecs.register_error:
        return CodecErrorNames()
    if cls is FunctionType and "_clear_cache" in value.__dict__:
        return _dispatch_names(value)
    dispatcher = getattr(value, "dispatcher", None) if cls.__name__ == "singledispatchmethod" else 0
    return _names_in(dispatcher) if type(dispatcher) is FunctionType else None


def _dispatch_names(function: FunctionType) -> Names | None:
    # `function.registry` is a view; the registry itself is in the closure of `register`.
    register = function.__dict__.get("register")
    if type(register) is not FunctionType:
        return None
    cells = zip(register.__code__.co_freevars, register.__closure__ or (), strict=True)
    registry = next((cell.cell_contents for name, cell in cells if name == "registry"), None)
    return DispatchNames(function, registry) if type(registry) is dict else None
