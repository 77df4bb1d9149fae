"""The questions of the demonstration: analytical SQL whose every row carries its generation.

Each question groups by the stamps of the generations that computed its rows, so that a query over a
day's thousand flights answers in a dozen rows and still compares the stamp of every flight: a mix
of two versions would split a group. The names of columns carry the meaning:

* `by_geo`: the stamp of the `geo` that SQL called;
* `by_units_via_geo`: the stamp of the `units` that this `geo` uses; SQL must call the same;
* `gap`: the largest difference between a length by `geo`'s `units` and by SQL's. Version 1 knows
  miles, version 2 nautical miles, so a mix shows as a gap even if every stamp lied;
* `flights`: the number of rows that a group stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Question:
    """One query: the plugins that its SQL calls, and the SQL; `$month` and `$day` are a day."""

    plugins: frozenset[str]
    sql: str


LENGTHS: Final = frozenset({"geo", "units"})
"""The plugins of a question about lengths."""

_PLACES: Final = "o.lat, o.lon, d.lat, d.lon"
_STAMPS: Final = "by_geo, by_units, by_units_via_geo"
_A_DAY: Final = "f.month = $month AND f.day = $day"
_GAP: Final = "abs(geo.length(km) - units.length(km))"


def _flights(where: str, more: str = "f.*") -> str:
    """The chosen flights, with their distances; `more` may be computed from both places."""
    return f"""(SELECT {more}, geo.distance({_PLACES}) AS km FROM flights AS f
        JOIN airports AS o ON f.origin = o.faa JOIN airports AS d ON f.dest = d.faa
        WHERE {where})"""


def _stamped(where: str) -> str:
    """The chosen flights, with their distances and the stamps of lengths."""
    return f"""(SELECT *, geo.version_of(km) AS by_geo, units.version_of(km) AS by_units,
        geo.units_version_of(km) AS by_units_via_geo FROM {_flights(where)})"""


def _by_length(keys: str, figure: str) -> Question:
    """A figure of the lengths of a day's flights, grouped by `keys`, the largest first."""
    return Question(
        LENGTHS,
        f"""
    SELECT {keys}, {_STAMPS}, count(*) AS flights, {figure} AS figure, max({_GAP}) AS gap
    FROM {_stamped(_A_DAY)}
    GROUP BY {keys}, {_STAMPS} ORDER BY figure DESC""",
    )


# How fast did each carrier fly on a day?
FASTEST_CARRIERS: Final = _by_length("carrier", "avg(units.length(km) / air_time * 60)")

# What are the longest routes of a day?
LONGEST_ROUTES: Final = _by_length("origin, dest", "max(units.length(km))")

# How late do flights of a day arrive, by distance?
DELAYS: Final = Question(
    frozenset({"delay", "geo"}),
    f"""
    SELECT delay.grade(arr_delay) AS grade, count(*) AS flights, avg(km) AS km,
        delay.version_of(arr_delay) AS by_delay, geo.version_of(km) AS by_geo
    FROM {_flights(f"{_A_DAY} AND f.arr_delay IS NOT NULL")}
    GROUP BY delay.grade(arr_delay), delay.version_of(arr_delay), geo.version_of(km)""",
)

# How much carbon dioxide went to each destination on a day?
EMISSIONS: Final = Question(
    frozenset({"carbon", "geo"}),
    f"""
    SELECT dest, count(*) AS flights, sum(kg) / 1000 AS tonnes, by_carbon, by_geo, by_geo_via_carbon
    FROM (SELECT *, carbon.version_of(kg) AS by_carbon, geo.version_of(km) AS by_geo,
            carbon.geo_version_of(kg) AS by_geo_via_carbon
        FROM {_flights(_A_DAY, f"f.dest, carbon.kilograms({_PLACES}) AS kg")})
    GROUP BY dest, by_carbon, by_geo, by_geo_via_carbon
    ORDER BY tonnes DESC""",
)

# Nearly every flight with its distance, read slowly
EVERY_FLIGHT: Final = Question(
    LENGTHS,
    f"""
    SELECT flight, tailnum, units.length(km) AS far, 1 AS flights, {_GAP} AS gap, {_STAMPS}
    FROM {_stamped("f.month <> $month AND f.day <> $day")}""",
)

SHORT: Final = (FASTEST_CARRIERS, LONGEST_ROUTES, DELAYS, EMISSIONS)
"""The questions that lanes repeat."""
