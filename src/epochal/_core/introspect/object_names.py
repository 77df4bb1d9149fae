"""The names of objects, and the way from one object to another, in words.

The objects belong to any code and may be hostile: nothing here calls their methods, `__repr__`,
`__eq__` and `__getattr__` included.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections import deque
from types import (
    AsyncGeneratorType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.places import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SUSPENDED: Final = (GeneratorType, CoroutineType, AsyncGeneratorType)

_thread_name: Final = vars(threading.Thread)["name"].fget

MODULE_OF_NAME: Final[dict[int, ModuleType]] = {}
"""The `id` of each string object that is the `__name__` of a plugin's module -> the module.

All generations of a plugin have the same names: only the object tells them apart. The loader adds
and removes entries, one dict step each, in any thread; the module keeps the string alive meanwhile.
"""


class PublicView(ModuleType):
    """The base of what stands in `sys.modules` for a plugin's module under its public name.

    It is no generation's, since all generations of a plugin have it in common.
    """


dict_of_type: Final = type.__dict__["__dict__"].__get__
"""A class's `__dict__`, without calling its metaclass."""


def is_a(obj: object, cls: type | tuple[type, ...]) -> bool:
    """`isinstance` without reading the object's `__class__`, which may be hostile."""
    return issubclass(type(obj), cls)


def type_name(cls: type) -> str:
    """`module.qualname` of a class, builtins without their module; calls no metaclass."""
    name = type.__dict__["__qualname__"].__get__(cls)
    module = dict_of_type(cls).get("__module__")
    if not isinstance(module, str) or module == "builtins":
        return str(name)
    return f"{module}.{name}"


def names_of_module(name: object) -> Any:
    """The names in an imported module, empty if there is none; calls none of its code."""
    module = module_named(name) if type(name) is str else None
    return (
        object.__getattribute__(module, "__dict__") if issubclass(type(module), ModuleType) else {}
    )


def class_of_library(module: str, name: str) -> Any:
    """A library's class; an empty tuple, which has no instances, if it is not imported."""
    return names_of_module(module).get(name, ())


def member_named(module: object, qualname: str) -> Any:
    """What an imported module has under a qualified name; None if it has nothing there."""
    names, member = names_of_module(module), None
    for part in qualname.split("."):
        member = names.get(part)
        names = dict_of_type(member) if is_a(member, type) else {}
    return member


def describe_object(node: object) -> str:
    """An object that has no name: its type, or the function that it is or is suspended in."""
    if is_a(node, SUSPENDED):
        return describe_suspended(node)
    if type(node) is FunctionType:
        return f"function {node.__module__}.{node.__qualname__}"
    name = type_name(type(node))
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def describe_suspended(node: Any) -> str:
    """`generator 'rows' suspended at geo.py:12 in rows`."""
    kind, name, place = suspended(node)
    return f"{kind} {name!r}" + (f" suspended at {place}" if place else "")


def suspended(node: Any) -> tuple[str, str, str]:
    """The kind of a generator or coroutine, its qualified name, its place (empty if it ended)."""
    prefix, kind = next(
        (prefix, kind)
        for cls, prefix, kind in (
            (GeneratorType, "gi", "generator"),
            (CoroutineType, "cr", "coroutine"),
            (AsyncGeneratorType, "ag", "asynchronous generator"),
        )
        if is_a(node, cls)
    )
    frame = getattr(node, f"{prefix}_frame")
    return kind, node.__qualname__, "" if frame is None else place_of(frame)


def root_name(node: Any) -> str | None:
    """The name of an object that can be found without its owner; None for any other."""
    if type(node) is dict:
        return _module_of(node)
    if is_a(node, ModuleType):
        return str(vars(node).get("__name__", "a module"))
    task = class_of_library("asyncio.tasks", "Task")
    if is_a(node, task):
        return f"task {task.get_name(node)!r}"
    if is_a(node, threading.Thread):
        return f"thread {_thread_name(node)!r}"
    if issubclass(type(node), type):
        return type_name(node)
    return None


