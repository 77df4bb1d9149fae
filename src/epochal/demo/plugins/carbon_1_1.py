# /// plugin
# id = "carbon"
# version = "1.1.0"
# description = "Carbon dioxide of a flight, with the detour of departure and approach"
# requires = ["geo>=1"]
# capabilities = ["scalar"]
# ///
"""Carbon dioxide of a flight, with the detour of departure and approach."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

KG_PER_KM = 0.09  # a passenger in a full short-haul jet: a round figure

witness = Witness()
geo: Any = None


def init(ctx: PluginContext) -> None:
    """Learn who this generation is, and whose `geo` it uses for life."""
    global geo
    witness.begin(ctx)
    geo = ctx.require("geo")


def shutdown() -> None:
    """Nobody may call from here on."""
    witness.end()


@scalar(vectorized=True, volatility="immutable")
def kilograms(
    lat1: pa.DoubleArray, lon1: pa.DoubleArray, lat2: pa.DoubleArray, lon2: pa.DoubleArray
) -> pa.DoubleArray:
    """Carbon dioxide of one passenger between two places."""
    with witness:
        km = geo.distance(lat1, lon1, lat2, lon2)
        return pc.multiply(flown(km), KG_PER_KM)


@scalar(vectorized=True, volatility="stable")
def version_of(value: pa.DoubleArray) -> pa.StringArray:
    """Which generation answers for this row."""
    return witness.stamps(len(value))


@scalar(vectorized=True, volatility="stable")
def geo_version_of(value: pa.DoubleArray) -> pa.StringArray:
    """Which generation of `geo` this one was linked to."""
    with witness:
        return geo.version_of(value)


def flown(km: Any) -> Any:
    """What an aircraft flies for a distance (great-circle correction of the ICAO calculator)."""
    longer = pc.if_else(pc.less(km, 5500.0), 100.0, 125.0)
    return pc.add(km, pc.if_else(pc.less(km, 550.0), 50.0, longer))
