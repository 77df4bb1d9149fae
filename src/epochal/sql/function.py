"""The base of every plugin function in SQL: names, origin, and installation in the engine.

A `Function` is made once for each epoch and name. It holds types and names and no plugin code: the
code belongs to each query's `Execution`. A query installs the function in a planning context and
uninstalls it once the query is planned.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pyarrow as pa

from epochal.sql.conversion import ParameterColumns
from epochal.sql.provenance import provenance_of
from epochal.sql.types import sql_signatures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from datafusion import SessionContext

    from epochal import Epoch, Export, Generation, Kind
    from epochal.kinds.signature import Parameter
    from epochal.sql.call_slot import CallSlot
    from epochal.sql.execution import Execution


def encode_buffer(data: pa.Buffer) -> str:
    """A buffer of Arrow's as text, for `trial_planning`."""
    return base64.b64encode(memoryview(data)).decode()


def encode_schema(fields: Iterable[pa.Field]) -> str:
    """Fields as text, for `trial_planning`."""
    return encode_buffer(pa.schema(list(fields)).serialize())


def encode_types(kinds: Iterable[pa.DataType]) -> str:
    """Unnamed fields of these types as text, for `Function.stub`."""
    return encode_schema(pa.field(f"p{index}", kind) for index, kind in enumerate(kinds))


class Function(ABC):
    """One function of an epoch.

    Args:
        export: the plugin's export.
        generation: the generation of the plugin.
        parameters: the columns that the function takes.
        has_codec: whether its signature has data types.

    Attributes:
        kind: the kind of its export.
        name: its full name in SQL, `plugin.name`.
        exported: the full name of its export.
        key: the key of its callable in the query that calls it; text, whose hash is cached.
        origin: the provenance of its code.
        label: name, plugin and version, for messages.
        usage: its signature in SQL.
        parameters: the columns that it takes.
    """

    suffix: ClassVar[str] = ""
    """The end of its name in SQL, which follows the export's name."""

    outlives_query: ClassVar[bool] = False
    """Whether a plan with it may be run by one query after another."""

    runs_in_planning: bool = True
    """Whether the engine may call it while it optimises a plan, if its arguments are constant."""

    deregister: ClassVar[Callable[[SessionContext, str], object]]
    """The engine's method that removes a function of this class from a context."""

    def __init__(
        self,
        export: Export,
        generation: Generation,
        parameters: Iterable[Parameter] = (),
        has_codec: bool = False,
    ) -> None:
        self._has_codec: Final = has_codec
        self.kind: Final[Kind[Any]] = export.kind
        self.exported: Final = export.name
        self.name: Final = export.name + self.suffix
        self.key: Final = f"{export.kind.name} {self.name}"
        self.origin: Final = provenance_of(export, generation)
        self.parameters: Final = ParameterColumns(parameters, export.plugin)
        self.label: Final = f"{self.name} (plugin {export.plugin} {generation.version})"
        usages = sql_signatures(export)
        self.usage: Final = next((u for u in usages if u.startswith(f"{self.name}(")), usages[0])

    @property
    def engine_name(self) -> str:
        """The name under which the engine knows it."""
        return self.name

    def callable_of(self, epoch: Epoch) -> Any:
        """The callable of a query that runs in the given epoch; it carries the lease."""
        function = self._function_of(epoch)
        if not self._has_codec:
            return function
        # Wrapped again for each query: a codec is plugin code, and this object outlives the query.
        return self._wrapped(function, epoch.export(self.kind, self.exported))

    def _function_of(self, epoch: Epoch) -> Any:
        return epoch[self.kind][self.exported]

    @abstractmethod
    def _wrapped(self, function: Any, export: Export) -> Any:
        """Wrap the callable in the codecs of its signature."""

    @abstractmethod
    def install(self, context: SessionContext, execution: Execution, slot: CallSlot) -> None:
        """Register it in a planning context, for one plan.

        Args:
            context: the planning context.
            execution: the query that is planned.
            slot: for the calls of a plan that is run by other queries later.
        """

    @abstractmethod
    def stub(self) -> dict[str, Any]:
        """Its name and types, as the child process of `trial_planning` reads them."""

    def uninstall(self, context: SessionContext) -> None:
        """Remove it from a planning context."""
        type(self).deregister(context, self.engine_name)
