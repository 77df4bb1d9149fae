"""Kilometres between two places on a sphere; coordinates in degrees."""

import math
from typing import Any

import pyarrow.compute as pc

RADIUS_KM = 6371.0088  # mean radius of the Earth (IUGG)
RADIANS = math.pi / 180.0


def haversine(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    cosines = pc.multiply(pc.cos(pc.multiply(lat1, RADIANS)), pc.cos(pc.multiply(lat2, RADIANS)))
    chord = pc.add(_squared(lat1, lat2), pc.multiply(cosines, _squared(lon1, lon2)))
    return pc.multiply(pc.asin(pc.sqrt(chord)), 2.0 * RADIUS_KM)


def _squared(start: Any, end: Any) -> Any:
    """The square of the sine of half an angle."""
    half = pc.sin(pc.multiply(pc.subtract(end, start), RADIANS / 2.0))
    return pc.multiply(half, half)
