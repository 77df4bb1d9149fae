"""Values that belong to one event loop each, found in a few tenths of a microsecond.

The problem: a service finds its loop's timers five times a query. A `WeakKeyDictionary` takes a
microsecond for it, since it makes a weak reference of the key for each look-up.

The idea: the last value that was asked for is remembered with its loop, both weakly: a process
mostly has one loop. The values are in the dictionary, and go with their loops.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """A value for each event loop.

    Args:
        make: makes the value of a loop, in its thread; the value must not refer to the loop.
    """

    __slots__ = ("_make", "_recent", "_values")

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make: Final = make
        self._values: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, T]] = WeakKeyDictionary()
        # One reference: loops in several threads replace it, each with a pair that fits.
        self._recent: tuple[ref[asyncio.AbstractEventLoop], ref[T]] | None = None

    def get(self) -> T:
        """The value of the running loop."""
        loop = asyncio.get_running_loop()
        recent = self._recent
        if recent is not None and recent[0]() is loop and (known := recent[1]()) is not None:
            return known
        value = self._values.get(loop)
        if value is None:
            value = self._values[loop] = self._make(loop)
        self._recent = (ref(loop), ref(value))
        return value
