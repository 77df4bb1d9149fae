"""A plugin's function as a query finds it: what it is called, where it is from, how it is put in.

A `Function` is made once for each epoch and name, holds types and names, and no plugin code: that
is in each query's `Execution`. It is put into a planning context for one query and taken out again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from epochal.sql.provenance import provenance_of
from epochal.sql.types import sql_signatures

if TYPE_CHECKING:
    import pyarrow as pa
    from datafusion import SessionContext

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Export, Kind
    from epochal.sql.execution import Execution


class Function(ABC):
    """One function of an epoch, ready to be put into planning contexts.

    Attributes:
        kind: the kind it was exported as.
        name: its full name in SQL, `plugin.name`.
        exported: the full name of the export behind it, mostly the same.
        key: what its carrying callable is looked up by, in the query that calls it; a text, since
            that is hashed once.
        origin: where its code is from.
        label: name, plugin and version, for messages.
        usage: how SQL calls it.
        takes: the columns that it takes, where any says which data type it is of; otherwise empty.
    """

    __slots__ = ("exported", "key", "kind", "label", "name", "origin", "takes", "usage")

    def __init__(self, export: Export, generation: Generation, suffix: str = "") -> None:
        self.kind: Final[Kind[Any]] = export.kind
        self.exported: Final = export.name
        self.name: Final = export.name + suffix
        self.key: Final = f"{export.kind.name} {self.name}"
        self.origin: Final = provenance_of(export, generation)
        self.takes: tuple[pa.Field, ...] = ()
        self.label: Final = f"{self.name} (plugin {export.plugin} {generation.version})"
        self.usage: Final = next(
            usage for usage in sql_signatures(export) if usage.startswith(f"{self.name}(")
        )

    @property
    def engine_name(self) -> str:
        """The name under which the engine knows it."""
        return self.name

    def callable_of(self, epoch: Epoch) -> Any:
        """What a query calls, out of its epoch; it carries the lease."""
        return epoch[self.kind][self.exported]

    @abstractmethod
    def install(self, context: SessionContext, execution: Execution) -> None:
        """Put it into a planning context, for one query."""

    @abstractmethod
    def uninstall(self, context: SessionContext) -> None:
        """Take it out of a planning context again."""
