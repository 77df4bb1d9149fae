"""Which tables of plugins a query names, and who serves them.

Only the engine knows what a SQL text names as a table: so it asks, by a schema of ours (`Lookup`),
and a plugin's table is opened when it is asked for. What might be asked for is looked up before, in
the query's epoch, since that is let go before anything is planned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datafusion.catalog import Catalog

from epochal._core.introspect.tracebacks import format_error
from epochal.errors import HostError
from epochal.kinds.storage import storage
from epochal.sql.conversion import ReturnTypeError
from epochal.sql.plugin_tables import StoredTable, open_table
from epochal.sql.sql_scan import may_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from datafusion.catalog import Table

    from epochal._core.generation.epoch import Epoch
    from epochal.sql.execution import Execution


def stored_tables(
    uris: Mapping[str, str], sql: str, epoch: Epoch
) -> dict[str, StoredTable | HostError]:
    """The plugins' tables that a query may name, by name; why not, where nobody serves one.

    Args:
        uris: the registered ones, by name.
        sql: the query.
        epoch: where the query finds its plugins.
    """
    return {name: _stored(name, uri, epoch) for name, uri in uris.items() if may_name(sql, name)}


def _stored(name: str, uri: str, epoch: Epoch) -> StoredTable | HostError:
    try:
        return StoredTable(name, uri, backend_of(uri, epoch), epoch)
    except HostError as error:
        return HostError(f"table {name!r}: {error}")


class Lookup:
    """The tables of one query, as the engine asks for them by name while it plans.

    A plugin's table is opened when it is asked for, and never for a column or a `WITH` of the same
    name; and then once, however often it is named and planned.

    Args:
        own: the engine's own, by name.
        stored: those that plugins serve.
        execution: the query's.

    Attributes:
        opened: what was asked for of plugins' tables, by name.
    """

    def __init__(
        self,
        own: Mapping[str, Table],
        stored: Mapping[str, StoredTable | HostError],
        execution: Execution,
    ) -> None:
        self._own: Final = own
        self._stored: Final = stored
        self._execution: Final = execution
        self.opened: Final[dict[str, Table]] = {}

    @property
    def table_names(self) -> list[str]:
        """For the engine's list of tables (`information_schema`): no other is opened for it."""
        return [*self._own, *self.opened]

    @property
    def owner_name(self) -> None:
        """Nobody."""

    def table_exist(self, name: str) -> bool:
        """Whether there is one of that name."""
        return name in self._own or name in self._stored

    def table(self, name: str) -> Table | None:
        """The table of that name.

        Raises:
            HostError: no active plugin serves it.
            StoppedError: it cannot be opened.
        """
        if (own := self._own.get(name)) is not None:
            return own
        if (opened := self.opened.get(name)) is not None:
            return opened
        stored = self._stored.get(name)
        if isinstance(stored, HostError):
            raise stored
        if stored is None:
            return None
        table = self.opened[name] = stored.open(self._execution)
        return table

    def catalog(self) -> Catalog:
        """A catalog of these."""
        catalog = Catalog.memory_catalog()
        # Not a `SchemaProvider` by its class, since the binding reads `table_names` as a property.
        catalog.register_schema("public", self)  # type: ignore[arg-type]
        return catalog


def schema_of(uri: str, epoch: Epoch) -> pa.Schema:
    """The columns of a plugin's table, which is opened for that and closed again.

    Raises:
        HostError: nobody serves it, or it cannot be opened; what the plugin raised is the cause.
    """
    backend = epoch[storage][backend_of(uri, epoch)]
    try:
        table, schema = open_table(backend, uri)
        table.close()
    except KeyboardInterrupt:
        raise
    except ReturnTypeError as error:
        raise HostError(f"{uri} {error}") from None
    except BaseException as error:
        raise HostError(f"{uri} cannot be opened: {format_error(error)}") from error
    return schema


def scheme_of(uri: str) -> str:
    """The scheme of an address, in lower case."""
    return uri.partition("://")[0].lower()


def schemes_of(epoch: Epoch) -> Mapping[str, str]:
    """The schemes that an epoch's plugins serve, each with the full name of its backend."""
    return epoch.derived(_SCHEMES, _read_schemes)


_SCHEMES: Final = "epochal.sql.schemes"


def _read_schemes(epoch: Epoch) -> dict[str, str]:
    return {epoch.export(storage, name).options["scheme"]: name for name in epoch[storage]}


def backend_of(uri: str, epoch: Epoch) -> str:
    """The full name of the backend that serves an address.

    Raises:
        HostError: there is none.
    """
    scheme, schemes = scheme_of(uri), schemes_of(epoch)
    if scheme not in schemes:
        known = ", ".join(f"{one}://" for one in sorted(schemes)) or "none"
        raise HostError(f"no active plugin serves {scheme}://; served: {known}")
    return schemes[scheme]
