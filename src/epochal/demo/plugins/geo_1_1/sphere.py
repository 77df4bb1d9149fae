"""The spherical law of cosines."""

import math
from typing import Any

import pyarrow.compute as pc

RADIUS_KM = 6371.0088  # mean radius of the Earth (IUGG)
RADIANS = math.pi / 180.0


def law_of_cosines(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    """Kilometres along the great circle; coordinates in degrees."""
    north1, north2 = pc.multiply(lat1, RADIANS), pc.multiply(lat2, RADIANS)
    east = pc.cos(pc.multiply(pc.subtract(lon2, lon1), RADIANS))
    cosine = pc.add(
        pc.multiply(pc.sin(north1), pc.sin(north2)),
        pc.multiply(pc.multiply(pc.cos(north1), pc.cos(north2)), east),
    )
    # Rounding may leave the cosine of two equal places a little above one.
    return pc.multiply(pc.acos(pc.min_element_wise(cosine, 1.0)), RADIUS_KM)
