"""The exports of a generation: collected, named and checked after its code was executed.

Marks count on the objects that the generation's modules bind: on functions and classes, and on the
methods of an object that the generation's own class made (`plugin = Plugin()`), which are exported
bound to it. A class with marked methods of which no module binds an object exports nothing, and is
warned about.

A marked object is the plugin's if the plugin's code defined it or marked it: a decorator of a
library returns an object of the library. A mark that no module's name leads to is refused, since
its export would be missing without a word.
"""

from __future__ import annotations

import inspect
import warnings
from enum import Enum
from itertools import count
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Kind, Mark, marks_made_in, marks_of
from epochal._core.introspect.callables import callables_inside, decorated_inside, takes
from epochal._core.introspect.collector import collect
from epochal._core.introspect.places import defined_at
from epochal._core.plugin.capabilities import missing_grant
from epochal._core.sync.threads import give_way
from epochal._core.use.lease import LEASE
from epochal._core.use.ties import can_tie
from epochal.errors import CapabilityError, ExportError, LinkError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from epochal._core.generation.generation import Namespace
    from epochal._core.generation.kind import ExportKey
    from epochal._core.plugin.candidate import Candidate

    Marked = tuple[Kind[Any], str | None, Mapping[str, Any], Any]

ENTRY_POINTS: Final = {
    "register": ("ctx",),
    "init": ("ctx",),
    "shutdown": (),
    "export_state": (),
    "import_state": ("state", "from_version"),
}
"""The functions of a plugin that Epochal calls by their names, with the arguments of the call."""

_OF_EVERY_MODULE: Final = frozenset(
    {
        *("__builtins__", "__cached__", "__doc__", "__file__"),
        *("__loader__", "__name__", "__package__", "__path__", "__spec__"),
    }
)


def collect_exports(
    candidate: Candidate, namespace: Namespace, registered: Iterable[Marked]
) -> Mapping[ExportKey, Export]:
    """Everything that a generation exports, by kind and full name.

    Args:
        candidate: the artifact, manifest and grants that it is made of.
        namespace: its modules; their marked objects are exported.
        registered: the exports of its `register(ctx)`.

    Raises:
        ExportError: an export that cannot be one.
        CapabilityError: an export of a kind that was not granted.
    """
    exports: dict[ExportKey, Export] = {}
    for kind, mark_name, options, target in (*registered, *_marked(namespace)):
        short = _short_name(candidate.plugin, kind, mark_name, target)
        name = _free_name(exports, kind, f"{candidate.plugin}.{short}", target)
        key = (kind, name)
        if key in exports and not _is_same(exports[key].target, target):
            raise ExportError(
                f"plugin {candidate.plugin!r} exports two {kind.name}s named {short!r}: "
                f"{_described(exports[key].target)} and {_described(target)}; "
                "give one of them another name with name=",
                plugin=candidate.plugin,
            )
        export = Export(kind, name, candidate.plugin, options, target)
        _validate(export, candidate)
        exports[key] = export
        give_way()
    for export in exports.values():
        _check_dependencies(export, exports.values())
        give_way()
    _refuse_hidden_marks(candidate.plugin, namespace, exports)
    give_way()
    _warn_of_methods_without_object(candidate.plugin, namespace)
    give_way()
    _warn_of_marks_inside_functions(candidate.plugin, namespace, exports)
    return MappingProxyType(exports)


def _free_name(
    exports: Mapping[ExportKey, Export], kind: Kind[Any], name: str, target: object
) -> str:
    """The name itself; or, for a kind that allows duplicates, the first number that is free."""
    if not kind.allow_duplicates:
        return name
    numbered = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return next(
        candidate
        for candidate in numbered
        if (kind, candidate) not in exports or _is_same(exports[kind, candidate].target, target)
    )


def _is_same(left: object, right: object) -> bool:
    if isinstance(left, MethodType) and isinstance(right, MethodType):  # made anew at each look
        return left.__func__ is right.__func__ and left.__self__ is right.__self__
    return left is right


