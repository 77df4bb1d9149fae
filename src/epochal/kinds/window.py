"""Window functions: a SQL value for each row, out of the rows around it.

::

    @window
    def change(price: list[float]) -> list[float | None]:
        return [None, *(b - a for a, b in zip(price, price[1:]))]

    SELECT quotes.change(price) OVER (PARTITION BY symbol ORDER BY day) FROM trades

The function gets the columns of one partition, in the order of its ORDER BY, and returns a value
for each row. With `frame=True` it is called once for each row, gets only the rows of that row's
frame (`ROWS BETWEEN 6 PRECEDING AND CURRENT ROW`), and returns one value. `vectorized=True` passes
Arrow arrays instead of lists.

Rows with a null in a column that is not optional are left out, and their result is null: the same
rule as for scalar functions. Annotate `list[float | None]` to see them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Kind
from epochal.kinds.signature import (
    Signature,
    data_types_of,
    read_array,
    read_column,
    read_signature,
    read_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from epochal.kinds.marker_types import WindowMarker


class WindowKind(Kind[Callable[..., Any]]):
    """The kind of window functions; its one instance is `epochal.kinds.window`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: WindowMarker  # type: ignore[assignment]  # overloads

    def options(
        self, *, frame: bool = False, vectorized: bool = False, **unknown: Any
    ) -> Mapping[str, Any]:
        """Check the marker's options.

        Args:
            frame: call the function for each row with that row's frame, rather than once for a
                partition.
            vectorized: the function takes Arrow arrays, and deals with nulls itself.
            **unknown: refused.

        Raises:
            TypeError: the kind has no such option.
        """
        if unknown:
            raise TypeError(
                f"window does not know the options {sorted(unknown)}; "
                "it takes frame, vectorized and name"
            )
        return {"frame": bool(frame), "vectorized": bool(vectorized)}

    def validate(self, export: Export) -> None:
        """Require a function that SQL can call.

        Raises:
            TypeError: SQL cannot; the message names each parameter and the types expected of it.
        """
        super().validate(export)
        self.signature(export)

    def dependencies(self, export: Export) -> Iterator[tuple[Kind[Any], Any]]:
        """Return the plugin's own data types that the function's annotations name."""
        return data_types_of(export.target)

    def signature(self, export: Export) -> Signature:
        """Return the function's parameters and result, each with the type of one row's value.

        Raises:
            TypeError: as `validate`.
        """
        read = read_array if export.options["vectorized"] else read_column
        signature = read_signature(
            export.target, read, read_return=read_value if export.options["frame"] else read
        )
        if not signature.parameters:
            raise TypeError("has no parameters; a window function needs a column to look at")
        return signature


window: Final = WindowKind("window", "a SQL value for each row, out of the rows around it")
