# /// plugin
# id = "geo"
# version = "2.0.0"
# description = "Distances on the ellipsoid"
# requires = ["units>=2,<3"]
# capabilities = ["scalar"]
# ///
"""Distances on the WGS 84 ellipsoid, by Andoyer's and Lambert's correction of the sphere.

Jean Meeus, Astronomical Algorithms, chapter 11; good to some fifty metres.
"""

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

EQUATOR_KM = 6378.137
FLATTENING = 1.0 / 298.257223563
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
        return andoyer(lat1, lon1, lat2, lon2)


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


def andoyer(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    """The formula; its letters are those of the book."""
    sin_f, cos_f = _squares(pc.add(lat1, lat2))
    sin_g, cos_g = _squares(pc.subtract(lat1, lat2))
    sin_l, cos_l = _squares(pc.subtract(lon1, lon2))
    s = pc.add(pc.multiply(sin_g, cos_l), pc.multiply(cos_f, sin_l))
    c = pc.add(pc.multiply(cos_g, cos_l), pc.multiply(sin_f, sin_l))
    omega = pc.atan(pc.sqrt(pc.divide(s, c)))
    r3 = pc.multiply(pc.divide(pc.sqrt(pc.multiply(s, c)), omega), 3.0)
    h1 = pc.divide(pc.subtract(r3, 1.0), pc.multiply(c, 2.0))
    h2 = pc.divide(pc.add(r3, 1.0), pc.multiply(s, 2.0))
    bulge = pc.subtract(
        pc.multiply(h1, pc.multiply(sin_f, cos_g)),
        pc.multiply(h2, pc.multiply(cos_f, sin_g)),
    )
    sphere = pc.multiply(omega, 2.0 * EQUATOR_KM)
    result = pc.multiply(sphere, pc.add(pc.multiply(bulge, FLATTENING), 1.0))
    return pc.if_else(pc.equal(s, 0.0), 0.0, result)  # one and the same place: 0/0 above


def _squares(degrees: Any) -> tuple[Any, Any]:
    """Squares of sine and cosine of half an angle."""
    half = pc.multiply(degrees, RADIANS / 2.0)
    sine, cosine = pc.sin(half), pc.cos(half)
    return pc.multiply(sine, sine), pc.multiply(cosine, cosine)
