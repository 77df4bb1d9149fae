"""Checks of calls: whether a function takes all calls that its callers may make."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_POSITIONAL: Final = inspect.Parameter.POSITIONAL_ONLY
_EITHER: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_NAMED: Final = inspect.Parameter.KEYWORD_ONLY
_STAR: Final = inspect.Parameter.VAR_POSITIONAL
_STARS: Final = inspect.Parameter.VAR_KEYWORD


def is_generator(function: Any) -> bool:
    """Return whether a call of the function only makes a generator, and runs none of its code."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def check_calls(spec: inspect.Signature, implementation: inspect.Signature) -> None:
    """Check that an implementation takes every call that its specification allows.

    Raises:
        TypeError: there is a call that it does not take.
    """
    try:
        for args, kw in _allowed_calls(spec):
            _bind(implementation, args, kw)
    except TypeError as error:
        raise TypeError(
            f"it is called as {spec}, and {implementation} does not take that: {error}"
        ) from None


def _bind(implementation: inspect.Signature, args: Sequence[str], kw: Mapping[str, str]) -> None:
    # Each argument's value is its name, which shows an argument that arrives under another name.
    bound = implementation.bind(*args, **kw)
    for name, value in bound.arguments.items():
        kind = implementation.parameters[name].kind
        if kind is _STAR:
            lost = [argument for argument in value if argument in implementation.parameters]
            if lost:
                raise TypeError(f"{lost[0]!r} would arrive in *{name}")
        elif kind not in (_STARS, _POSITIONAL) and value not in (name, ""):
            raise TypeError(f"{value!r} would arrive as {name!r}")


def _allowed_calls(spec: inspect.Signature) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield the calls that a specification allows.

    With and without the parameters that have a default, and with those that may be given by
    position or by name in either way.
    """
    for given in _with_and_without_defaults(spec):
        first = ["" for p in given if p.kind is _POSITIONAL]
        either = [p.name for p in given if p.kind is _EITHER]
        named = {p.name: p.name for p in given if p.kind is _NAMED}
        if any(p.kind is _STARS for p in given):
            named["any_other_name"] = "any_other_name"
        for number in range(len(either) + 1):
            by_name = {name: name for name in either[number:]}
            yield [*first, *either[:number]], {**by_name, **named}
        if any(p.kind is _STAR for p in given):
            yield [*first, *either, ""], named


def check_replacement(name: str, old: Any, new: Any) -> None:
    """Check that a new version of a method takes the calls that the old one's callers make.

    Raises:
        ValueError: it does not, or only one of the two is `async def`.
    """
    was, is_now = inspect.iscoroutinefunction(old), inspect.iscoroutinefunction(new)
    if was != is_now:
        words = ("a plain method", "async def")
        raise ValueError(f"{name}() was {words[was]} and became {words[is_now]}")
    before, after = inspect.signature(old), inspect.signature(new)
    for args, kw in _likely_calls(before):
        try:
            after.bind(*args, **kw)
        except TypeError as error:
            raise ValueError(
                f"{name}{before} became {name}{after}, which callers may not be ready for: {error}"
            ) from None


def _likely_calls(signature: inspect.Signature) -> Iterator[tuple[list[None], dict[str, None]]]:
    """Yield calls of a method: with fewest and all arguments, all by position or all by name."""
    for given in reversed(_with_and_without_defaults(signature)):
        named = {p.name: None for p in given if p.kind is _NAMED}
        yield [None for p in given if p.kind in (_POSITIONAL, _EITHER)], named
        by_name = {p.name: None for p in given if p.kind is _EITHER}
        yield [None for p in given if p.kind is _POSITIONAL], {**by_name, **named}


def _with_and_without_defaults(signature: inspect.Signature) -> list[list[inspect.Parameter]]:
    parameters = list(signature.parameters.values())
    return [parameters, [p for p in parameters if p.default is p.empty]]
