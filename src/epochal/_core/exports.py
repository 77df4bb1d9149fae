"""What a generation exports: found, named and checked, once its code has been executed."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal._core.blame import said
from epochal._core.capabilities import allows
from epochal._core.kind import Export, Kind, marks_of
from epochal.errors import CapabilityError, ExportError, LinkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from epochal._core.candidate import Candidate

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
        export = Export(kind, f"{candidate.plugin}.{short}", candidate.plugin, options, target)
        key = (kind, export.name)
        if key in found and found[key].target is not target:
            raise ExportError(
                f"plugin {candidate.plugin!r} exports two {kind.name}s named {short!r}: "
                f"{found[key].target!r} and {target!r}",
                plugin=candidate.plugin,
            )
        _validate(export, candidate)
        found[key] = export
    for export in found.values():
        _check_relied_on(export, found.values())
    return MappingProxyType(found)


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
    for module in list(namespace.modules.values()):
        for value in list(vars(module).values()):
            for mark in marks_of(value):
                # What was imported from elsewhere is exported there, if anywhere.
                if namespace.owns(value):
                    yield mark.kind, mark.name, mark.options, value


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
            f"{export.name} cannot be a {kind.name}: {said(error)}", plugin=plugin
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
    for kind, target in export.kind.relies_on(export):
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
