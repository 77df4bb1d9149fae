"""Looks at the heap during which no other thread runs, and which show nothing unfinished.

`gc.get_referrers` and `gc.get_objects` also show tuples that are still being made. The call
``tuple(rows())`` fills its tuple while `rows` runs, and raises `SystemError` if anything else
refers to that tuple when it has to grow (CPython before 3.14; the documentation of
`gc.get_referrers` warns of objects under construction). A look that let one out would break calls
of the host, in any thread, that have nothing to do with plugins.

So all steps of a look, from listing the objects to forgetting those that must not be let out, run
within one call of a function in C: the interpreter changes threads between bytecodes only. The
steps are iterators from `itertools`, made beforehand: a list's iterator shows what is in the list
by the time it is asked. None of the steps calls foreign code, such as a ``__class__`` or the
``__hash__`` of a metaclass: they compare types by `id`.

Up to Python 3.11 any allocation may begin a collection, which does run bytecodes. A look allocates
a few objects only, and so begins with a collection of the youngest: the next is hundreds away.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from itertools import chain, compress, repeat, starmap
from operator import and_, gt, is_, is_not, le, not_
from sys import getrefcount
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

T = TypeVar("T")

_ALLOCATING_COLLECTS: Final = sys.version_info < (3, 12)


def referrers(targets: Sequence[Any], ignored: AbstractSet[int] = frozenset()) -> list[Any]:
    """The objects that refer to any of these.

    A tuple with one owner may be unfinished, its owner a call in C. It is shown if an object refers
    to it, which nothing does to an unfinished one. Looking that up takes a second walk through the
    heap.

    Args:
        targets: the objects that are referred to.
        ignored: the `id` of each object of the caller's that does not count as an owner.
    """
    found, young, owners, inside = list[Any](), list[Any](), list[Any](), list[Any]()
    is_young, is_owner = list[bool](), list[bool]()
    kept, complete = list[Any](), list[Any]()
    young_ids = set[int]()
    _run(
        _call(found.extend, gc.get_referrers, targets),
        _extend(
            is_young,
            map(
                and_,
                map(is_, map(type, iter(found)), repeat(tuple)),
                map(le, map(getrefcount, iter(found)), repeat(_IN_A_LIST + 1)),
            ),
        ),
        _extend(young, compress(iter(found), iter(is_young))),
        _extend(kept, compress(iter(found), map(not_, iter(is_young)))),
        map(list.clear, (found,)),
        _call(owners.extend, gc.get_referrers, young),
        # What nothing but the list of owners refers to was the arguments of the call above.
        _extend(
            is_owner,
            map(
                and_,
                map(gt, map(getrefcount, iter(owners)), repeat(_IN_A_LIST)),
                map(
                    and_,
                    map(is_not, iter(owners), repeat(young)),
                    map(not_, map(ignored.__contains__, map(id, iter(owners)))),
                ),
            ),
        ),
        _call(inside.extend, gc.get_referents, compress(iter(owners), iter(is_owner))),
        map(young_ids.update, (map(id, iter(young)),)),
        _extend(
            complete, compress(iter(inside), map(young_ids.__contains__, map(id, iter(inside))))
        ),
        map(list.clear, (young, owners, inside)),
    )
    # One that has several owners was found as often.
    return kept + list({id(item): item for item in complete}.values())


def referrers_of_type(cls: type[T], *targets: object) -> list[T]:
    """The objects of just this type that refer to one of these; the type is not `tuple`."""
    return _of_types({id(cls)}, gc.get_referrers, targets)


def instances(classes: Collection[type]) -> list[Any]:
    """The objects of just these types, which are of those that their instances refer to.

    Every class written in Python is; of those in C, some.
    """
    return _of_types(set(map(id, classes)), gc.get_referrers, classes)


def all_instances(cls: type) -> list[Any]:
    """All objects of a class and of those that derive from it; passes through the whole heap."""
    kinds, todo = set[int](), [cls]
    while todo:
        kind = todo.pop()
        if id(kind) not in kinds:
            kinds.add(id(kind))
            todo += type.__subclasses__(kind)
    return _of_types(kinds, gc.get_objects, ())


def _of_types(
    types: set[int], look: Callable[..., list[Any]], arguments: Collection[Any]
) -> list[Any]:
    found, kept = list[Any](), list[Any]()
    _run(
        _call(found.extend, look, arguments, always=True),
        _extend(
            kept, compress(iter(found), map(types.__contains__, map(id, map(type, iter(found)))))
        ),
        map(list.clear, (found,)),
    )
    return kept


# --- steps in C ----------------------------------------------------------------------------------


def _run(*steps: Iterator[object]) -> None:
    """Take all steps, with no bytecode in between."""
    collect = [starmap(gc.collect, ((0,),))] if _ALLOCATING_COLLECTS and gc.isenabled() else []
    deque(chain(*collect, *steps), maxlen=0)


def _call(
    use: Callable[[list[Any]], None],
    look: Callable[..., list[Any]],
    arguments: Iterable[Any],
    *,
    always: bool = False,
) -> Iterator[object]:
    """``use(look(*arguments))``, with the arguments as they are then; without any, no call."""
    taken: Iterator[tuple[Any, ...]] = map(tuple, (arguments,))
    return map(use, starmap(look, taken if always else filter(None, taken)))


def _extend(items: list[Any], more: Iterator[Any]) -> Iterator[object]:
    return map(items.extend, (more,))


def _calibrated() -> int:
    held = [(object(),)]
    return next(map(getrefcount, held))


_IN_A_LIST: Final = _calibrated()
"""`getrefcount` of what only the list refers to that is passed through."""
