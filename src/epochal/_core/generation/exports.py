"""What a generation exports: found, named and checked, once its code has been executed.

Marks count on what stands in the generation's modules: on functions and classes, and on the methods
of an object that the generation's own class made (`plugin = Plugin()`), which are exported bound to
it. A class with marked methods, of which no object stands there, exports nothing, and is told of.
"""

from __future__ import annotations

import inspect
import warnings
from itertools import count
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal._core.generation.kind import Export, Kind, marks_of
from epochal._core.introspect.tracebacks import format_error
from epochal._core.plugin.capabilities import allows
from epochal.errors import CapabilityError, ExportError, LinkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from epochal._core.plugin.candidate import Candidate

    Asked = tuple[Kind[Any], str | None, Mapping[str, Any], Any]

ENTRY_POINTS: Final = ("register", "init", "shutdown", "export_state", "import_state")
"""The functions of a plugin that Epochal calls by their names."""


class Modules(Protocol):
    """The modules of one generation."""

    @property
    def modules(self) -> Mapping[str, ModuleType]:
        """The modules loaded so far, by private name."""
        ...

    def owns(self, obj: object) -> bool:
        """Whether an object was defined by this generation's code."""
        ...


def collect_exports(
    candidate: Candidate, namespace: Modules, asked: Iterable[Asked]
) -> Mapping[tuple[Kind[Any], str], Export]:
    """Everything that a generation exports, by kind and full name.

    Args:
        candidate: what it is made of.
        namespace: its modules, whose marked objects are exported.
        asked: what its `register(ctx)` exported besides.

    Raises:
        ExportError: an export that cannot be one.
        CapabilityError: an export of a kind that was not granted.
    """
    found: dict[tuple[Kind[Any], str], Export] = {}
    for kind, mark_name, options, target in (*asked, *_marked(namespace)):
        short = _short_name(candidate.plugin, kind, mark_name, target)
        name = _free_name(found, kind, f"{candidate.plugin}.{short}", target)
        export = Export(kind, name, candidate.plugin, options, target)
        key = (kind, export.name)
        if key in found and not _is_same(found[key].target, target):
            raise ExportError(
                f"plugin {candidate.plugin!r} exports two {kind.name}s named {short!r}: "
                f"{found[key].target!r} and {target!r}",
                plugin=candidate.plugin,
            )
        _validate(export, candidate)
        found[key] = export
    for export in found.values():
        _check_relied_on(export, found.values())
    _tell_of_the_ignored(candidate.plugin, namespace)
    return MappingProxyType(found)


def _free_name(
    found: Mapping[tuple[Kind[Any], str], Export], kind: Kind[Any], name: str, target: object
) -> str:
    """The name itself, or, for a kind that takes many of one name, the first that is free."""
    if not kind.allow_duplicates:
        return name
    numbered = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return next(
        one
        for one in numbered
        if (kind, one) not in found or _is_same(found[kind, one].target, target)
    )


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, MethodType) and isinstance(other, MethodType):  # made anew at each look
        return one.__func__ is other.__func__ and one.__self__ is other.__self__
    return one is other


def check_entry_points(plugin: str, root: ModuleType, namespace: Modules) -> None:
    """See that what Epochal would call by name is the plugin's own, and can be called.

    Raises:
        LinkError: it was only imported, or is `async def`.
    """
    for name in ENTRY_POINTS:
        function = vars(root).get(name)
        if not callable(function):
            continue
        if not namespace.owns(function):
            raise LinkError(
                f"{name!r} of plugin {plugin!r} is something that it imported "
                f"({_said_of(function)}), and Epochal would call it: import it under another "
                f"name, or write `def {name}(…)`",
                plugin=plugin,
            )
        if inspect.iscoroutinefunction(function):
            raise LinkError(
                f"{name}() of plugin {plugin!r} is `async def`; it is called without an event "
                "loop, so make it a plain function",
                plugin=plugin,
            )


