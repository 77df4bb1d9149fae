# /// plugin
# id = "units"
# version = "2.0.0"
# description = "Lengths in nautical miles: not what version 1 gives"
# capabilities = ["scalar"]
# ///
"""Lengths in nautical miles: not what version 1 gives."""

import pyarrow as pa
import pyarrow.compute as pc

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

KILOMETRES = 1.852

witness = Witness()


def init(ctx: PluginContext) -> None:
    """Learn who this generation is."""
    witness.begin(ctx)


def shutdown() -> None:
    """Nobody may call from here on."""
    witness.end()


@scalar(vectorized=True, volatility="immutable")
def length(km: pa.DoubleArray) -> pa.DoubleArray:
    """Kilometres in nautical miles."""
    with witness:
        return pc.divide(km, KILOMETRES)


@scalar(vectorized=True, volatility="stable")
def version_of(value: pa.DoubleArray) -> pa.StringArray:
    """Which generation answers for this row."""
    return witness.stamps(len(value))
