# /// plugin
# id = "carbon"
# version = "1.0.0"
# description = "Carbon dioxide of a flight"
# requires = ["geo>=1"]
# capabilities = ["scalar"]
# ///
"""Carbon dioxide of a flight."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

KG_PER_KM = 0.09  # a passenger in a full short-haul jet: a round figure
DETOUR_KM = 0.0  # of departure and approach

witness = Witness()
geo: Any = None


def init(ctx: PluginContext) -> None:
    global geo
    witness.begin(ctx)
    geo = ctx.require("geo")


def shutdown() -> None:
    witness.end()


@scalar(vectorized=True, volatility="immutable")
def kilograms(
    lat1: pa.DoubleArray, lon1: pa.DoubleArray, lat2: pa.DoubleArray, lon2: pa.DoubleArray
) -> pa.DoubleArray:
    """Carbon dioxide of one passenger between two places."""
    with witness:
        return pc.multiply(pc.add(geo.distance(lat1, lon1, lat2, lon2), DETOUR_KM), KG_PER_KM)


@scalar(vectorized=True, volatility="stable")
def version_of(value: pa.DoubleArray) -> pa.StringArray:
    """The generation that computed this row."""
    return witness.stamps(len(value))


@scalar(vectorized=True, volatility="stable")
def geo_version_of(value: pa.DoubleArray) -> pa.StringArray:
    """The generation of `geo` that this one was linked to."""
    with witness:
        return geo.version_of(value)
