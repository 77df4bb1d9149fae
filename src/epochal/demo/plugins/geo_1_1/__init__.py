"""Distances on a sphere; the formula has a module of its own."""

from typing import Any

import pyarrow as pa

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

witness = Witness()
units: Any = None


def init(ctx: PluginContext) -> None:
    """Learn who this generation is, and whose `units` it uses for life."""
    global units
    witness.begin(ctx)
    units = ctx.require("units")


def shutdown() -> None:
    """Nobody may call from here on."""
    witness.end()


@scalar(vectorized=True, volatility="immutable")
def distance(
    lat1: pa.DoubleArray, lon1: pa.DoubleArray, lat2: pa.DoubleArray, lon2: pa.DoubleArray
) -> pa.DoubleArray:
    """Great-circle distance in kilometres; coordinates in degrees."""
    # Imported at the first call, maybe after the next version was published: it must be, and is,
    # the module of this generation.
    from .sphere import law_of_cosines

    with witness:
        return law_of_cosines(lat1, lon1, lat2, lon2)


@scalar(vectorized=True, volatility="immutable")
def length(km: pa.DoubleArray) -> pa.DoubleArray:
    """The same in the unit of the `units` that this generation was linked to."""
    with witness:
        return units.length(km)


@scalar(vectorized=True, volatility="stable")
def version_of(value: pa.DoubleArray) -> pa.StringArray:
    """Which generation answers for this row."""
    return witness.stamps(len(value))


@scalar(vectorized=True, volatility="stable")
def units_version_of(value: pa.DoubleArray) -> pa.StringArray:
    """Which generation of `units` this one was linked to."""
    with witness:
        return units.version_of(value)