def check_entry_points(plugin: str, root: ModuleType, namespace: Namespace) -> None:
    """Check each function that Epochal calls by name: the plugin's own, and callable as we call it.

    Raises:
        LinkError: one was only imported, is `async def`, or takes other arguments.
    """
    for name, arguments in ENTRY_POINTS.items():
        function = vars(root).get(name)
        if not callable(function):
            continue
        if not _is_own(function, namespace):
            raise LinkError(
                f"{name!r} of plugin {plugin!r} is something that it imported "
                f"({_origin_of(function)}), and Epochal would call it: import it under another "
                f"name, or write `def {name}(…)`",
                plugin=plugin,
            )
        if inspect.iscoroutinefunction(function):
            raise LinkError(
                f"{name}() of plugin {plugin!r} is `async def`; it is called without an event "
                "loop, so make it a plain function",
                plugin=plugin,
            )
        if not takes(function, len(arguments)):
            given = ", ".join(arguments)
            raise LinkError(
                f"{name}() of plugin {plugin!r}{defined_at(function)} cannot be called as "
                f"{name}({given}): write `def {name}({given}):`",
                plugin=plugin,
            )


def _marked(namespace: Namespace) -> Iterator[Marked]:
    own: dict[int, bool] = {}  # by the id of a type: a metaclass may make types unhashable
    for name, value in _values(namespace):
        marks = marks_of(value, name)
        is_own = bool(marks) and _is_own(value, namespace)
        for mark in marks:
            # An imported object is exported by its own plugin, if at all.
            if is_own or _made_by(mark, namespace):
                yield mark.kind, mark.name, mark.options, value
        made_by = type(value)
        if issubclass(made_by, (type, FunctionType, MethodType)):
            continue
        if id(made_by) not in own:
            own[id(made_by)] = namespace.owns(made_by)
        if own[id(made_by)]:
            yield from _marked_methods(value)


def _made_by(mark: Mark, namespace: Namespace) -> bool:
    """Whether the plugin's code made a mark."""
    names = (vars(module).get("__name__") for module in list(namespace.modules.values()))
    return any(mark.origin is name for name in names)


def _is_own(value: Any, namespace: Namespace) -> bool:
    """Whether the plugin's code defined an object, or the function that it decorates."""
    if namespace.owns(value):
        return True
    # What was borrowed from another plugin was not defined here, whatever it leads to.
    if issubclass(type(value), type) or LEASE in getattr(value, "__dict__", {}):
        return False
    # Classes are left out: a library's callable may refer to a class of ours, in a registry.
    inner = (one for one in callables_inside(value) if not issubclass(type(one), type))
    return any(map(namespace.owns, inner))


def _values(namespace: Namespace) -> Iterator[tuple[str, Any]]:
    for module in list(namespace.modules.values()):
        # Without the entries of the import system, which no plugin marks.
        yield from [item for item in vars(module).items() if item[0] not in _OF_EVERY_MODULE]


def _marked_methods(instance: object) -> Iterator[Marked]:
    """The marked methods of an object, bound to it. Calls no code of the object."""
    seen: set[str] = set()
    for cls in type(instance).__mro__:
        for name, raw in list(vars(cls).items()):
            if name in seen:  # overridden: only the method that would be called counts
                continue
            seen.add(name)
            for mark in marks_of(raw, name):
                if (bound := _bound(raw, instance)) is not None:
                    yield mark.kind, mark.name or name, mark.options, bound


def _bound(raw: object, instance: object) -> Any:
    if isinstance(raw, staticmethod):
        return raw.__func__
    if isinstance(raw, classmethod):
        return MethodType(raw.__func__, type(instance))
    if isinstance(raw, FunctionType):
        return MethodType(raw, instance)
    # Marked on purpose, so its binding may run: of a `functools.lru_cache`, for example.
    bind = getattr(type(raw), "__get__", None)
    return raw if bind is None else bind(raw, instance, type(instance))


