"""Checks of the classes that plugins export: how they are made, and which methods they have."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from epochal.kinds.toolkit.call_checks import is_generator

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def check_class(
    target: Any, methods: Mapping[str, tuple[str, ...] | None], *, plain: Collection[str] = ()
) -> None:
    """Require a class that is made without arguments and has these methods.

    Args:
        target: the object that was marked.
        methods: the names of the methods, each with the arguments that it is called with; None for
            any arguments.
        plain: the methods that must not be generators, since calling one runs none of its code.

    Raises:
        TypeError: the class does not meet this; the message names every fault.
    """
    if not isinstance(target, type):
        raise TypeError(f"expected a class, not {target!r}")
    checks = [_method_fault(target, name, arguments) for name, arguments in methods.items()]
    checks += [_generator_fault(target, name) for name in plain]
    faults = [fault for fault in checks if fault]
    try:
        inspect.signature(target).bind()
    except TypeError as error:
        faults.append(f"it is made without arguments, but {error}")
    if faults:
        raise TypeError("; ".join(faults))


def close_object(instance: Any) -> None:
    """Call the object's `close()`, if it has one."""
    close = getattr(instance, "close", None)
    if callable(close):
        close()


def _generator_fault(target: type, name: str) -> str:
    if not is_generator(getattr(target, name, None)):
        return ""
    return f"{name} has a `yield`, so calling it does nothing: it must do its work and return"


def _method_fault(target: type, name: str, arguments: tuple[str, ...] | None) -> str:
    expected = f"{name}({'…' if arguments is None else ', '.join(arguments)})"
    method = getattr(target, name, None)
    if not callable(method):
        return f"it has no method {expected}"
    if inspect.iscoroutinefunction(method):
        return f"{expected} must be a plain method, not async def"
    if arguments is None:
        return ""
    try:
        inspect.signature(method).bind("self", *arguments)
    except TypeError as error:
        return f"{expected}: {error}"
    return ""
