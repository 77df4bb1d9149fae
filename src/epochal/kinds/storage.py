"""Storage: tables that a plugin serves, by the scheme of their address.

::

    @storage(scheme="lite")
    class sqlite_files:
        def table(self, uri: str):             # "lite:///data/shop.db?table=orders"
            return Orders(…)                   # with `schema`, and `scan` as below

    class Orders:
        schema: pa.Schema
        def scan(self, columns, filters, limit):        # yields Arrow record batches
            ...
        def close(self): ...                            # optional

    db.register("orders", "lite:///data/shop.db?table=orders")

`scan` gets the needs of the query: the names of the `columns`; the `filters` that every wanted row
meets; and a `limit`, or None. All three only save work. The scan must yield at least those columns;
it may yield rows that the filters exclude, since the engine filters them itself; and it may stop
after `limit` rows *that pass every filter*, so a scan that applies no filters must not stop.

The class is made once for each generation, after `init`. Each query opens its tables anew, in its
epoch, each once, and scans a table as often as it names it. A scan that streams for minutes ends on
the code that it began with, and keeps that code in use; the next query opens the table with the new
code, which may give it other columns. One opened table is one version of the data: all its scans
must see the same rows, whatever is written meanwhile. Its `close()`, if it has one, is called once,
when the query has ended and no scan is running. Two active plugins cannot serve one scheme.

Which threads: `table` and `schema` are called on the thread that plans; `scan`, and the batches of
one scan, on any thread, one at a time; several scans of one table run at once. The end of a scan or
a table, a `finally:` or `close()`, runs on a thread of Epochal's, never on the thread that drops a
result.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from epochal._core.generation.kind import Export, Kind
from epochal._core.use.lease import carry
from epochal.kinds.toolkit.class_checks import check_class, close_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from epochal._core.use.lease import Lease, RevocableLease
    from epochal.kinds.marker_types import StorageMarker

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")

Test: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "in", "is null", "is not null"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition that every wanted row meets; null meets `is null` alone.

    It compares as the engine does: texts by their bytes, and NaN above every number and equal to
    itself. A backend that compares otherwise must not exclude rows by that filter.

    Attributes:
        column: the column's name.
        test: how the column is compared.
        value: the Python value it is compared with; a tuple for `in`, None for the null tests.
    """

    column: str
    test: Test
    value: Any = None


class OpenedTable:
    """A table as one query sees it: the plugin's object, and the lease of its generation.

    The query that opens it closes it; it is a context manager too.
    """

    __slots__ = ("_lease", "_table")

    def __init__(self, table: Any, lease: Lease | RevocableLease) -> None:
        self._table: Final = table
        self._lease: Final = lease

    @property
    def schema(self) -> Any:
        """The plugin's `schema`, called if it is a method; None where there is none."""
        # Not by `getattr` with a default: an AttributeError inside the plugin's own property must
        # be reported as that.
        if inspect.getattr_static(self._table, "schema", None) is None:
            return None
        schema = self._table.schema
        return carry(schema, self._lease)() if callable(schema) else schema

    def scan(
        self, columns: Sequence[str], filters: Sequence[Filter], limit: int | None
    ) -> Iterator[Any]:
        """Begin a scan; returns its record batches."""
        batches: Iterator[Any] = iter(
            carry(self._table.scan, self._lease)(list(columns), list(filters), limit)
        )
        return batches

    def close(self) -> None:
        """Call the object's `close()`, if it has one."""
        close = getattr(self._table, "close", None)
        if callable(close):
            carry(close, self._lease)()

    def __enter__(self) -> OpenedTable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class StorageHandle:
    """The handle that an epoch offers for a storage backend."""

    def __init__(self, backend: Any, lease: Lease | RevocableLease) -> None:
        self._backend: Final = backend
        self._lease: Final = lease

    def table(self, uri: str) -> OpenedTable:
        """Open a table.

        Raises:
            Exception: any error of the plugin.
        """
        return OpenedTable(carry(self._backend.table, self._lease)(uri), self._lease)

    def __repr__(self) -> str:
        return f"<storage {type(self._backend).__name__}>"


class StorageKind(Kind[Any]):
    """The kind of storage backends; its one instance is `epochal.kinds.storage`."""

    __slots__ = ()

    is_local = False  # Every process opens the same tables.

    if TYPE_CHECKING:
        __call__: StorageMarker  # type: ignore[assignment]  # overloads

    def options(self, *, scheme: str | None = None, **unknown: Any) -> Mapping[str, Any]:
        """Check the marker's options.

        Args:
            scheme: the beginning of its addresses, before `://`.
            **unknown: refused.

        Raises:
            TypeError: the kind has no such option, or the scheme is missing.
            ValueError: the scheme is not valid.
        """
        if unknown:
            raise TypeError(f"storage takes scheme= and name=, not {sorted(unknown)}")
        if scheme is None:
            raise TypeError(
                "storage needs scheme=, with which its tables' addresses begin: "
                "@storage(scheme='lite') opens lite://…"
            )
        if not _SCHEME.fullmatch(scheme) or scheme == "file":
            raise ValueError(
                f"{scheme!r} is not a valid scheme; expected one such as 'lite', and not 'file'"
            )
        return {"scheme": scheme}

    def validate(self, export: Export) -> None:
        """Require a class that is made without arguments and opens tables.

        Raises:
            TypeError: it is not such a class, or has no scheme.
        """
        check_class(export.target, {"table": ("uri",)}, plain=("table",))
        if "scheme" not in export.options:
            raise TypeError("it has no scheme; mark it as @storage(scheme='…')")

    def validate_together(self, exports: Sequence[Export]) -> None:
        """Refuse two backends of one scheme.

        Raises:
            ValueError: there are two.
        """
        schemes: dict[str, str] = {}
        for export in exports:
            scheme = export.options["scheme"]
            other = schemes.setdefault(scheme, export.name)
            if other != export.name:
                raise ValueError(f"both {other} and {export.name} serve {scheme}://")

    def open(self, export: Export) -> Any:
        """Make the backend."""
        return export.target()

    def close(self, instance: Any) -> None:
        """Call the backend's `close()`, if it has one."""
        close_object(instance)

    def wrap(self, instance: Any, lease: Lease | RevocableLease) -> StorageHandle:
        """Return a handle that opens tables."""
        return StorageHandle(instance, lease)


storage: Final = StorageKind("storage", "tables by the scheme of their address")