def _module_of(namespace: dict[Any, Any]) -> str | None:
    """The name of the module of this dictionary; None if it belongs to none."""
    name = dict.get(namespace, "__name__")
    if isinstance(name, str) and "__builtins__" in namespace:
        return name
    module = module_named(name) if isinstance(name, str) else None
    return name if is_a(module, ModuleType) and vars(module) is namespace else None


def module_named(name: str) -> ModuleType | None:
    """The module that a `__name__` or `__module__` names; of a plugin, that generation's."""
    return MODULE_OF_NAME.get(id(name)) or sys.modules.get(name)


# --- the way from one object to another ----------------------------------------------------------

NAMESPACE: Final = ".__dict__"

_ITEMS_AT_MOST: Final = 100_000
"""The largest list or dictionary in which a place is looked for: that takes about 5 ms."""
_KEY_LENGTH: Final = 80
"""The longest key that is written out."""


def edge(parent: Any, child: Any) -> str:
    """How `parent` refers to `child`: `.name`, `[3]`; empty where a reader needs no word for it."""
    if is_a(parent, dict):
        return _dict_edge(parent, child)
    for sequence in (list, tuple, deque):
        if is_a(parent, sequence):
            return _item_edge(sequence.__len__(parent), sequence.__iter__(parent), child)
    if is_a(parent, (set, frozenset)):
        return " (an element)"
    if is_a(parent, FrameType):
        return f" at {place_of(parent)}"
    if is_a(parent, SUSPENDED):
        return f": {describe_suspended(parent)}"
    if is_a(parent, (TracebackType, CellType)):
        return ""
    if is_a(child, dict) and issubclass(type(parent), type):
        return NAMESPACE
    if type(parent) is FunctionType and is_a(child, tuple):
        return " (closure or defaults)"
    name = _attribute(parent, child)
    return f".{name}" if name is not None else ""


def _item_edge(length: int, items: Iterator[Any], child: object) -> str:
    if length > _ITEMS_AT_MOST:
        return "[…]"
    return next((f"[{i}]" for i, item in enumerate(list(items)) if item is child), "")


def _dict_edge(parent: dict[Any, Any], child: object) -> str:
    if dict.__len__(parent) > _ITEMS_AT_MOST:
        return "[…]"
    for key, value in list(dict.items(parent)):
        if value is child:
            if isinstance(key, str) and _module_of(parent) is not None:
                return f".{key}"
            return f"[{_key_in_words(key)}]"
        if key is child:
            return " (a key)"
    return ""


def _key_in_words(key: object) -> str:
    if type(key) is str:
        return repr(key if len(key) <= _KEY_LENGTH else f"{key[:_KEY_LENGTH]}…")
    # The interpreter refuses to write an integer of several thousand digits.
    if type(key) is int and key.bit_length() <= _KEY_LENGTH:
        return repr(key)
    return describe_object(key)


_KNOWN: Final[tuple[tuple[type, tuple[str, ...]], ...]] = (
    (MethodType, ("__self__", "__func__")),
    (functools.partial, ("func", "args", "keywords")),
    (BaseException, ("__traceback__", "__cause__", "__context__", "args")),
    (TracebackType, ("tb_frame", "tb_next")),
)


def _attribute(parent: Any, child: object) -> str | None:
    for cls, names in _KNOWN:
        if is_a(parent, cls):
            for name in names:
                if object.__getattribute__(parent, name) is child:
                    return name
    for name, value in _attributes(parent):
        if value is child:
            return name
    return None


def _attributes(parent: Any) -> Iterator[tuple[str, object]]:
    """An object's attributes, without calling its code."""
    try:
        attributes = object.__getattribute__(parent, "__dict__")
    except AttributeError:
        attributes = None
    if type(attributes) is dict:
        yield "__dict__", attributes
        yield from list(attributes.items())
    for cls in type.__dict__["__mro__"].__get__(type(parent)):
        for name, slot in list(dict_of_type(cls).items()):
            if is_a(slot, MemberDescriptorType):
                try:
                    yield name, slot.__get__(parent)
                except AttributeError:
                    continue
