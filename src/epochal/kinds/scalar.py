"""Scalar functions: one SQL value out of the values of one row.

::

    @scalar
    def distance(lat1: float, lon1: float, lat2: float, lon2: float) -> float: ...

The function takes and returns plain Python values; the engine applies it over batches. Where a
parameter is not optional, a null there makes the result null without a call, as SQL expects.
`@scalar(vectorized=True)` takes whole Arrow arrays and returns one of the same length; of a data
type (`epochal.kinds.data_type`), arrays of its storage.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Kind
from epochal.kinds.signature import (
    Signature,
    data_types_of,
    read_array,
    read_signature,
    read_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from epochal.kinds.marker_types import ScalarMarker

VOLATILITIES: Final = ("immutable", "stable", "volatile")


class ScalarKind(Kind[Callable[..., Any]]):
    """The kind of scalar functions; its one instance is `epochal.kinds.scalar`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: ScalarMarker  # type: ignore[assignment]  # overloads

    def options(
        self, *, volatility: str = "volatile", vectorized: bool = False, **unknown: Any
    ) -> Mapping[str, Any]:
        """Check the marker's options.

        Args:
            volatility: the promise that an engine may rely on. `"volatile"`, the default, promises
                nothing: the function is called for every row, which is never wrong. `"stable"`
                promises the same result for the same arguments within one query, `"immutable"` for
                ever. Both let the engine call the function once, *while it plans*, where all
                arguments are constants; compute an expression that occurs twice only once; and
                filter earlier. A function that draws random numbers or counts its calls must stay
                volatile; nearly any other gains from promising more.
            vectorized: the function takes and returns Arrow arrays, and deals with nulls itself.
            **unknown: refused.

        Raises:
            TypeError: the kind has no such option.
            ValueError: there is no such volatility.
        """
        if unknown:
            raise TypeError(
                f"scalar does not know the options {sorted(unknown)}; "
                "it takes volatility, vectorized and name"
            )
        if volatility not in VOLATILITIES:
            raise ValueError(
                f"volatility {volatility!r} is not known; expected one of {', '.join(VOLATILITIES)}"
            )
        return {"volatility": volatility, "vectorized": bool(vectorized)}

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
        """Return the SQL types of the function's parameters and result.

        Raises:
            TypeError: as `validate`.
        """
        if inspect.isclass(export.target) or inspect.isgeneratorfunction(export.target):
            raise TypeError("is not a plain function; a scalar function returns a value for a row")
        read = read_array if export.options["vectorized"] else read_value
        signature = read_signature(export.target, read)
        if not signature.parameters and export.options["volatility"] == "volatile":
            raise TypeError(
                "has no parameters, so the engine cannot know how many rows to make; "
                "mark it volatility='stable' to have it called once for each query, "
                "or give it a parameter"
            )
        return signature


scalar: Final = ScalarKind("scalar", "one SQL value out of the values of one row")
