"""The origin of a result: the epoch that the query was planned in, and the code that computed it.

These are plain records, which hold no plugin in use: store them, log them, send them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epochal import Export, Generation


@dataclass(frozen=True, slots=True)
class EpochRef:
    """The epoch that a query was planned in.

    Attributes:
        number: counts up with every change of one runtime.
        id: digest of the epoch's contents: two runtimes with the same id run the same code.
    """

    number: int
    id: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """The code of one function of a query.

    Attributes:
        function: full name, `plugin.name`.
        kind: name of its kind, such as `scalar`.
        plugin: id of the plugin.
        version: the plugin's version, from its manifest.
        digest: SHA-256 of the plugin's bytes.
        generation: number of the plugin's generation, counted by the runtime.
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
    """Record the origin of one export of a generation."""
    return Provenance(
        function=export.name,
        kind=export.kind.name,
        plugin=export.plugin,
        version=generation.version,
        digest=generation.digest,
        generation=generation.number,
    )
