"""A pause: the time in which no version of some plugins runs, and their calls wait.

A plugin that cannot be there twice (a port, a registry that refuses a second entry) is stopped
before its new version starts. Meanwhile the current epoch offers *stand-ins* in place of its
exports. A stand-in refers to nothing of the plugin. A call of one waits until the pause is over,
and goes to the epoch that is published then: the new version, or the old one that goes on or was
started again.

A call that comes from inside the old version's code is let through to the old version for as long
as that drains: the drain waits for it.

Threads: callers of any thread wait for ``_over``, and the change that ends the pause settles it.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epochal._core.sync.completion import Completion

if TYPE_CHECKING:
    from collections.abc import Callable


class Pause:
    """The pause of one change.

    Args:
        admit: returns the old version's export for a call from inside it; None for other calls.
    """

    __slots__ = ("_admit", "_over")

    def __init__(self, admit: Callable[[Any, str], Any]) -> None:
        self._admit: Callable[[Any, str], Any] | None = admit
        self._over: Final[Completion[Any]] = Completion()  # with the epoch that calls go to

    @property
    def is_over(self) -> bool:
        """Whether calls wait no longer."""
        return self._over.done()

    def end(self, epoch: Any) -> None:
        """Let the calls go on, to an epoch. Idempotent; the first epoch counts."""
        self._admit = None
        self._over.set_result(epoch)

    def stand_in(self, target: Any, kind: Any, name: str) -> Any:
        """A function in place of an export, of the same sort: awaited, iterated or plain."""
        export = partial(self._export, kind, name)
        if inspect.iscoroutinefunction(target):

            async def wait_and_await(*args: Any, **kw: Any) -> Any:
                return await (await self._wait_async(kind, name) or export())(*args, **kw)

            function: Any = wait_and_await
        elif inspect.isasyncgenfunction(target):

            async def wait_and_yield(*args: Any, **kw: Any) -> Any:
                items = (await self._wait_async(kind, name) or export())(*args, **kw)
                try:
                    async for item in items:
                        yield item
                finally:
                    await items.aclose()

            function = wait_and_yield
        elif inspect.isgeneratorfunction(target):

            def wait_and_iterate(*args: Any, **kw: Any) -> Any:
                return (yield from (self._admitted(kind, name) or export())(*args, **kw))

            function = wait_and_iterate
        else:

            def wait_and_call(*args: Any, **kw: Any) -> Any:
                return (self._admitted(kind, name) or export())(*args, **kw)

            function = wait_and_call
        _describe(function, target)
        return function

    def _export(self, kind: Any, name: str) -> Any:
        """Wait until the pause is over; returns the export that it ended with."""
        return self._over.result().find(kind, name)

    async def _wait_async(self, kind: Any, name: str) -> Any:
        """Wait likewise; returns the export that an insider is to call."""
        if (inside := self._admitted(kind, name)) is not None:
            return inside
        await self._over.wait_async()
        return None

    def _admitted(self, kind: Any, name: str) -> Any:
        """The export that an insider is to call; None for other callers."""
        admit = self._admit
        return admit(kind, name) if admit is not None and not self.is_over else None


def _describe(function: Any, target: Any) -> None:
    """Give a stand-in the name and the signature of what it stands for, and nothing else of it."""
    for attribute in ("__name__", "__qualname__", "__doc__"):
        value = getattr(target, attribute, None)
        if isinstance(value, str):
            setattr(function, attribute, value)
    try:
        function.__signature__ = inspect.signature(target)
    except (TypeError, ValueError):
        return  # it has none to show
