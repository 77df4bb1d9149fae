"""How an operation checks its own result, and how results are checked against history.

Two independent witnesses are compared. The *rows* carry stamps, put there by the generations that
computed them. The *provenance* of the result lists the generations that the SQL host planned with.
An operation is mixed if any row disagrees with the provenance, or any generation was linked to
another than the one that SQL called (`Comparison`).

Afterwards a third witness is heard: the reports of the changes list the versions of each epoch.
Every claim "in epoch 7 I saw geo 1.2.0#3" must agree with them (`History`), and a function may be
missing only while its plugin was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import pyarrow as pa

    from epochal.report import Cutover, Version
    from epochal.sql import Provenance

_STAMP: Final = "by_"
_VIA: Final = "_via_"
_SMALLEST_GAP: Final = 1e-9  # both sides do the same arithmetic: even rounding is the same

Claim: TypeAlias = "tuple[int, frozenset[tuple[str, str]]]"
"""An epoch's number, and the stamps (plugin, `version#generation`) that an operation saw in it."""


def stamp_of(version: Version | Provenance) -> str:
    """The stamp that the witness of this generation puts on its rows."""
    return f"{version.version}#{version.generation}"


class Comparison:
    """One result, compared batch by batch with its provenance.

    Args:
        promised: plugin -> the stamp that every row must bear.

    Attributes:
        promised: the same.
        flights: the number of flights whose stamps were compared.
        faults: the disagreements, in words; empty for a whole result.
    """

    def __init__(self, promised: Mapping[str, str]) -> None:
        self.promised: Final = promised
        self.flights = 0
        self.faults: list[str] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Compare every row of a batch."""
        for column in batch.schema.names:
            if column.startswith(_STAMP):
                self._compare(column.removeprefix(_STAMP), batch.column(column))
        if "gap" in batch.schema.names:
            widest = pc.max(batch.column("gap")).as_py()
            if widest is not None and widest > _SMALLEST_GAP:
                self.faults.append(f"geo and SQL convert by different units: {widest:g} apart")
        self.flights += pc.sum(batch.column("flights")).as_py() or 0

    def _compare(self, name: str, stamps: pa.Array) -> None:
        plugin, _, via = name.partition(_VIA)
        promised = self.promised.get(plugin)
        for stamp in pc.unique(stamps).to_pylist():
            if stamp != promised:
                through = f" through {via}" if via else ""
                self.faults.append(
                    f"rows of {plugin}{through} are by {stamp}, planned was {promised}"
                )


@dataclass(frozen=True, slots=True)
class Absence:
    """A query that failed because a function does not exist.

    Attributes:
        earliest: number of the current epoch just before it was planned.
        latest: number of the current epoch just after it was refused.
        plugins: the plugins that it calls.
        message: the error's text.
    """

    earliest: int
    latest: int
    plugins: frozenset[str]
    message: str

    def is_rightful(self, epochs: Mapping[int, Collection[str]]) -> bool:
        """Whether the missing function's plugin was absent at some time during the query.

        Args:
            epochs: the plugins of each epoch.
        """
        return any(
            f"{plugin}." in self.message and plugin not in epochs[number]
            for number in range(self.earliest, self.latest + 1)
            for plugin in self.plugins
        )


class History:
    """The generations of each epoch, from the reports of all changes of a runtime.

    Attributes:
        epochs: number of an epoch -> plugin -> stamp.
    """

    def __init__(self, cutovers: Iterable[Cutover]) -> None:
        self.epochs: Final[dict[int, dict[str, str]]] = {0: {}}
        for cutover in sorted(cutovers, key=lambda cutover: cutover.epoch_after):
            plugins = dict(self.epochs[cutover.epoch_before])
            for swap in cutover.swaps:
                plugins.pop(swap.plugin, None)
                if swap.new is not None:
                    plugins[swap.plugin] = stamp_of(swap.new)
            self.epochs[cutover.epoch_after] = plugins

    def is_true(self, claim: Claim) -> bool:
        """Whether an epoch had the stamps that an operation saw in it."""
        number, stamps = claim
        return stamps <= frozenset(self.epochs.get(number, {}).items())
