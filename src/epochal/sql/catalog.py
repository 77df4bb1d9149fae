"""Looks up the tables that a query names, and the plugins that serve them.

Only the engine knows which names in a SQL text are tables. Therefore it gets a schema of ours
(`QuerySchema`), which opens a plugin's table when the engine asks for it. The tables that the text
might name are looked up before, because the query's epoch is released before planning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datafusion.catalog import Catalog

from epochal.errors import HostError, format_error
from epochal.kinds.storage import storage
from epochal.sql.conversion import ReturnTypeError
from epochal.sql.plugin_tables import PluginTable, open_table
from epochal.sql.sql_scan import may_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from datafusion.catalog import Table

    from epochal import Epoch
    from epochal.sql.execution import Execution

_SCHEMES: Final = "epochal.sql.schemes"


def plugin_tables(
    uris: Mapping[str, str], sql: str, epoch: Epoch
) -> dict[str, PluginTable | HostError]:
    """The plugins' tables that a query may name, by name, or the reason that none serves one.

    Args:
        uris: the addresses of the registered tables, by name.
        sql: the query.
        epoch: the query's epoch.
    """
    return {
        name: _plugin_table(name, uri, epoch) for name, uri in uris.items() if may_name(sql, name)
    }


def _plugin_table(name: str, uri: str, epoch: Epoch) -> PluginTable | HostError:
    try:
        return PluginTable(name, uri, backend_of(uri, epoch), epoch)
    except HostError as error:
        return HostError(f"table {name!r}: {error}")


class QuerySchema:
    """The tables of one query, which the engine requests by name while it plans.

    A plugin's table is opened when it is requested, not for a column or a `WITH` of the same name,
    and only once, however often it is named and planned.

    Args:
        own: the engine's tables, by name.
        served: the plugins' tables, by name.
        execution: the query's execution.

    Attributes:
        opened: the plugins' tables that were requested, by name.
    """

    def __init__(
        self,
        own: Mapping[str, Table],
        served: Mapping[str, PluginTable | HostError],
        execution: Execution,
    ) -> None:
        self._own: Final = own
        self._served: Final = served
        self._execution: Final = execution
        self.opened: Final[dict[str, Table]] = {}

    @property
    def table_names(self) -> list[str]:
        """For the engine's list of tables (`information_schema`), which opens no other table."""
        return [*self._own, *self.opened]

    @property
    def owner_name(self) -> None:
        """Always None: the schema has no owner."""

    def table_exist(self, name: str) -> bool:
        """Whether there is a table of that name."""
        return name in self._own or name in self._served

    def table(self, name: str) -> Table | None:
        """The table of that name; None for an unknown name.

        Raises:
            HostError: no active plugin serves it.
            StoppedError: it cannot be opened.
        """
        if (own := self._own.get(name)) is not None:
            return own
        if (opened := self.opened.get(name)) is not None:
            return opened
        served = self._served.get(name)
        if isinstance(served, HostError):
            raise served
        if served is None:
            return None
        table = self.opened[name] = served.open(self._execution)
        return table

    def catalog(self) -> Catalog:
        """A catalog with this schema alone."""
        catalog = Catalog.memory_catalog()
        # Not a subclass of `SchemaProvider`: the binding reads `table_names` as a property.
        catalog.register_schema("public", self)  # type: ignore[arg-type]
        return catalog


def schema_of(uri: str, epoch: Epoch) -> pa.Schema:
    """The columns of a plugin's table, which is opened for that and closed again.

    Raises:
        HostError: no plugin serves it, or it cannot be opened; the plugin's exception is the cause.
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


def backend_of(uri: str, epoch: Epoch) -> str:
    """The full name of the storage backend that serves an address.

    Raises:
        HostError: no active plugin serves its scheme.
    """
    scheme = uri.partition("://")[0].lower()
    schemes = epoch.derived(_SCHEMES, _backends_by_scheme)
    if scheme not in schemes:
        served = ", ".join(f"{known}://" for known in sorted(schemes)) or "none"
        raise HostError(f"no active plugin serves {scheme}://; served: {served}")
    return schemes[scheme]


def _backends_by_scheme(epoch: Epoch) -> dict[str, str]:
    return {epoch.export(storage, name).options["scheme"]: name for name in epoch[storage]}
