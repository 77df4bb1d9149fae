"""Makes the engine filter a plugin's table itself, instead of leaving its filters to pyarrow.

The problem: the engine passes a filter that it can express in `pyarrow` to a table written in
Python, and does not apply it again. But `pyarrow` gives some filters another meaning: a null is in
no list, so `NOT IN` lets it pass, and NaN is neither below nor above any value. The query would get
rows that SQL excludes, and lack others.

The idea: the engine sees the table behind a limit that no table reaches. Moving a filter below a
limit would change which rows the limit counts, so the engine keeps the filter above it and applies
it. Columns, their types and the query's own limit pass. (An earlier version hid each *column*
behind an expression: the engine then proves less about the order of rows than it relies on, and
refused queries with ORDER BY, windows and joins.) The filters that may save a plugin work are found
before, in a plan of the table without the barrier (`pushdown`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datafusion import SessionContext
    from datafusion.catalog import Table

_UNREACHABLE_LIMIT: Final = 2**62


def keep_filters(context: SessionContext, table: Table) -> Table:
    """The same table for a planning context, with every filter applied by the engine."""
    return context.read_table(table).limit(_UNREACHABLE_LIMIT).into_view()