def _warn_of_methods_without_object(plugin: str, namespace: Namespace) -> None:
    """Warn of classes with marked methods, of which no module binds an object."""
    values = [value for _, value in _values(namespace)]
    types = {id(type(value)): type(value) for value in values}
    instantiated = {id(cls) for made_by in types.values() for cls in made_by.__mro__}
    # Each class once: every module that imports it binds it, too.
    classes = {id(value): value for value in values if issubclass(type(value), type)}
    for cls in classes.values():
        if id(cls) in instantiated or not namespace.owns(cls):
            continue
        marks = [mark for name, raw in list(vars(cls).items()) for mark in marks_of(raw, name)]
        if marks:
            warnings.warn(
                f"plugin {plugin!r}: methods of {cls.__qualname__} are marked as "
                f"{marks[0].kind.name}, but no object of that class stands in the module, so they "
                f"are not exported: add one, say `plugin = {cls.__qualname__}()`",
                stacklevel=1,
            )


def _warn_of_marks_inside_functions(
    plugin: str, namespace: Namespace, exports: Mapping[ExportKey, Export]
) -> None:
    """Warn of marked definitions inside functions of which nothing is exported.

    The function was not called yet, or never will be: `init` comes too late to export.
    """
    marked = [
        found
        for function in _own_functions(namespace)
        for found in decorated_inside(function, lambda value: isinstance(value, Kind))
    ]
    if not marked:  # as nearly always
        return
    exported = {
        getattr(inner, "__qualname__", "")
        for export in exports.values()
        for inner in callables_inside(export.target)
    }
    names = {name for _, name in exports}  # by register(ctx) under a name of its own
    for code, marker in marked:
        if code.co_qualname not in exported and f"{plugin}.{code.co_name}" not in names:
            file = code.co_filename.rpartition("@g")[0] or code.co_filename
            warnings.warn_explicit(
                f"plugin {plugin!r}: {code.co_qualname} is marked with @{marker} inside a function "
                f"({file}, line {code.co_firstlineno}), so it is not exported: define it at the "
                f"top level of a module, or export it with ctx.export({marker}, …) in "
                "register(ctx)",
                UserWarning,
                file,
                code.co_firstlineno,
            )


def _own_functions(namespace: Namespace) -> Iterator[FunctionType]:
    """The functions that the modules bind and define, and the methods of their classes."""
    for module in list(namespace.modules.values()):
        own = vars(module)
        for value in list(own.values()):
            inside = list(vars(value).values()) if issubclass(type(value), type) else [value]
            for function in inside:
                if type(function) is FunctionType and function.__globals__ is own:
                    yield function


def _refuse_hidden_marks(
    plugin: str, namespace: Namespace, exports: Mapping[ExportKey, Export]
) -> None:
    """Refuse a mark on an object that no name of the modules leads to.

    Raises:
        ExportError: a decorator outside the marker hides the mark, for example.
    """
    if not _hidden(plugin, namespace, exports):
        return
    collect()  # an object that only its own cycle keeps is gone: a function within a function
    hidden = _hidden(plugin, namespace, exports)
    if hidden:
        kind, target = hidden[0].kind.name, hidden[0].target
        advice = (
            f"put @{kind} outermost, above the other decorators of {target.rpartition('.')[2]!r}"
        )
        if "<locals>" in target:
            advice = (
                "define it there and not inside a function, or export it with "
                f"ctx.export({kind}, …) in register(ctx)"
            )
        raise ExportError(
            f"plugin {plugin!r} marks {target!r} as {kind}, but no name at the top level of a "
            f"module leads to the marked object: {advice}",
            plugin=plugin,
        )


def _hidden(plugin: str, namespace: Namespace, exports: Mapping[ExportKey, Export]) -> list[Mark]:
    missing = [
        mark
        for module in list(namespace.modules.values())
        for mark in marks_made_in(vars(module).get("__name__"))
        # Another object is exported in its place: a second definition, or by register(ctx).
        if (mark.kind, f"{plugin}.{mark.name or mark.target.rpartition('.')[2]}") not in exports
    ]
    seen = {id(mark) for mark in _visible_marks(namespace)} if missing else set()
    return [mark for mark in missing if id(mark) not in seen]


