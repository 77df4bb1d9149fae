# /// plugin
# id = "geo"
# version = "1.3.0"
# description = "Does not start: it finds itself wrong"
# requires = ["units>=1"]
# capabilities = ["scalar"]
# ///
"""A release that went wrong: it loads, but its `init` finds that it forgot about radians."""

import math

from epochal import PluginContext
from epochal.kinds import scalar

RADIUS_KM = 6371.0088


@scalar(volatility="immutable")
def distance(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance in kilometres, if degrees were radians."""
    cosine = math.sin(lat1) * math.sin(lat2)
    cosine += math.cos(lat1) * math.cos(lat2) * math.cos(lon2 - lon1)
    return math.acos(min(cosine, 1.0)) * RADIUS_KM


def init(ctx: PluginContext) -> None:
    """Check a distance that everybody knows, before anybody is served."""
    km = distance(40.64, -73.78, 51.47, -0.45)
    if not 5500.0 < km < 5600.0:
        raise ValueError(f"self-test: New York to London is some 5,550 km, not {km:,.0f}")
