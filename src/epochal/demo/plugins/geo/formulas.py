"""Kilometres between two places on a sphere, by two formulas; coordinates in degrees."""

import math
from typing import Any

import pyarrow.compute as pc

RADIUS_KM = 6371.0088  # mean radius of the Earth (IUGG)
RADIANS = math.pi / 180.0


def haversine(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    cosines = pc.multiply(pc.cos(pc.multiply(lat1, RADIANS)), pc.cos(pc.multiply(lat2, RADIANS)))
    chord = pc.add(_squared(lat1, lat2), pc.multiply(cosines, _squared(lon1, lon2)))
    return pc.multiply(pc.asin(pc.sqrt(chord)), 2.0 * RADIUS_KM)


def law_of_cosines(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    north1, north2 = pc.multiply(lat1, RADIANS), pc.multiply(lat2, RADIANS)
    east = pc.cos(pc.multiply(pc.subtract(lon2, lon1), RADIANS))
    sines = pc.multiply(pc.sin(north1), pc.sin(north2))
    cosine = pc.add(sines, pc.multiply(pc.multiply(pc.cos(north1), pc.cos(north2)), east))
    # Rounding may leave the cosine of two equal places a little above one.
    return pc.multiply(pc.acos(pc.min_element_wise(cosine, 1.0)), RADIUS_KM)


def _squared(start: Any, end: Any) -> Any:
    """The square of the sine of half an angle."""
    half = pc.sin(pc.multiply(pc.subtract(end, start), RADIANS / 2.0))
    return pc.multiply(half, half)
