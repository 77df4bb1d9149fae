"""How a plugin of the demonstration says who it is, and notices that it is used too late.

A claim such as "no operation mixes two versions" is worth what checks it. Nothing here trusts the
runtime: each generation holds a `Witness`, which stamps every row that the generation computes with
its version and number (`1.2.0#7`), and which fails any call that begins or ends after the
generation's own `shutdown()`. The queries return the stamps, and whoever ran a query compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import pyarrow as pa

if TYPE_CHECKING:
    from epochal._core.generation.context import PluginContext

living: Final[WeakSet[Witness]] = WeakSet()
"""Every witness whose memory has not come back; each lives and dies with its generation's module.

Added to by changes, one at a time; only counted by others.
"""


class UsedTooLateError(RuntimeError):
    """A generation was called, or was still at work, after its `shutdown()`."""


class Witness:
    """One generation's identity and whether it may still be used.

    `with witness:` around a function's body checks at both ends. `begin` and `end` are called by
    the change that brings the generation up or down; everything else by whatever thread computes.
    Both attributes are replaced by one store each.

    Attributes:
        stamp: version and number, `1.2.0#7`; empty before `begin`.
    """

    __slots__ = ("__weakref__", "_ended", "_plugin", "stamp")

    def __init__(self) -> None:
        self._plugin = ""
        self._ended = False
        self.stamp = ""

    def begin(self, ctx: PluginContext) -> None:
        """Learn who this generation is: from `init(ctx)`."""
        self._plugin = ctx.plugin
        self.stamp = f"{ctx.version}#{ctx.generation}"
        living.add(self)

    def end(self) -> None:
        """From now on every use is too late: from `shutdown()`."""
        self._ended = True

    def check(self) -> None:
        """Go on only while the generation may be used.

        Raises:
            UsedTooLateError: it was shut down.
        """
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
