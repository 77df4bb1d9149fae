# /// plugin
# id = "units"
# version = "1.1.0"
# description = "Lengths in miles, exactly"
# capabilities = ["scalar"]
# ///
"""Lengths in miles, exactly."""

import pyarrow as pa
import pyarrow.compute as pc

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

KILOMETRES = 1.609344

witness = Witness()


def init(ctx: PluginContext) -> None:
    """Learn who this generation is."""
    witness.begin(ctx)


def shutdown() -> None:
    """Nobody may call from here on."""
    witness.end()


@scalar(vectorized=True, volatility="immutable")
def length(km: pa.DoubleArray) -> pa.DoubleArray:
    """Kilometres in miles."""
    with witness:
        return pc.divide(km, KILOMETRES)


@scalar(vectorized=True, volatility="stable")
def version_of(value: pa.DoubleArray) -> pa.StringArray:
    """Which generation answers for this row."""
    return witness.stamps(len(value))
