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
        def close(self): ...                            # if there is something to close

    db.register("orders", "lite:///data/shop.db?table=orders")

`scan` is told what the query needs: the names of the `columns`; the `filters` that it has in common
with every row that is wanted; and a `limit`, or None. All three are to save work. It must give at
least those columns; it may give rows that the filters exclude, since the engine filters by itself;
and it may stop after `limit` rows *that pass every filter*, so what applies no filters must not
stop.

The class is made once for each generation, after `init`. Each query opens its tables anew, in its
epoch, each once, and scans it as often as it names it: a scan that streams for minutes ends on the
code that it began with, and holds that in use; the next query opens the table with the new code,
which may give it other columns. One opened table is one version of the data: all its scans must see
the same rows, whatever is written meanwhile. If it has a `close()`, that is called once, when the
query has ended and no scan is under way any more. Two active plugins cannot serve one scheme.

Which threads: `table` and `schema` are called on the thread that plans, `scan` and the batches of
one scan on any, one at a time, several scans of one table at once. What ends a scan or a table, a
`finally:` or `close()`, runs on a thread of Epochal's, never on whoever lets a result go.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from epochal._core.generation.kind import Export, Kind
from epochal._core.use.lease_carrier import carry
from epochal.kinds.toolkit.class_checks import check_class, close_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from epochal._core.use.lease import Lease, RevocableLease

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")

Test: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "in", "is null", "is not null"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition that every wanted row meets; a row whose column is null meets none but `is null`.

    It compares as the engine does: texts by their bytes, and NaN above every number and equal to
    itself. What would compare otherwise must not leave rows out for it.

    Attributes:
        column: its name.
        test: how the column is compared.
        value: with what, as a Python value; a tuple for `in`, None where there is none.
    """

    column: str
    test: Test
    value: Any = None


class OpenedTable:
    """A table as one query sees it: the plugin's object, and the lease of its generation.

    Whoever opens one closes it; it is a context manager too.
    """

    __slots__ = ("_lease", "_table")

    def __init__(self, table: Any, lease: Lease | RevocableLease) -> None:
        self._table: Final = table
        self._lease: Final = lease

    @property
    def schema(self) -> Any:
        """Its columns, as the plugin says them; None where it has no `schema`."""
        # Not with a default: an AttributeError of the plugin's own is told as that.
        if inspect.getattr_static(self._table, "schema", None) is None:
            return None
        schema = self._table.schema
        return carry(schema, self._lease)() if callable(schema) else schema

    def scan(
        self, columns: Sequence[str], filters: Sequence[Filter], limit: int | None
    ) -> Iterator[Any]:
        """Begin to read."""
        batches: Iterator[Any] = iter(
            carry(self._table.scan, self._lease)(list(columns), list(filters), limit)
        )
        return batches

    def close(self) -> None:
        """Call its `close()`, if it has one."""
        close = getattr(self._table, "close", None)
        if callable(close):
            carry(close, self._lease)()

    def __enter__(self) -> OpenedTable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class StorageHandle:
    """What an epoch offers of a storage backend."""

    def __init__(self, backend: Any, lease: Lease | RevocableLease) -> None:
        self._backend: Final = backend
        self._lease: Final = lease

    def table(self, uri: str) -> OpenedTable:
        """Open a table; raises whatever the plugin raises."""
        return OpenedTable(carry(self._backend.table, self._lease)(uri), self._lease)

    def __repr__(self) -> str:
        return f"<storage {type(self._backend).__name__}>"


class StorageKind(Kind[Any]):
    """The kind of storage backends; its one instance is `epochal.kinds.storage`."""

    __slots__ = ()

    def options(self, *, scheme: str | None = None, **unknown: Any) -> Mapping[str, Any]:
        """What the marker takes.

        Args:
            scheme: what its addresses begin with, before `://`.
            **unknown: refused.

        Raises:
            TypeError: an option that is not known, or no scheme.
            ValueError: the scheme cannot be one.
        """
        if unknown or scheme is None:
            raise TypeError(f"storage takes scheme= and name=, not {sorted(unknown) or 'nothing'}")
        if not _SCHEME.fullmatch(scheme) or scheme == "file":
            raise ValueError(
                f"{scheme!r} is no scheme; expected one such as 'lite', and not 'file'"
            )
        return {"scheme": scheme}

    def validate(self, export: Export) -> None:
        """Ask for a class that is made without arguments and opens tables.

        Raises:
            TypeError: it is none.
        """
        check_class(export.target, {"table": ("uri",)}, plain=("table",))
        if "scheme" not in export.options:
            raise TypeError("it says no scheme; mark it as @storage(scheme='…')")

    def validate_together(self, exports: Sequence[Export]) -> None:
        """Refuse two backends of one scheme.

        Raises:
            ValueError: there are two.
        """
        schemes: dict[str, str] = {}
        for export in exports:
            other = schemes.setdefault(export.options["scheme"], export.name)
            if other != export.name:
                scheme = export.options["scheme"]
                raise ValueError(f"both {other} and {export.name} serve {scheme}://")

    def open(self, export: Export) -> Any:
        """Make the backend."""
        return export.target()

    def close(self, instance: Any) -> None:
        """Call its `close()`, if it has one."""
        close_object(instance)

    def wrap(self, instance: Any, lease: Lease | RevocableLease) -> StorageHandle:
        """Something to open tables with."""
        return StorageHandle(instance, lease)


storage: Final = StorageKind("storage", "tables by the scheme of their address")
