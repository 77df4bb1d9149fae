"""Where a result comes from: the epoch that it was planned in, the code that computed it.

Plain records, which hold nothing in use: keep them, log them, send them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Export


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """Which epoch a query was planned in.

    Attributes:
        number: counts up with every change of one runtime.
        id: digest of the epoch's contents: two runtimes with the same id run the same code.
    """

    number: int
    id: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which code is behind one function of a query.

    Attributes:
        function: full name, `plugin.name`.
        kind: name of its kind, `scalar` say.
        plugin: id of the plugin.
        version: the plugin's version, as its manifest says it.
        digest: SHA-256 of the plugin's bytes.
        generation: which loading of the plugin, counted by the runtime.
    """

    function: str
    kind: str
    plugin: str
    version: str
    digest: str
    generation: int

    def __str__(self) -> str:
        return f"{self.function} ({self.plugin} {self.version}, generation {self.generation})"


def provenance_of(export: Export, generation: Generation) -> Provenance:
    """The record of one export of a generation."""
    return Provenance(
        function=export.name,
        kind=export.kind.name,
        plugin=export.plugin,
        version=generation.version,
        digest=generation.digest,
        generation=generation.number,
    )
