"""Has the engine apply its filters itself, to a table that would otherwise be asked to.

The problem: what the engine can say as a `pyarrow` expression it hands to a table written in
Python, and does not look at again. But `pyarrow` means something else by it: a null is in no list,
so that `NOT IN` lets it pass, and NaN is neither below nor above anything. Rows would come that SQL
excludes, and others would not.

The idea: the engine is shown the table behind a limit that no table reaches. A filter must not be
moved below a limit, since that would change which rows it counts; so it stays above, in the engine.
Columns, their types and a limit of the query's own pass. (Hiding each *column* behind an expression
was tried before: the engine then proves less about an order than it relies on, and refused queries
with ORDER BY, windows and joins.) What a plugin may save by the filters is found out before, from a
plan of the table without this (`pushdown`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datafusion import SessionContext
    from datafusion.catalog import Table

_NEVER_REACHED: Final = 2**62


def keep_filters(context: SessionContext, table: Table) -> Table:
    """The same table, for a planning context, with every filter applied by the engine."""
    return context.read_table(table).limit(_NEVER_REACHED).into_view()
