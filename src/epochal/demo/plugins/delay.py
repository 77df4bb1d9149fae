# /// plugin
# id = "delay"
# version = "1.0.0"
# description = "Grades of lateness"
# capabilities = ["scalar"]
# ///
"""Grades of lateness; a plain function, called once for each row."""

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

witness = Witness()


def init(ctx: PluginContext) -> None:
    witness.begin(ctx)


def shutdown() -> None:
    witness.end()


@scalar(volatility="immutable")
def grade(minutes: float) -> str:
    """On time up to a quarter of an hour, late up to an hour, then very late."""
    witness.check()
    if minutes < 15.0:
        return "on time"
    return "late" if minutes < 60.0 else "very late"


@scalar(volatility="stable")
def version_of(minutes: float) -> str:
    """The generation that computed this row."""
    witness.check()
    return witness.stamp
