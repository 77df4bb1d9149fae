"""The chain of awaitables behind a suspended coroutine: which of them is a generation's code.

A coroutine awaits another, that one an async generator's `asend`, and so on. Some links have no
frame: what `coroutine.__await__()`, `asend()`, `athrow()`, `aclose()` and `anext()` return, and
iterators that a class of its own implements. Their next link has no public name, and is found among
the objects that they refer to (`gc.get_referents`).
"""

from __future__ import annotations

import gc
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.frames import undisturbed
from epochal._core.introspect.object_names import SUSPENDED, class_of_library
from epochal._core.introspect.places import place_in, place_of

if TYPE_CHECKING:
    from types import CodeType, FrameType

_STEPS: Final = ("__next__", "send", "throw", "__await__", "__anext__")
_IMMUTABLE: Final = 1 << 8
"""`Py_TPFLAGS_IMMUTABLETYPE`."""
_LINKS_AT_MOST: Final = 10_000
"""Of one chain; CPython's own recursion ends earlier."""


def place_inside(
    awaitable: Any, globals_ids: frozenset[int], elsewhere: dict[int, CodeType]
) -> str | None:
    """The outermost place of a suspended coroutine (generator, …) that is the generation's.

    A web server has many tasks, each thirty coroutines deep, all of the same code, and reading a
    frame makes a frame object: so code that was seen to be elsewhere is skipped for the rest of the
    look.

    Args:
        awaitable: the coroutine.
        globals_ids: the `id` of each module dictionary of the generation.
        elsewhere: code that is not the generation's, by its `id`; added to.
    """
    todo, seen = [awaitable], set[int]()
    while todo and len(seen) < _LINKS_AT_MOST:
        link = _first_unknown(todo.pop(), elsewhere)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        frame, behind = _step_into(link)
        if frame is not None:
            if id(frame.f_globals) in globals_ids:
                return place_of(frame)
            elsewhere[id(frame.f_code)] = frame.f_code
        elif (code := _code_of_steps(link, globals_ids)) is not None:
            return place_in(code, None)
        todo += [inner for inner in behind if inner is not None]
    return None


def _first_unknown(link: Any, elsewhere: dict[int, CodeType]) -> Any:
    """The first link of a chain that is not code seen elsewhere; None at a future, its usual end.

    Its own tight loop: nearly all links of nearly all chains end here.
    """
    for _ in range(_LINKS_AT_MOST):
        if type(link) is not CoroutineType or id(link.cr_code) not in elsewhere:
            break
        link = link.cr_await
    return None if type(link) is not CoroutineType and _awaits_future(link) else link


def _awaits_future(link: Any) -> bool:
    """Whether it is asyncio's iterator over one of its own futures; a task is looked at by itself.

    No class of Python code is immutable, whatever it calls itself.
    """
    cls = type(link)
    return (
        bool(cls.__flags__ & _IMMUTABLE)
        and cls.__name__ == "FutureIter"
        and cls.__module__ == "_asyncio"
        and all(type(future).__flags__ & _IMMUTABLE for future in gc.get_referents(link))
    )


def _step_into(link: Any) -> tuple[FrameType | None, list[Any]]:
    """The frame of a link, and what it waits for."""
    if type(link) in SUSPENDED:
        with undisturbed():  # it may be running, in another thread
            return _read_step(link)
    # Its attributes are foreign code, which must not run under a lock.
    frame, behind = _read_step(link)
    return (frame, behind) if frame is not None else (None, _links_behind(link))


def _read_step(link: Any) -> tuple[FrameType | None, list[Any]]:
    for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        frame = getattr(link, f"{prefix}_frame", None)
        if frame is not None:
            return frame, [getattr(link, inner, None)]
    return None, []


def _links_behind(link: Any) -> list[Any]:
    """The awaitables that an object without a frame refers to."""
    future = class_of_library("asyncio.futures", "Future")  # the base of tasks
    if issubclass(type(link), future) or type(link) in SUSPENDED:
        return []  # a task is looked at by itself; a coroutine without a frame has ended
    found: list[Any] = []
    for inner in gc.get_referents(link):
        if type(inner) in (dict, list, tuple):  # the attributes of an instance, arguments
            found += filter(_is_link, gc.get_referents(inner))
        elif _is_link(inner):
            found.append(inner)
    return found


def _is_link(obj: Any) -> bool:
    cls = type(obj)
    return cls in SUSPENDED or (
        not issubclass(cls, type)
        and any("__next__" in vars(base) or "__await__" in vars(base) for base in cls.__mro__)
    )


def _code_of_steps(link: Any, globals_ids: frozenset[int]) -> CodeType | None:
    """The generation's code that goes on in an object without a frame; None if it is other code."""
    if link is None or type(link) in SUSPENDED:
        return None
    for base in type(link).__mro__:
        for name in _STEPS:
            step = vars(base).get(name)
            if isinstance(step, FunctionType) and id(step.__globals__) in globals_ids:
                return step.__code__
    return None
