"""Distances on the globe; the formula has a module of its own."""

from typing import Any

import pyarrow as pa

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

witness = Witness()
units: Any = None


def init(ctx: PluginContext) -> None:
    """Check a well-known distance before any query is served."""
    global units
    km = _distance(*(pa.array([degrees]) for degrees in (40.64, -73.78, 51.47, -0.45)))[0].as_py()
    if not 5500.0 < km < 5600.0:
        raise ValueError(f"self-test: New York to London is some 5,550 km, not {km:,.0f}")
    witness.begin(ctx)
    units = ctx.require("units")


def shutdown() -> None:
    witness.end()


@scalar(vectorized=True, volatility="immutable")
def distance(
    lat1: pa.DoubleArray, lon1: pa.DoubleArray, lat2: pa.DoubleArray, lon2: pa.DoubleArray
) -> pa.DoubleArray:
    """Great-circle distance in kilometres; coordinates in degrees."""
    with witness:
        return _distance(lat1, lon1, lat2, lon2)


@scalar(vectorized=True, volatility="immutable")
def length(km: pa.DoubleArray) -> pa.DoubleArray:
    """A length in the unit of the `units` that this generation was linked to."""
    with witness:
        return units.length(km)


@scalar(vectorized=True, volatility="stable")
def version_of(value: pa.DoubleArray) -> pa.StringArray:
    """The generation that computed this row."""
    return witness.stamps(len(value))


@scalar(vectorized=True, volatility="stable")
def units_version_of(value: pa.DoubleArray) -> pa.StringArray:
    """The generation of `units` that this one was linked to."""
    with witness:
        return units.version_of(value)


def _distance(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    # Imported by each call, also after the next version was published: it is always the module of
    # this generation.
    from .formulas import haversine

    return haversine(lat1, lon1, lat2, lon2)