def _visible_marks(namespace: Namespace) -> Iterator[Mark]:
    """The marks on the values of the modules, and on the methods of these and of their classes."""
    values = _values(namespace)
    classes: dict[int, type] = {}  # by id: a metaclass may make types unhashable
    for name, value in values:
        yield from marks_of(value, name)
        for cls in (type(value), value) if issubclass(type(value), type) else (type(value),):
            classes.update((id(base), base) for base in cls.__mro__)
    for cls in classes.values():
        for name, raw in list(vars(cls).items()):
            yield from marks_of(raw, name)


def _short_name(plugin: str, kind: Kind[Any], mark_name: str | None, target: object) -> str:
    """The name of an export within its plugin.

    Raises:
        ExportError: there is no name, or it cannot be written in SQL and Python alike.
    """
    name = mark_name if mark_name is not None else getattr(target, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ExportError(
            f"plugin {plugin!r} exports {_described(target)} as {kind.name} under the name "
            f"{name!r}: expected a plain identifier; give one with name=",
            plugin=plugin,
        )
    return name


def _validate(export: Export, candidate: Candidate) -> None:
    kind, plugin = export.kind, export.plugin
    if lacks := missing_grant(candidate.manifest.capabilities, candidate.grants, kind.name):
        raise CapabilityError(
            f"plugin {plugin!r} exports {export.name!r} as {kind.name}, which it was "
            f"not granted: {lacks}",
            plugin=plugin,
            capability=kind.name,
        )
    try:
        kind.validate(export)
    except BaseException as error:
        raise _refused(export, error) from error
    if not kind.opens and not callable(export.target):
        raise ExportError(
            f"{export.name} cannot be exported: {export.target!r} cannot be called, and an "
            "export carries its lease by being called",
            plugin=plugin,
        )
    _check_instances(export)


def _refused(export: Export, error: BaseException) -> ExportError:
    """The error for an export that its kind does not accept, with the place of its definition."""
    return ExportError(
        f"{export.name} cannot be exported as {export.kind.name}{defined_at(export.target)}: "
        f"{reason_of(error)}",
        plugin=export.plugin,
    )


def _described(target: object) -> str:
    """An export's target, by its name and the line that defines it."""
    return f"{_origin_of(target)}{defined_at(target)}"


def _check_instances(export: Export) -> None:
    """Check that instances of an exported class can be tied to their plugin's life.

    Raises:
        ExportError: they cannot. The members of an enumeration need not: they stay with it.
    """
    target = export.target
    if export.kind.opens or not issubclass(type(target), type) or issubclass(target, Enum):
        return
    if not can_tie(target):
        raise ExportError(
            f"{export.name} cannot be exported: its instances cannot be tied to the plugin's life, "
            "since they take no weak references: add '__weakref__' to its __slots__, make a "
            "NamedTuple a dataclass, or export a function that makes them",
            plugin=export.plugin,
        )


def _check_dependencies(export: Export, exports: Iterable[Export]) -> None:
    """Check that the objects that an export names are exported, too, so that they are compared.

    Raises:
        ExportError: one is not.
    """
    missing: list[tuple[str, str]] = []
    try:
        for kind, target in export.kind.dependencies(export):
            if not any(other.kind is kind and other.target is target for other in exports):
                missing.append((kind.name, getattr(target, "__qualname__", None) or repr(target)))
    except BaseException as error:
        raise _refused(export, error) from error
    for used_as, name in missing:
        raise ExportError(
            f"{export.name} names the {used_as} {name}, which plugin {export.plugin!r} does not "
            "export: define it at the top level of a module, or give it to "
            f"ctx.export({used_as}, …)",
            plugin=export.plugin,
        )


def _origin_of(function: object) -> str:
    """The module and name of a callable."""
    names = (getattr(function, "__module__", None), getattr(function, "__qualname__", None))
    return ".".join(str(name) for name in names if name) or type(function).__qualname__
