# /// plugin
# id = "geo"
# version = "1.0.0"
# description = "Distances on a sphere"
# requires = ["units>=1,<2"]
# capabilities = ["scalar"]
# ///
"""Distances on a sphere, by the haversine formula."""

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

RADIUS_KM = 6371.0088  # mean radius of the Earth (IUGG)
RADIANS = math.pi / 180.0

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
    with witness:
        return haversine(lat1, lon1, lat2, lon2)


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


def haversine(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    """The formula, for arrays and for single values alike."""
    cosines = pc.multiply(
        pc.cos(pc.multiply(lat1, RADIANS)),
        pc.cos(pc.multiply(lat2, RADIANS)),
    )
    chord = pc.add(_half_sine(lat1, lat2), pc.multiply(cosines, _half_sine(lon1, lon2)))
    return pc.multiply(pc.asin(pc.sqrt(chord)), 2.0 * RADIUS_KM)


def _half_sine(start: Any, end: Any) -> Any:
    half = pc.sin(pc.multiply(pc.subtract(end, start), RADIANS / 2.0))
    return pc.multiply(half, half)
