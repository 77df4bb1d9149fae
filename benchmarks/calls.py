"""The costs of calling a plugin: a captured export, a read of the epoch, the whole look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import Figure, compare_ns, from_repeats, ratios
from benchmarks.plugin import host
from epochal.kinds import scalar

if TYPE_CHECKING:
    from collections.abc import Iterator


def measure() -> Iterator[Figure]:
    """Yield the three figures of the call path."""
    with host() as (rt, _):
        captured = rt.epoch[scalar]["geo.double"]
        bare = rt.epoch.export(scalar, "geo.double").target
        names = {"rt": rt, "scalar": scalar, "f": captured, "g": bare, "x": 1.5}
        names["d"] = {f"plugin{n}.f": bare for n in range(50)} | {"geo.double": bare}
        carried, plain = compare_ns("f(x)", "g(x)", names)
        yield from_repeats(
            "call of a captured export / bare function", ratios(carried, plain), "x", 1.02
        )
        read, empty = compare_ns("epoch = rt.epoch", "pass", names)
        yield from_repeats(
            "epoch = rt.epoch, over an empty statement",
            [a - b for a, b in zip(read, empty, strict=True)],
            "ns",
            10,
        )
        whole, plain = compare_ns('rt.epoch[scalar]["geo.double"](x)', 'd["geo.double"](x)', names)
        yield from_repeats(
            'rt.epoch[kind]["name"](x) / d["name"](x)', ratios(whole, plain), "x", 2.0
        )
        del captured, bare, names
