"""A callable that stays good across reloads, for programs that ask for a function once and keep it.

A route, an SQL function or a callback that a program registers as it starts would call the version
of that moment for ever, and keep it in use. A live export keeps no version: it looks the export up
in its caller's epoch once a call. The export that it finds carries its lease, so the call ends on
the version that it began with.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.kind import Kind


class LiveExport:
    """An export by its name; made by `Runtime.live`.

    The signature is that of the present version, the text that of the first. Two of one export of
    one runtime are equal.

    Args:
        snapshot: returns the caller's epoch.
        kind: the export's kind.
        name: its full name.
        text: the export's docstring.

    Raises:
        UnknownExportError: on a call too, if the caller's epoch has no such export.
    """

    def __init__(
        self, snapshot: Callable[[], Epoch], kind: Kind[Any], name: str, text: str | None
    ) -> None:
        self._snapshot: Final = snapshot
        self._kind: Final = kind
        self._name: Final = name
        self.__doc__ = text

    def __call__(self, /, *args: Any, **kw: Any) -> Any:
        """Call the version of the caller's epoch."""
        return self._snapshot().find(self._kind, self._name)(*args, **kw)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._snapshot().find(self._kind, self._name))

    @property
    def __name__(self) -> str:
        return self._name.rpartition(".")[2]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LiveExport) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, Kind[Any], str]:
        return self._snapshot, self._kind, self._name

    def __repr__(self) -> str:
        return f"<live {self._kind.name} {self._name}>"


class AwaitableLiveExport(LiveExport):
    """A live export of an `async def` function, and known as one to `iscoroutinefunction`."""

    async def __call__(self, /, *args: Any, **kw: Any) -> Any:
        """Call the version of the caller's epoch, and await it."""
        result = self._snapshot().find(self._kind, self._name)(*args, **kw)
        return await result if inspect.isawaitable(result) else result


def live_export(snapshot: Callable[[], Epoch], kind: Kind[Any], name: str) -> LiveExport:
    """The live export of a name.

    Raises:
        UnknownExportError: the caller's epoch has no such export.
    """
    target = snapshot().export(kind, name).target
    live = AwaitableLiveExport if inspect.iscoroutinefunction(target) else LiveExport
    return live(snapshot, kind, name, getattr(target, "__doc__", None))
