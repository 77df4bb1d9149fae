"""The place where the adapters of a plan find the query that runs the plan now.

A plan that is kept (`kept_plans`) is run by one query after another. Its adapters are native code's
for as long as the plan lives, and each query has an `Execution` of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from epochal.sql.execution import NO_ERROR, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from epochal.sql.execution import Callee, Execution

T = TypeVar("T")


class CallSlot:
    """Passes calls on to an execution.

    Attributes:
        execution: the query that runs the plan; None between queries. Written by the thread that
            plans a query or ends it, and read by the engine's threads.
    """

    __slots__ = ("execution",)

    def __init__(self, execution: Execution | None) -> None:
        self.execution = execution

    def call(self, function: Callee, key: Hashable, work: Callable[..., T], *args: Any) -> T:
        """See `Execution.call`.

        Raises:
            StoppedError: for the engine.
        """
        execution = self.execution
        if execution is None:
            raise StoppedError(NO_ERROR)
        return execution.call(function, key, work, *args)

    def call_rows(self, function: Callable[..., T], columns: Sequence[pa.Array]) -> list[T]:
        """See `Execution.call_rows`.

        Raises:
            StoppedError: the query has ended.
        """
        execution = self.execution
        if execution is None:
            raise StoppedError(NO_ERROR)
        return execution.call_rows(function, columns)

    def value(self, name: str, rows: pa.Array | None = None) -> pa.Array:
        """The value of a parameter of the query that runs the plan, as a column.

        Args:
            name: the parameter's.
            rows: as long as the column is to be; None for one row.

        Raises:
            StoppedError: for the engine: no query does.
        """
        execution = self.execution
        if execution is None:
            raise StoppedError(NO_ERROR)
        return pa.repeat(execution.parameters[name], 1 if rows is None else len(rows))
