"""How an operation checks its own result, and how results are checked against history.

Two witnesses are compared that know nothing of each other. The *rows* carry stamps, put there by
the generations that computed them. The *provenance* of the result is what the SQL host says it
planned with. An operation is mixed if any row disagrees with the provenance, or any generation was
linked to another than the one that SQL called (`Comparison`).

Afterwards a third witness is heard: the reports of the changes say which versions each epoch had.
Every claim "in epoch 7 I saw geo 1.2.0#3" must be true of them (`History`), and a function may be
missing only where its plugin was.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import pyarrow as pa

    from epochal.report import Cutover, Version
    from epochal.sql.provenance import Provenance

_STAMP: Final = "by_"
_VIA: Final = "_via_"
_SMALLEST_GAP: Final = 1e-9  # both sides do the same arithmetic: even rounding is the same

Claim: TypeAlias = "tuple[int, frozenset[tuple[str, str]]]"
"""An epoch's number, and the stamps (plugin, `version#generation`) that an operation saw in it."""


def stamp_of(version: Version | Provenance) -> str:
    """The stamp that the witness of this generation puts on its rows."""
    return f"{version.version}#{version.generation}"


class Comparison:
    """One result, compared batch by batch with what its provenance promises.

    Args:
        promised: plugin -> the stamp that every row must bear.

    Attributes:
        promised: the same.
        flights: how many flights' stamps were looked at.
        faults: what did not fit, in words; empty for a result that is whole.
    """

    __slots__ = ("faults", "flights", "promised")

    def __init__(self, promised: Mapping[str, str]) -> None:
        self.promised: Final = promised
        self.flights = 0
        self.faults: list[str] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at every row of a batch."""
        for column in batch.schema.names:
            if column.startswith(_STAMP):
                self._compare(column.removeprefix(_STAMP), batch.column(column))
        if "gap" in batch.schema.names:
            self._measure(batch.column("gap"))
        self.flights += pc.sum(batch.column("flights")).as_py() or 0

    def _compare(self, name: str, stamps: pa.Array) -> None:
        plugin, _, via = name.partition(_VIA)
        promised = self.promised.get(plugin)
        for seen in pc.unique(stamps).to_pylist():
            if seen != promised:
                through = f" through {via}" if via else ""
                self.faults.append(
                    f"rows of {plugin}{through} are by {seen}, planned was {promised}"
                )

    def _measure(self, gaps: pa.Array) -> None:
        widest = pc.max(gaps).as_py()
        if widest is not None and widest > _SMALLEST_GAP:
            self.faults.append(f"geo and SQL convert by different units: {widest:g} apart")


@dataclass(frozen=True, slots=True)
class Absence:
    """A query was told that a function does not exist.

    Attributes:
        earliest: number of the current epoch just before it was planned.
        latest: number of the current epoch just after it was refused.
        plugins: the plugins that it calls.
        message: what it was told.
    """

    earliest: int
    latest: int
    plugins: frozenset[str]
    message: str

    def is_rightful(self, epochs: Mapping[int, Collection[str]]) -> bool:
        """Whether the plugin of the missing function was away at some time while the query asked.

        Args:
            epochs: the plugins of each epoch.
        """
        return any(
            f"{plugin}." in self.message and plugin not in epochs[number]
            for number in range(self.earliest, self.latest + 1)
            for plugin in self.plugins
        )


class History:
    """Which generations each epoch had, told by the reports of all changes of a runtime.

    Attributes:
        epochs: number of an epoch -> plugin -> stamp.
    """

    __slots__ = ("epochs",)

    def __init__(self, cutovers: Iterable[Cutover]) -> None:
        self.epochs: Final[dict[int, Mapping[str, str]]] = {0: MappingProxyType({})}
        for cutover in sorted(cutovers, key=lambda cutover: cutover.epoch_after):
            plugins = dict(self.epochs[cutover.epoch_before])
            for swap in cutover.swaps:
                plugins.pop(swap.plugin, None)
                if swap.new is not None:
                    plugins[swap.plugin] = stamp_of(swap.new)
            self.epochs[cutover.epoch_after] = MappingProxyType(plugins)

    def is_true(self, claim: Claim) -> bool:
        """Whether an epoch had what an operation saw in it."""
        number, stamps = claim
        return stamps <= frozenset(self.epochs.get(number, {}).items())
