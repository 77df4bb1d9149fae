"""How a plugin of the demonstration identifies itself, and notices that it is used too late.

A claim such as "no operation mixes two versions" is worth as much as its check. Nothing here trusts
the runtime: each generation holds a `Witness`, which stamps every row that the generation computes
with its version and number (`1.2.0#7`), and which fails any call that begins or ends after the
generation's own `shutdown()`. The queries return the stamps, and their lanes compare them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import pyarrow as pa

if TYPE_CHECKING:
    from epochal import PluginContext

living: Final[WeakSet[Witness]] = WeakSet()
"""Every witness whose memory has not come back; each lives and dies with its generation's module.

Changes add to it, one at a time; other code only counts it.
"""


class UsedTooLateError(RuntimeError):
    """A generation was called, or was still at work, after its `shutdown()`."""


class Witness:
    """One generation's identity and whether it may still be used.

    `with witness:` around a function's body checks at both ends. The change that brings the
    generation up or down calls `begin` and `end`; any thread that computes calls the rest. Each
    attribute is replaced by one store.
    """

    def __init__(self) -> None:
        self._plugin = ""
        self._ended = False
        self.stamp = ""

    def begin(self, ctx: PluginContext) -> None:
        """Take the generation's identity; called by `init(ctx)`."""
        self._plugin = ctx.plugin
        self.stamp = f"{ctx.version}#{ctx.generation}"
        living.add(self)

    def end(self) -> None:
        """Fail every later use; called by `shutdown()`."""
        self._ended = True

    def check(self) -> None:
        """Raise `UsedTooLateError` if the generation was shut down."""
        if self._ended:
            raise UsedTooLateError(f"{self._plugin} {self.stamp} was used after its shutdown")

    def stamps(self, rows: int) -> pa.StringArray:
        """The stamp, once for each row."""
        self.check()
        return pa.repeat(self.stamp, rows)

    def __enter__(self) -> Witness:
        self.check()
        return self

    def __exit__(self, *exc: object) -> None:
        self.check()
