"""A data type: `geo_types.point`, a place on the earth, with two functions of it.

SELECT geo_types.kilometres(geo_types.at(52.52, 13.40), geo_types.at(48.86, 2.35))
"""

# /// plugin
# id = "geo_types"
# version = "1.0.0"
# dependencies = ["pyarrow"]
# capabilities = ["data_type", "scalar"]
# ///
from math import asin, cos, radians, sin, sqrt
from typing import NamedTuple

import pyarrow as pa

from epochal.kinds import data_type, scalar

_RADIUS_KM = 6371.0088


class Point(NamedTuple):
    lat: float
    lon: float


@data_type
class point:
    """A place on the earth, in degrees north and east."""

    storage = pa.struct([("lat", pa.float64()), ("lon", pa.float64())])
    parameters = {"datum": "WGS84", "unit": "degree"}
    samples = [Point(52.52, 13.40), Point(-33.87, 151.21), Point(0.0, -180.0)]

    @staticmethod
    def encode(value):
        """Return the stored form of a point."""
        return {"lat": value.lat, "lon": value.lon}

    @staticmethod
    def decode(stored):
        """Return the point that functions get."""
        return Point(stored["lat"], stored["lon"])


@scalar(volatility="immutable")
def at(lat: float, lon: float) -> point:
    """Return the place at a latitude and longitude."""
    if not -90 <= lat <= 90 or not -180 <= lon <= 180:
        raise ValueError(f"there is no place at {lat}, {lon}")
    return Point(lat, lon)


@scalar(volatility="immutable")
def kilometres(a: point, b: point) -> float:
    """Return the great-circle distance (haversine; R. W. Sinnott, Sky and Telescope 68, 1984)."""
    north, east = radians(b.lat - a.lat) / 2, radians(b.lon - a.lon) / 2
    h = sin(north) ** 2 + cos(radians(a.lat)) * cos(radians(b.lat)) * sin(east) ** 2
    return 2 * _RADIUS_KM * asin(sqrt(min(1.0, h)))
