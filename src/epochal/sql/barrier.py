"""Has the engine apply its filters itself, to a table that would otherwise be asked to.

The problem: what the engine can say as a `pyarrow` expression it hands to a table written in
Python, and does not look at again. But `pyarrow` means something else by it: a null is in no list,
so that `NOT IN` lets it pass, and NaN is neither below nor above anything. Rows would come that SQL
excludes, and others would not.

The idea: the engine is shown each column behind an expression that is the column, and that it can
neither say in `pyarrow` nor simplify. It costs about 0.3 ms for a million values. What a plugin may
save by the filters is found out before, from a plan of the table without this (`pushdown`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
from datafusion import col, lit
from datafusion import functions as f

if TYPE_CHECKING:
    from datafusion import SessionContext
    from datafusion.catalog import Table
    from datafusion.expr import Expr


def keep_filters(context: SessionContext, table: Table) -> Table:
    """The same table, for a planning context, with every filter applied by the engine."""
    hidden = [_hidden(field) for field in table.schema]
    return context.read_table(table).select(*hidden).into_view()


def _hidden(field: pa.Field) -> Expr:
    column = col('"' + field.name.replace('"', '""') + '"')
    metadata = _metadata(field)
    if metadata is None:
        return column
    if pa.types.is_boolean(field.type):  # of a CASE the engine would make ANDs and ORs
        same = f.nullif(column, lit(None))
    else:
        same = f.when(column.is_not_null(), column).end()
    return same.alias(field.name, metadata or None)


def _metadata(field: pa.Field) -> dict[str, str] | None:
    """What a column carries beside its type; None where it cannot be told to the engine."""
    try:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        if isinstance(field.type, pa.ExtensionType):
            parameters = field.type.__arrow_ext_serialize__().decode()
        elif isinstance(field.type, _PLAIN):
            parameters = ""
        else:
            return None if isinstance(field.type, pa.BaseExtensionType) else metadata
    except UnicodeDecodeError:
        return None
    names = {"name": field.type.extension_name, "metadata": parameters}
    return metadata | {f"ARROW:extension:{key}": value for key, value in names.items()}


_PLAIN: Final = (pa.UuidType, pa.JsonType, pa.Bool8Type)
"""The extension types of `pyarrow` that have no parameters; of its others it does not tell them."""
