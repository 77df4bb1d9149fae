# /// plugin
# id = "units"
# version = "1.0.0"
# description = "Lengths in miles, to three places"
# capabilities = ["scalar"]
# ///
"""Kilometres in another unit of length."""

import pyarrow as pa
import pyarrow.compute as pc

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

KILOMETRES = 1.609

witness = Witness()


def init(ctx: PluginContext) -> None:
    witness.begin(ctx)


def shutdown() -> None:
    witness.end()


@scalar(vectorized=True, volatility="immutable")
def length(km: pa.DoubleArray) -> pa.DoubleArray:
    """Kilometres in this version's unit."""
    with witness:
        return pc.divide(km, KILOMETRES)


@scalar(vectorized=True, volatility="stable")
def version_of(value: pa.DoubleArray) -> pa.StringArray:
    """The generation that computed this row."""
    return witness.stamps(len(value))