def _marked(namespace: Modules) -> Iterator[Asked]:
    own: dict[int, bool] = {}  # by the identity of a type: a metaclass may make them unhashable
    for name, value in _values(namespace):
        marks = marks_of(value, name)
        # What was imported from elsewhere is exported there, if anywhere.
        if marks and namespace.owns(value):
            for mark in marks:
                yield mark.kind, mark.name, mark.options, value
        made_of = type(value)
        if issubclass(made_of, (type, FunctionType, MethodType)):
            continue
        if id(made_of) not in own:
            own[id(made_of)] = namespace.owns(made_of)
        if own[id(made_of)]:
            yield from _marked_methods(value)


def _values(namespace: Modules) -> Iterator[tuple[str, Any]]:
    for module in list(namespace.modules.values()):
        yield from list(vars(module).items())


def _marked_methods(instance: object) -> Iterator[Asked]:
    """The marked methods of an object, bound to it; nothing of the object's own is called."""
    seen: set[str] = set()
    for cls in type(instance).__mro__:
        for name, raw in list(vars(cls).items()):
            if name in seen:  # overridden: what counts is the method that would be called
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
    return MethodType(raw, instance) if isinstance(raw, FunctionType) else None


_METHODS: Final = (FunctionType, staticmethod, classmethod)


def _tell_of_the_ignored(plugin: str, namespace: Modules) -> None:
    """Warn of classes whose marked methods are not exported, since no object of them is there."""
    values = [value for _, value in _values(namespace)]
    made_of = {id(type(value)): type(value) for value in values}
    made = {id(cls) for kind in made_of.values() for cls in kind.__mro__}
    # Each once: a class stands in every module that imports it.
    classes = {id(value): value for value in values if issubclass(type(value), type)}
    for cls in classes.values():
        if id(cls) in made or not namespace.owns(cls):
            continue
        methods = [(n, raw) for n, raw in list(vars(cls).items()) if isinstance(raw, _METHODS)]
        marks = [mark for name, raw in methods for mark in marks_of(raw, name)]
        if marks:
            warnings.warn(
                f"plugin {plugin!r}: methods of {cls.__qualname__} are marked as "
                f"{marks[0].kind.name}, but no object of that class stands in the module, so they "
                f"are not exported: add one, say `plugin = {cls.__qualname__}()`",
                stacklevel=1,
            )


def _short_name(plugin: str, kind: Kind[Any], mark_name: str | None, target: object) -> str:
    """The name that something is exported under, within its plugin.

    Raises:
        ExportError: it has none, or one that cannot be written in SQL and Python alike.
    """
    name = mark_name if mark_name is not None else getattr(target, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ExportError(
            f"plugin {plugin!r} exports {target!r} as {kind.name} under the name {name!r}: "
            "expected a plain identifier; give one with name=",
            plugin=plugin,
        )
    return name


def _validate(export: Export, candidate: Candidate) -> None:
    kind, plugin = export.kind, export.plugin
    if not allows(candidate.manifest.capabilities, candidate.grants, kind.name):
        raise CapabilityError(
            f"plugin {plugin!r} exports {export.name!r} as {kind.name}, which it was "
            f"not granted: its manifest must not leave {kind.name!r} out of `capabilities`, "
            "and the host must grant it with grants=",
            plugin=plugin,
            capability=kind.name,
        )
    try:
        kind.validate(export)
    except (TypeError, ValueError) as error:
        raise ExportError(
            f"{export.name} cannot be a {kind.name}: {format_error(error)}", plugin=plugin
        ) from error
    if not kind.opens and not callable(export.target):
        raise ExportError(
            f"{export.name} cannot be exported: {export.target!r} cannot be called, and an "
            "export carries its lease by being called",
            plugin=plugin,
        )


def _check_relied_on(export: Export, found: Iterable[Export]) -> None:
    """See that what an export names of its plugin is exported, so that it is checked and compared.

    Raises:
        ExportError: it is not.
    """
    for kind, target in export.kind.dependencies(export):
        if not any(one.kind is kind and one.target is target for one in found):
            raise ExportError(
                f"{export.name} names the {kind.name} {target.__qualname__}, which plugin "
                f"{export.plugin!r} does not export: define it at the top level of a module, or "
                f"give it to ctx.export({kind.name}, …)",
                plugin=export.plugin,
            )


def _said_of(function: object) -> str:
    """A callable in words: where it comes from and what it is called."""
    names = (getattr(function, "__module__", None), getattr(function, "__qualname__", None))
    return ".".join(str(name) for name in names if name) or type(function).__qualname__
