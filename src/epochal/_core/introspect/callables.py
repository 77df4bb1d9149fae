"""The callables inside a callable, and calls that have not run yet.

A decorated function is often another module's code around the plugin's own function. Decorators
say so with `__wrapped__`, or keep the function in a closure, in a `func` attribute, or in an
attribute of an object with `__call__`. And a decorated function may return from its call before any
of its code has run.
"""

from __future__ import annotations

import dis
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from inspect import CO_VARARGS
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_LOOKED_AT_MOST: Final = 64
"""How many callables inside one are looked at: decorators nest a few deep, registries are large."""

_LINKS: Final = ("__wrapped__", "func", "__func__")

NOT_RUN: Final[tuple[type, ...]] = (
    *(GeneratorType, CoroutineType, AsyncGeneratorType),
    *(type(contextmanager(iter)(())), type(asynccontextmanager(iter)(()))),  # type: ignore[arg-type]  # made for their types alone
)
"""The types of results with code that has not run yet: generators, coroutines, and context managers
of generators."""


def callables_inside(target: Any) -> Iterator[Any]:
    """Yield the callables that calling `target` may lead to, `target` itself first, each once."""
    todo, seen = [target], {id(target)}
    for _ in range(_LOOKED_AT_MOST):
        if not todo:
            return
        current = todo.pop(0)
        yield current
        for inner in callables_linked(current):
            if id(inner) not in seen:
                seen.add(id(inner))
                todo.append(inner)


def callables_linked(target: Any) -> Iterator[Any]:
    """Yield the callables that a callable refers to as the one that it calls."""
    return filter(callable, _linked(target))


def _linked(target: Any) -> Iterator[Any]:
    for name in _LINKS:
        with suppress(Exception):  # a proxy's `__getattr__` is foreign code
            yield getattr(target, name)
    if type(target) is FunctionType:
        for cell in target.__closure__ or ():
            with suppress(ValueError):  # an empty cell: its name is not bound yet
                yield from _contents(cell.cell_contents)
    elif not issubclass(type(target), type):
        with suppress(Exception):
            yield from list(vars(target).values())


def _contents(value: Any) -> Iterable[Any]:
    """A closure's value, or the entries of a container there (a registry of implementations)."""
    if type(value) is dict:
        return list(value.values())
    return list(value) if type(value) in (list, tuple) else (value,)


def takes(function: Any, count: int) -> bool:
    """Whether a function can be called with that number of arguments by position.

    A callable that is no Python function is not looked at: its signature may be foreign code.
    """
    if type(function) is not FunctionType:
        return True
    code, defaults = function.__code__, function.__defaults__ or ()
    most, keywords = code.co_argcount, function.__kwdefaults__ or {}
    required = code.co_varnames[most : most + code.co_kwonlyargcount]
    is_enough = most - len(defaults) <= count
    has_room = count <= most or bool(code.co_flags & CO_VARARGS)
    return is_enough and has_room and keywords.keys() >= set(required)


def decorated_inside(
    function: FunctionType, is_decorator: Callable[[object], bool]
) -> Iterator[tuple[CodeType, str]]:
    """The functions and classes that a function's body decorates, whether or not it was called.

    Args:
        function: the outer function.
        is_decorator: whether a value that the body looks up is the decorator in question.

    Yields:
        The code of each inner function or class, and the decorator's name.
    """
    todo = [function.__code__]
    while todo:
        outer = todo.pop()
        inner = [const for const in outer.co_consts if type(const) is CodeType]
        todo += inner
        names = function.__globals__
        if not inner or not _may_look_up(outer, names, is_decorator):  # as nearly all functions
            continue
        for name, line in _looked_up(outer, names, is_decorator):
            # A definition begins at the line of its first decorator; its body is further below.
            yield from ((code, name) for code in inner if code.co_firstlineno <= line < _body(code))


def _may_look_up(
    code: CodeType, names: Mapping[str, object], is_wanted: Callable[[object], bool]
) -> bool:
    """Whether `_looked_up`, which reads every instruction, can find one: by the names alone."""
    known = [value for name in code.co_names for value in (names.get(name), sys.modules.get(name))]
    return any(isinstance(value, ModuleType) or is_wanted(value) for value in known)


def _looked_up(
    code: CodeType, names: Mapping[str, object], is_wanted: Callable[[object], bool]
) -> Iterator[tuple[str, int]]:
    """The names by which a body looks up a value, with their lines: global, or imported in it."""
    imported: dict[str, object] = {}
    source: object = None  # the module that the last import statement names
    value: object = None
    for step in dis.get_instructions(code):
        before, value = value, None
        match step.opname:
            case "LOAD_GLOBAL":
                value = names.get(step.argval)
            case "LOAD_FAST" | "LOAD_DEREF":
                value = imported.get(step.argval)
            case "LOAD_ATTR" | "LOAD_METHOD" if isinstance(before, ModuleType):
                value = vars(before).get(step.argval)
            case "IMPORT_NAME":
                source = sys.modules.get(step.argval)
            case "IMPORT_FROM" if isinstance(source, ModuleType):
                value = vars(source).get(step.argval)
                continue
            case "STORE_FAST" | "STORE_DEREF" if before is not None:
                imported[step.argval] = before
                continue
        line = step.positions and step.positions.lineno
        if value is not None and line and is_wanted(value):
            yield step.argval, line


def _body(code: CodeType) -> int:
    """The first line of a definition's body."""
    lines = (line for _, _, line in code.co_lines() if line is not None)
    return min((line for line in lines if line > code.co_firstlineno), default=0)


def check_ran(name: str, result: object) -> None:
    """Check that a call ran the code of the function that it was meant to run.

    Args:
        name: the function's name, for the message.
        result: the call's result.

    Raises:
        TypeError: the result is a generator, a coroutine or a context manager of one, whose code
            has not run.
    """
    if isinstance(result, NOT_RUN):
        if isinstance(result, CoroutineType):
            result.close()  # the error is raised instead of the warning
        raise TypeError(
            f"{name}() returned a {type(result).__name__.lstrip('_')} and ran none of its code: "
            "make it a plain function, or have its decorator run it to the end"
        )
