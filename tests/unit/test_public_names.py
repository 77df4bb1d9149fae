"""Every type that a public signature mentions can be imported from a public address.

An address is public if no part of its path begins with an underscore. A type alias counts as the
types that it stands for, since a host can write these.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from types import FunctionType
from typing import Any, TypeVar

import pytest

PUBLIC = (
    "epochal",
    "epochal.artifact",
    "epochal.authoring",
    "epochal.errors",
    "epochal.events",
    "epochal.jobs",
    "epochal.kinds",
    "epochal.kinds.toolkit",
    "epochal.observe",
    "epochal.pluggy",
    "epochal.report",
    "epochal.runtime",
    "epochal.share",
    "epochal.sql",
    "epochal.store",
    "epochal.tools",
    "epochal.worker",
)
SPECIAL = {"__init__", "__call__", "__getitem__", "__iter__", "__enter__", "__aenter__"}

# Public classes have these for the rest of the library; no host calls them.
INTERNAL = {
    # Made by a runtime or a manager alone.
    "Caller.__init__",
    "Change.__init__",
    "ClusterLease.__init__",
    "Epoch.__init__",
    "Generation.__init__",
    "Hooks.__init__",
    "Lease.__init__",
    "Operation.__init__",
    "PluginContext.__init__",
    "Stage.__init__",
    # The steps of a generation's life and the making of an epoch: called by a change.
    "Epoch.bare",
    "Epoch.linked",
    "Epoch.successor",
    "Generation.candidate",
    "Generation.carry",
    "Generation.carry_again",
    "Generation.exports_for",
    "Generation.prepare",
    "Generation.registrations",
    "Generation.release",
    "Generation.succeed",
    "Generation.table_items",
    "Generation.table_puts",
    "PluginLifecycle.ledger",
    # A runtime's calls of its store and of its event stream, and a manager's of its callers.
    "Caller.within",
    "EventStream.emit",
    "EventStream.remove",
    "PluginManager.current_manager",
    "Share.candidate",
    "Store.candidate",
    "Store.candidates",
    "Store.commit",
    "Store.readable",
    "Store.refuse",
    "Store.restore",
}


def names_of(module: str) -> list[str]:
    namespace = importlib.import_module(module)
    public = [
        name
        for name, value in vars(namespace).items()
        if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith("epochal")
    ]
    return list(getattr(namespace, "__all__", public))


@cache
def public_objects() -> dict[int, str]:
    """The `id` of every object that has a public address, with the address."""
    return {
        id(getattr(sys.modules[module], name)): f"{module}.{name}"
        for module in PUBLIC
        for name in names_of(module)
    }


@cache
def sources_of(module: str) -> dict[str, tuple[str, str]]:
    """Name -> the module and the name that it is imported from, in this module's source."""
    sources: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module)))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                sources[alias.asname or alias.name] = (node.module or "", alias.name)
    return sources


@cache
def aliases_of(module: str) -> dict[str, ast.expr]:
    """The type aliases of a module: name -> the types that it stands for."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    return {
        node.target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.value is not None
        and ast.unparse(node.annotation) == "TypeAlias"
    } | {
        node.targets[0].id: node.value
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def names_in(annotation: ast.expr) -> Iterator[str]:
    """The names that an annotation mentions, those in quoted parts too; not those of literals."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        return
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield from names_in(ast.parse(annotation.value, mode="eval").body)
    elif isinstance(annotation, ast.Name):
        yield annotation.id
    elif isinstance(annotation, ast.Attribute):
        return  # a type of another library, by its module
    else:
        for child in ast.iter_child_nodes(annotation):
            if isinstance(child, ast.expr):
                yield from names_in(child)


def hidden_in(
    annotation: ast.expr, module: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> Iterator[str]:
    """The types of an annotation that have no public address, looking through aliases."""
    for name in names_in(annotation):
        source, original = sources_of(module).get(name, (module, name))
        if not source.startswith("epochal"):
            continue
        if original in aliases_of(source):
            if (source, original) not in seen:  # an alias may contain itself
                alias = aliases_of(source)[original]
                yield from hidden_in(alias, source, seen | {(source, original)})
            continue
        value = getattr(importlib.import_module(source), original, None)
        if value is None or isinstance(value, TypeVar):  # a builtin, or a variable
            continue
        path = (*source.split("."), original)
        if id(value) not in public_objects() and any(part.startswith("_") for part in path):
            yield f"{source}.{original}"


def functions_of(cls: type) -> Iterator[tuple[str, Any]]:
    """The public functions of a class and of its bases in this library."""
    for base in cls.__mro__:
        if not base.__module__.startswith("epochal"):
            continue
        for name, value in vars(base).items():
            function = value.fget if isinstance(value, property) else inspect.unwrap(value)
            function = getattr(function, "__func__", function)
            if isinstance(function, FunctionType) and (name in SPECIAL or name[0] != "_"):
                yield name, function


def annotations_of(value: Any) -> Iterator[tuple[str, str, str]]:
    """Of a public object: where each annotation stands, the module, and the annotation."""
    if isinstance(value, FunctionType):
        for annotation in value.__annotations__.values():
            yield value.__name__, value.__module__, annotation
        return
    if not isinstance(value, type):
        return
    for base in value.__mro__:
        if base.__module__.startswith("epochal"):
            for name, annotation in vars(base).get("__annotations__", {}).items():
                if name[0] != "_":
                    yield f"{value.__name__}.{name}", base.__module__, annotation
    for name, function in functions_of(value):
        for annotation in function.__annotations__.values():
            yield f"{value.__name__}.{name}", function.__module__, annotation


@pytest.mark.parametrize("module", PUBLIC)
def test_every_type_of_a_public_signature_has_a_public_address(module):
    scanned, hidden = 0, set()
    for public in names_of(module):
        for where, source, annotation in annotations_of(getattr(sys.modules[module], public)):
            if not source.startswith("epochal") or where in INTERNAL:
                continue
            scanned += 1
            text = annotation if isinstance(annotation, str) else "None"
            for name in hidden_in(ast.parse(text, mode="eval").body, source):
                hidden.add(f"{where}: {name}")
    assert not hidden, sorted(hidden)
    assert scanned


def test_a_hidden_type_is_noticed():
    annotation = ast.parse("list[Ledger] | None", mode="eval").body
    assert list(hidden_in(annotation, "epochal._core.generation.lifecycle")) == [
        "epochal._core.use.drain_wakeup.Ledger"
    ]


def test_each_internal_name_exists():
    public = {
        name: getattr(sys.modules[module], name) for module in PUBLIC for name in names_of(module)
    }
    for cls, _, name in (internal.partition(".") for internal in sorted(INTERNAL)):
        assert hasattr(public[cls], name), (cls, name)
