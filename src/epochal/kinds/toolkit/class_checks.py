"""Classes that plugins export: what they must be like, and how their objects end."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def check_class(
    target: Any, methods: Mapping[str, tuple[str, ...] | None], *, plain: Collection[str] = ()
) -> None:
    """Ask for a class that is made without arguments and has the methods.

    Args:
        target: what was marked.
        methods: by name, the arguments that each is called with; None for any.
        plain: those that must do their work when they are called, and so are no generators.

    Raises:
        TypeError: it is not; the message says all that is wrong.
    """
    if not isinstance(target, type):
        raise TypeError(f"expected a class, not {target!r}")
    faults = [_fault(target, name, arguments) for name, arguments in methods.items()]
    faults += [_generator(target, name) for name in plain]
    try:
        inspect.signature(target).bind()
    except TypeError as error:
        faults.append(f"it is made without arguments, and {error}")
    if told := [fault for fault in faults if fault]:
        raise TypeError("; ".join(told))


def close_object(instance: Any) -> None:
    """Call its `close()`, if it has one."""
    close = getattr(instance, "close", None)
    if callable(close):
        close()


def _generator(target: type, name: str) -> str:
    method = getattr(target, name, None)
    if not (inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)):
        return ""
    return f"{name} has a `yield`, so that calling it does nothing: it must do its work and return"


def _fault(target: type, name: str, arguments: tuple[str, ...] | None) -> str:
    wanted = f"{name}({'…' if arguments is None else ', '.join(arguments)})"
    method = getattr(target, name, None)
    if not callable(method):
        return f"it has no method {wanted}"
    if inspect.iscoroutinefunction(method):
        return f"{wanted} must be a plain method, not async def"
    if arguments is None:
        return ""
    try:
        inspect.signature(method).bind("self", *arguments)
    except TypeError as error:
        return f"{wanted}: {error}"
    return ""
